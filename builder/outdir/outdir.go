// Package outdir is what a build leaves in its directory: artifacts, the manifest that names them, the documents
// for other tools, and whether all of it is still what the build left. Read reads a manifest, Verify checks a
// directory, Open gives a directory that a build writes to.
package outdir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/inode"
	"github.com/kimg/kimg/internal/lettercase"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// Dir is an out directory that a build writes to. It remembers, outside of it, how
// each file looked when it was written: a file that still looks so need not be read
// to be known, which is what makes a build that changes nothing end at once.
type Dir struct {
	dir   string // absolute
	state string // the file that remembers
	seen  map[string]FileStat
	folds func(dir string) (bool, error) // whether it takes names that differ by case only for one
}

// Memory is what is remembered of one out directory.
type Memory struct {
	Dir   string              `json:"dir"` // absolute
	Files map[string]FileStat `json:"files"`
}

// FileStat is how a file looks from outside, and what was in it then.
type FileStat struct {
	Size   int64       `json:"size"`
	MTime  int64       `json:"mtime"` // nanoseconds since 1970
	CTime  int64       `json:"ctime"` // nanoseconds since 1970: cannot be set by a program
	Inode  uint64      `json:"inode"`
	SHA256 spec.Digest `json:"sha256"`
}

// same reports whether a file that looks like now still is what l says.
func (l FileStat) same(now FileStat) bool {
	now.SHA256 = l.SHA256
	return l == now
}

func statFile(name string) (FileStat, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return FileStat{}, err
	}
	id := inode.Of(st)
	return FileStat{Size: st.Size(), MTime: st.ModTime().UnixNano(), CTime: id.Changed, Inode: id.Inode}, nil
}

// Open opens an out directory, which need not be there yet. memories keeps what is known of out directories.
func Open(dir, memories string) (*Dir, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open out directory: %w", err)
	}
	o := &Dir{dir: abs, state: filepath.Join(memories, string(units.DigestOf([]byte(abs)))+".json"),
		folds: lettercase.Folds}
	if m, err := ReadMemory(o.state); err == nil && m.Dir == abs {
		o.seen = m.Files
	}
	if o.seen == nil { // also where the memory is damaged
		o.seen = map[string]FileStat{}
	}
	return o, nil
}

// ReadMemory reads what is remembered of an out directory.
func ReadMemory(file string) (*Memory, error) {
	b, err := reading.Small(file, maxManifest)
	if err != nil {
		return nil, err
	}
	var m Memory
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return &m, nil
}

// Ready refuses a place that nothing can be written to. What it makes to find out, it removes.
func (o *Dir) Ready() error {
	at := o.dir
	for {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return &spec.InputError{Field: "--out", Err: fmt.Errorf("write to %s: %s is not a directory", o.dir, at)}
		}
		if err == nil {
			break
		}
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
		if parent := filepath.Dir(at); parent != at && absent {
			at = parent
			continue
		}
		return &spec.InputError{Field: "--out", Err: err}
	}
	probe, err := os.MkdirTemp(at, ".kimg-*")
	if err == nil {
		err = os.Remove(probe)
	}
	if err != nil {
		return &spec.InputError{Field: "--out", Err: fmt.Errorf("write to %s: %w", o.dir, err)}
	}
	return nil
}

// ForeignError is a file in the out directory that no kimg made.
type ForeignError struct{ File string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is there and kimg did not make it", e.File)
}

// Hint says how to go on.
func (e *ForeignError) Hint() string {
	return "move that file away, or choose another directory with --out"
}

// Guard refuses, with a *ForeignError, to write over files that no build of kimg put there.
func (o *Dir) Guard(names []string) error {
	known, err := o.known()
	if err != nil {
		return err
	}
	return o.guard(known, names)
}

func (o *Dir) guard(known map[string]spec.Digest, names []string) error {
	for _, n := range names {
		if _, ours := known[n]; ours {
			continue
		}
		if _, err := os.Lstat(o.Path(n)); err == nil {
			return &ForeignError{o.Path(n)}
		}
	}
	return nil
}

// known are the files that builds of kimg put into the directory, with their digests as far as they are known.
func (o *Dir) known() (map[string]spec.Digest, error) {
	known := map[string]spec.Digest{}
	m, err := Read(o.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if m != nil && m.Version == manifestVersion {
		known[artifact.Manifest] = ""
		for _, a := range m.Build.Artifacts {
			known[a.Path] = a.SHA256
		}
		for _, d := range m.Documents {
			known[d.Path] = d.SHA256
		}
	}
	for name, was := range o.seen {
		known[name] = was.SHA256
	}
	return known, nil
}

// Store has the content of artifacts by their digests.
type Store interface {
	// CopyTo writes what has the digest, verified, to the file dst, which appears whole or stays as it was.
	CopyTo(ctx context.Context, d spec.Digest, dst string, mode fs.FileMode) error
}

// Put brings the artifacts in: first all of them beside their places, then each into its place, so that a build
// that is cut off leaves the old ones whole, and nothing else where there were none. A file that no kimg made is a
// *ForeignError, before anything is replaced. kept names the files of kimg's that were changed since, and where
// they were put aside.
func (o *Dir) Put(ctx context.Context, st Store, list []Artifact) (kept map[string]string, err error) {
	var fresh []Artifact
	var names []string
	for _, a := range list {
		if l, err := statFile(o.Path(a.Path)); err == nil {
			was := o.seen[a.Path]
			if was.SHA256 == a.SHA256 && was.same(l) {
				continue
			}
		}
		fresh, names = append(fresh, a), append(names, a.Path)
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	known, err := o.known()
	if err != nil {
		return nil, err
	}
	if err := o.guard(known, names); err != nil {
		return nil, err
	}
	var dirs []string // that were made
	defer func() {
		if err == nil {
			return
		}
		for _, d := range slices.Backward(dirs) {
			_ = os.Remove(d) // stays where there is something in it
		}
	}()
	if dirs, err = makeDirs(o.dir); err != nil {
		return nil, fmt.Errorf("write artifacts: %w", err)
	}
	if err := o.tellsApart(list); err != nil {
		return nil, err
	}
	temp, remove, err := o.tempDir()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	for i, a := range fresh {
		if err := st.CopyTo(ctx, a.SHA256, filepath.Join(temp, strconv.Itoa(i)), a.Mode); err != nil {
			return nil, fmt.Errorf("write artifact %s: %w", a.Path, err)
		}
	}
	for _, a := range fresh {
		made, err := makeDirs(filepath.Dir(o.Path(a.Path)))
		if dirs = append(dirs, made...); err != nil {
			return nil, fmt.Errorf("write artifact: %w", err)
		}
	}
	return o.replace(fresh, known, temp)
}

// tellsApart refuses artifacts that would be one file in the directory, which is there: of two modules' xt_MARK.ko and
// xt_mark.ko the second would take the place of the first.
func (o *Dir) tellsApart(list []Artifact) error {
	var names []string
	for _, a := range list {
		names = append(names, a.Path)
	}
	one, other, ok := lettercase.Pair(names)
	if !ok {
		return nil
	}
	folds, err := o.folds(o.dir)
	if err != nil {
		return fmt.Errorf("write artifacts: %w", err)
	}
	if folds {
		return &lettercase.Error{Dir: o.dir, One: one, Other: other}
	}
	return nil
}

// tempPrefix begins the names of directories that hold artifacts on their way in.
const tempPrefix = ".kimg-new-"

// tempDir makes a directory for artifacts on their way in. That of a build that was killed goes; one that runs, with
// another cache perhaps, holds its own by a lock.
func (o *Dir) tempDir() (dir string, remove func() error, err error) {
	list, err := os.ReadDir(o.dir)
	if err != nil {
		return "", nil, fmt.Errorf("write artifacts: %w", err)
	}
	for _, e := range list {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		held, err := filelock.Try(filepath.Join(o.Path(e.Name()), filelock.DirLock), os.O_RDWR|os.O_CREATE)
		if err != nil {
			continue
		}
		err = os.RemoveAll(o.Path(e.Name()))
		if err = errors.Join(err, held.Close()); err != nil {
			return "", nil, fmt.Errorf("remove what an earlier build left: %w", err)
		}
	}
	if dir, remove, err = filelock.NewDir(o.dir, tempPrefix+"*"); err != nil {
		return "", nil, fmt.Errorf("write artifacts: %w", err)
	}
	return dir, remove, nil
}

// replace renames what Put has laid beside the artifacts, in order, into their places.
func (o *Dir) replace(fresh []Artifact, known map[string]spec.Digest, temp string) (kept map[string]string, err error) {
	// What is new is kimg's from here on, should this build be killed between two files.
	for _, a := range fresh {
		if _, there := known[a.Path]; !there {
			o.seen[a.Path] = FileStat{SHA256: a.SHA256}
		}
	}
	if err := o.remember(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.remember()) }()
	kept = map[string]string{}
	for i, a := range fresh {
		aside, err := o.setAside(a, known[a.Path])
		if err != nil {
			return kept, err
		}
		if aside != "" {
			kept[a.Path] = aside
		}
		if err := os.Rename(filepath.Join(temp, strconv.Itoa(i)), o.Path(a.Path)); err != nil {
			return kept, fmt.Errorf("write artifact: %w", err)
		}
		l, err := statFile(o.Path(a.Path))
		if err != nil {
			return kept, fmt.Errorf("write artifact: %w", err)
		}
		l.SHA256 = a.SHA256
		o.seen[a.Path] = l
	}
	return kept, nil
}

// makeDirs is os.MkdirAll that says which directories were not there, the outer ones first.
func makeDirs(dir string) (made []string, err error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); err == nil || !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		made = append(made, at)
	}
	slices.Reverse(made)
	return made, os.MkdirAll(dir, 0o755)
}

// Drop removes what an earlier build put there and this one did not make, but for files that changed since.
func (o *Dir) Drop(list []Artifact) error {
	ours := map[string]bool{}
	for _, a := range list {
		ours[a.Path] = true
	}
	before := len(o.seen)
	for name, was := range o.seen {
		if ours[name] {
			continue
		}
		if l, err := statFile(o.Path(name)); err == nil && was.same(l) {
			if err := os.Remove(o.Path(name)); err != nil {
				return fmt.Errorf("remove the old artifact: %w", err)
			}
		}
		delete(o.seen, name)
	}
	if len(o.seen) == before {
		return nil
	}
	return o.remember()
}

// setAside renames an artifact that was changed since it was built (a rootfs.img by
// kimg run --write, a script of the kernel's by hand) rather than throw the work away.
// was is the digest that a build gave it; one that still has it was not changed.
func (o *Dir) setAside(a Artifact, was spec.Digest) (string, error) {
	name := o.Path(a.Path)
	l, err := statFile(name)
	if err != nil {
		return "", nil // nothing there
	}
	if known, ok := o.seen[a.Path]; ok && known.same(l) {
		return "", nil
	}
	d, err := digestFile(name)
	if err != nil {
		return "", fmt.Errorf("look at the old artifact: %w", err)
	}
	if d == a.SHA256 || d == was {
		return "", nil
	}
	for i := 1; ; i++ {
		aside := fmt.Sprintf("%s.changed-%d", name, i)
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			if err := os.Rename(name, aside); err != nil {
				return "", fmt.Errorf("put the changed artifact aside: %w", err)
			}
			return aside, nil
		}
	}
}

// digestFile is the digest of a plain file; what is none has a digest of nothing.
func digestFile(name string) (spec.Digest, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", err
	}
	d, _, err := units.DigestReader(f)
	return d, err
}

// Write puts a small file of kimg's own beside the artifacts.
func (o *Dir) Write(name string, b []byte) error {
	if old, err := reading.Small(o.Path(name), int64(len(b))); err == nil && string(old) == string(b) {
		return nil
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := renameio.WriteFile(o.Path(name), b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Path is where a file of the directory is.
func (o *Dir) Path(name string) string { return filepath.Join(o.dir, filepath.FromSlash(name)) }

func (o *Dir) remember() error {
	b, err := json.Marshal(Memory{o.dir, o.seen})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.state), 0o755); err != nil {
		return fmt.Errorf("remember the out directory: %w", err)
	}
	return renameio.WriteFile(o.state, b, 0o644)
}

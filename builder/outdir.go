package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// outDir puts artifacts into the out directory. It remembers, outside of it,
// how each file looked when it was written: a file that still looks so need
// not be read to be known, which is what makes a build that changes nothing
// end at once.
type outDir struct {
	dir   string // absolute
	state string // the file that remembers
	seen  map[string]look
}

// look is how a file looks from outside, and what was in it then.
type look struct {
	Size   int64        `json:"size"`
	MTime  int64        `json:"mtime"` // nanoseconds since 1970
	CTime  int64        `json:"ctime"` // nanoseconds since 1970: cannot be set by a program
	Inode  uint64       `json:"inode"`
	SHA256 units.Digest `json:"sha256"`
}

// same says whether a file that looks like now still is what l says.
func (l look) same(now look) bool {
	now.SHA256 = l.SHA256
	return l == now
}

func lookAt(name string) (look, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return look{}, err
	}
	l := look{Size: st.Size(), MTime: st.ModTime().UnixNano()}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		l.Inode, l.CTime = s.Ino, changeTime(s)
	}
	return l, nil
}

func openOutDir(dir, stateDir string) (*outDir, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open out directory: %w", err)
	}
	o := &outDir{dir: abs, state: filepath.Join(stateDir, units.DigestOf([]byte(abs)).Short()+".json"), seen: map[string]look{}}
	if b, err := os.ReadFile(o.state); err == nil && json.Unmarshal(b, &o.seen) != nil {
		o.seen = map[string]look{} // a broken memory is none
	}
	return o, nil
}

// ready refuses a place that nothing can be written to, before there is anything
// to write. What it makes to find out, it removes.
func (o *outDir) ready() error {
	at := o.dir
	for {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return &SpecError{Field: "--out", Err: fmt.Errorf("write to %s: %s is not a directory", o.dir, at)}
		}
		if err == nil {
			break
		}
		if parent := filepath.Dir(at); parent != at && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
			at = parent
			continue
		}
		return &SpecError{Field: "--out", Err: err}
	}
	probe, err := os.MkdirTemp(at, ".kimg-*")
	if err == nil {
		err = os.Remove(probe)
	}
	if err != nil {
		return &SpecError{Field: "--out", Err: fmt.Errorf("write to %s: %w", o.dir, err)}
	}
	return nil
}

// ForeignError is a file in the out directory that no kimg made.
type ForeignError struct{ File string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is there and kimg did not make it", e.File)
}

// guard refuses to write over files that no build of kimg put there.
func (o *outDir) guard(names []string) error {
	known := map[string]bool{}
	m, err := ReadManifest(o.dir)
	if err != nil && made(err) {
		return err
	}
	if m != nil && m.Version == manifestVersion {
		known[ManifestFile] = true
		for _, a := range m.Build.Artifacts {
			known[a.Path] = true
		}
		for _, d := range m.Documents {
			known[d.Path] = true
		}
	}
	for _, n := range names {
		if _, mine := o.seen[n]; known[n] || mine {
			continue
		}
		if _, err := os.Lstat(filepath.Join(o.dir, n)); err == nil {
			return &ForeignError{filepath.Join(o.dir, n)}
		}
	}
	return nil
}

// put brings the artifacts in: first all of them beside their places, then
// each into its place, so that a build that is cut off leaves the old ones
// whole, and nothing else where there were none. kept names files that held changes of the person's own and where they
// were put aside.
func (o *outDir) put(ctx context.Context, st *store.Store, list []Artifact) (kept map[string]string, err error) {
	var fresh []Artifact
	for _, a := range list {
		if l, err := lookAt(o.path(a.Path)); err == nil {
			was := o.seen[a.Path]
			if was.SHA256 == a.SHA256 && was.same(l) {
				continue
			}
		}
		fresh = append(fresh, a)
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
	temp := func(a Artifact) string { return o.path(a.Path) + ".kimg-new" }
	defer func() {
		for _, a := range fresh {
			_ = os.Remove(temp(a)) // gone where it was renamed
		}
	}()
	for _, a := range fresh {
		made, err := makeDirs(filepath.Dir(o.path(a.Path)))
		if dirs = append(dirs, made...); err != nil {
			return nil, fmt.Errorf("write artifact: %w", err)
		}
		if err := st.CopyTo(ctx, a.SHA256, temp(a), a.Mode); err != nil {
			return nil, fmt.Errorf("write artifact %s: %w", a.Path, err)
		}
	}
	kept = map[string]string{}
	for _, a := range fresh {
		if a.Path == ImageFile {
			aside, err := o.setAside(a)
			if err != nil {
				return nil, err
			}
			if aside != "" {
				kept[a.Path] = aside
			}
		}
		if err := os.Rename(temp(a), o.path(a.Path)); err != nil {
			return nil, fmt.Errorf("write artifact: %w", err)
		}
		l, err := lookAt(o.path(a.Path))
		if err != nil {
			return nil, fmt.Errorf("write artifact: %w", err)
		}
		l.SHA256 = a.SHA256
		o.seen[a.Path] = l
	}
	if len(fresh) > 0 {
		err = o.remember()
	}
	return kept, err
}

// makeDirs is os.MkdirAll that says which directories were not there, the outer ones
// first.
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

// drop removes what an earlier build put there and this one did not make, such
// as the scripts of another kernel. A file that changed since is left alone.
func (o *outDir) drop(list []Artifact) error {
	mine := map[string]bool{}
	for _, a := range list {
		mine[a.Path] = true
	}
	before := len(o.seen)
	for name, was := range o.seen {
		if mine[name] {
			continue
		}
		if l, err := lookAt(o.path(name)); err == nil && was.same(l) {
			if err := os.Remove(o.path(name)); err != nil {
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

// setAside renames an image that the person changed (kimg run --write) rather
// than throw their work away. An image that still has the digest some build
// gave it is not theirs.
func (o *outDir) setAside(a Artifact) (string, error) {
	name := o.path(a.Path)
	l, err := lookAt(name)
	if err != nil {
		return "", nil // nothing there
	}
	was, ok := o.seen[a.Path]
	if ok && was.same(l) {
		return "", nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("look at the old image: %w", err)
	}
	defer f.Close()
	d, _, err := units.DigestReader(f)
	if err != nil {
		return "", fmt.Errorf("look at the old image: %w", err)
	}
	if d == a.SHA256 || d == was.SHA256 {
		return "", nil
	}
	for i := 1; ; i++ {
		aside := fmt.Sprintf("%s.changed-%d", name, i)
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			if err := os.Rename(name, aside); err != nil {
				return "", fmt.Errorf("put the changed image aside: %w", err)
			}
			return aside, nil
		}
	}
}

// write puts a small file of kimg's own beside the artifacts.
func (o *outDir) write(name string, b []byte) error {
	if old, err := reading.Small(o.path(name), int64(len(b))); err == nil && string(old) == string(b) {
		return nil
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := renameio.WriteFile(o.path(name), b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (o *outDir) path(name string) string { return filepath.Join(o.dir, filepath.FromSlash(name)) }

func (o *outDir) remember() error {
	b, err := json.Marshal(o.seen)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.state), 0o755); err != nil {
		return fmt.Errorf("remember the out directory: %w", err)
	}
	return renameio.WriteFile(o.state, b, 0o644)
}

package kernel

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/builder/kernel/tree"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Tree is a kernel's source, pinned.
type Tree struct {
	Kind    Kind
	Path    string              // of the directory, the tarball, or the downloaded package
	Version units.KernelVersion // as its Makefile says; of a package, as its own version says
	SHA256  units.Digest        // of the tarball or package; of the names and contents of a directory
	Skipped []string            // of a directory: sockets, FIFOs and the like, which are no source

	name  string     // of a tarball: its ending says the compression
	strip int        // leading directories in a tarball
	only  string     // what of a tarball is taken, as it spells it; empty: all
	first bool       // it was the first kernel of a tarball, and the rest was not searched for another
	files tree.Files // of a directory
}

// Pin reads a directory or a tarball and pins it. cacheDir keeps what was learned for the next call.
func Pin(ctx context.Context, src Source, cacheDir string) (*Tree, error) {
	switch src.Kind {
	case Directory:
		return pinDirectory(ctx, src.Path, cacheDir)
	case Tarball:
		return pinTarball(ctx, src, src.Path, src.Path, cacheDir)
	}
	return nil, fmt.Errorf("pin kernel source %s: it is not on this machine", src)
}

// PinDownload pins a tarball that was downloaded from a URL and verified, and is in path.
func PinDownload(ctx context.Context, kind Kind, from, path, cacheDir string) (*Tree, error) {
	u, err := url.Parse(from)
	if err != nil {
		return nil, fmt.Errorf("read kernel source: %w", err)
	}
	// The compression is that of the name: what follows the path in a URL is no part of it.
	return pinTarball(ctx, Source{Kind: kind}, u.Path, path, cacheDir)
}

// SkippedWarning says what of a source was left out: most is what a machine that ran there left in the directory.
func SkippedWarning(source string, names []string) string {
	const most = 3
	text := fmt.Sprintf("left out of the kernel source %s, as neither a file nor a link: %s", source,
		strings.Join(names[:min(most, len(names))], ", "))
	if n := len(names) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// Packages is the part of a package list that finding a source package takes.
type Packages interface {
	Lookup(name string) (archive.Package, bool)
	Names() iter.Seq[string]
}

// otherSources lists the source packages that there are, for the error that one is not.
func otherSources(list Packages) string {
	var names []string
	for name := range list.Names() {
		if packageRE.MatchString(name) {
			names = append(names, "suite:"+name)
		}
	}
	slices.SortFunc(names, compareNames)
	if len(names) == 0 {
		return ", nor another linux-source-X.Y"
	}
	return ": it has " + strings.Join(names, ", ")
}

// NoPackageError is a source package that a suite's archive has not.
type NoPackageError struct{ name, others string }

func (e *NoPackageError) Error() string {
	return "find the suite's kernel: its archive has no package " + e.name + e.others
}

// Hint says where there is one.
func (e *NoPackageError) Hint() string {
	version := strings.TrimPrefix(e.name, "linux-source-")
	hint := "--kernel " + version + ".y takes it from kernel.org"
	for _, name := range suite.Names() {
		if s, err := suite.Parse(name); err == nil && s.Kernel == version {
			hint += ", and --suite " + name + " has that package"
		}
	}
	return hint
}

// compareNames orders linux-source-6.1 before linux-source-6.12.
func compareNames(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }

// FindPackage finds the source package of a suite: the one asked for, or the one that "linux-source" depends on.
func FindPackage(list Packages, src Source) (archive.Package, error) {
	name := src.Package
	if name == "" {
		meta, ok := list.Lookup("linux-source")
		if !ok {
			return archive.Package{}, errors.New("find the suite's kernel: its archive has no package linux-source" +
				otherSources(list))
		}
		for dep := range strings.SplitSeq(meta.Depends, ",") {
			if first, _, _ := strings.Cut(strings.TrimSpace(dep), " "); packageRE.MatchString(first) {
				name = first
			}
		}
	}
	p, ok := list.Lookup(name)
	if !ok {
		return archive.Package{}, &NoPackageError{name, otherSources(list)}
	}
	return p, nil
}

// PackageVersion is the kernel version that a source package holds, by its own version: 6.12.107-1 is 6.12.107.
// Ubuntu does not count the last number; the tree's Makefile does.
func PackageVersion(p archive.Locked) (units.KernelVersion, error) {
	version := p.Version
	if _, v, ok := strings.Cut(version, ":"); ok {
		version = v
	}
	version, _, _ = strings.Cut(version, "-")
	version, rc, _ := strings.Cut(version, "~")
	if strings.HasPrefix(rc, "rc") {
		version += "-" + rc
	}
	v, err := units.ParseKernelVersion(version)
	if err != nil {
		return v, fmt.Errorf("read the version of package %s %s: %w", p.Name, p.Version, err)
	}
	return v, nil
}

// PinPackage pins a source package whose verified file is at path.
func PinPackage(p archive.Locked, path string) (*Tree, error) {
	version, err := PackageVersion(p)
	if err != nil {
		return nil, err
	}
	return &Tree{Kind: Suite, Path: path, Version: version, SHA256: p.SHA256, strip: 1}, nil
}

func pinDirectory(ctx context.Context, dir, cacheDir string) (*Tree, error) {
	makefile, err := reading.Small(filepath.Join(dir, "Makefile"), maxMakefile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sourceError("read kernel source", dir, errNoTree)
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel source: %w", err)
	}
	version, err := ParseMakefile(bytes.NewReader(makefile))
	for _, name := range topFiles { // as of an archive: other projects have a Makefile with a version
		if _, none := os.Stat(filepath.Join(dir, name)); err == nil && errors.Is(none, fs.ErrNotExist) {
			err = fmt.Errorf("it has no %s: %w", name, errNoTree)
		}
	}
	if err != nil {
		return nil, sourceError("read kernel source", dir, err)
	}
	cache, err := cacheFile(cacheDir, "tree", dir)
	if err != nil {
		return nil, err
	}
	known := tree.Load(cache)
	files, skipped, err := tree.Scan(ctx, dir, known)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(known, files) {
		if err := files.Store(cache); err != nil {
			return nil, err
		}
	}
	return &Tree{Kind: Directory, Path: dir, Version: version, SHA256: files.Digest(), Skipped: skipped,
		files: files}, nil
}

// cacheFile is where what was learned of a path is kept. Its directory is made.
func cacheFile(cacheDir, kind, path string) (string, error) {
	dir := filepath.Join(cacheDir, "kernel")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	return filepath.Join(dir, kind+"-"+string(units.DigestOf([]byte(path)))), nil
}

type learned struct {
	tree.Stat
	SHA256  units.Digest
	Version units.KernelVersion
	Strip   int
	Only    string
}

func pinTarball(ctx context.Context, src Source, name, path, cacheDir string) (*Tree, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read kernel source: %w", err)
	}
	stat := tree.StatOf(fi)
	known := path
	if src.Dir != "" {
		known += ":" + src.Dir
	}
	cache, err := cacheFile(cacheDir, "tarball2", known)
	if err != nil {
		return nil, err
	}
	var l learned
	text, err := os.ReadFile(cache)
	if err == nil && json.Unmarshal(text, &l) == nil && l.Stat == stat {
		return l.tree(src, name, path), nil
	}
	in, sum, err := lookInto(ctx, name, path, src.Dir)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, sourceError("read kernel source", name, err)
	}
	l = learned{Stat: stat, SHA256: sum, Version: in.version, Strip: in.strip}
	if in.beside || in.dir != "" && in.dir != "." && !searched(name, src.Dir) { // what comes later is not known
		l.Only = in.dir
	}
	if src.Dir != "" { // another directory of it is another source
		l.SHA256 = units.DigestOf([]byte(string(sum) + "\x00" + src.Dir))
	}
	if text, err = json.Marshal(l); err == nil {
		err = renameio.WriteFile(cache, text, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("remember the digest of %s: %w", path, err)
	}
	return l.tree(src, name, path), nil
}

func (l learned) tree(src Source, name, path string) *Tree {
	return &Tree{Kind: src.Kind, Path: path, name: name, Version: l.Version, SHA256: l.SHA256, strip: l.Strip,
		only: l.Only, first: !searched(name, src.Dir)}
}

func lookInto(ctx context.Context, name, path, dir string) (treeInTar, units.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return treeInTar{}, "", err
	}
	defer f.Close()
	h, r := sha256.New(), reading.Until(ctx, f)
	if err := errors.Join(begins(name, f), ends(name, f)); err != nil {
		return treeInTar{}, "", err
	}
	in, err := findIn(name, io.TeeReader(r, h), dir)
	if err != nil {
		return treeInTar{}, "", err
	}
	if _, err := io.Copy(h, r); err != nil {
		return treeInTar{}, "", err
	}
	return in, units.DigestSum(h), nil
}

// errOtherKind is the answer to a file that is not what its name says.
var errOtherKind = errors.New("it is not what its name says")

// begins refuses a file that begins as none of its name's kind does.
func begins(name string, f *os.File) error {
	suffix, _, _ := compression(name)
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	head = head[:n]
	is, known := decompress.Suffix(head)
	switch {
	case n == 0:
		return fmt.Errorf("it is empty: %w", errNoTree)
	case known && is != suffix:
		return fmt.Errorf("%w: it begins as a %s file does", errOtherKind, is)
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return fmt.Errorf("%w: it begins as a .zip file does", errOtherKind)
	case !known && (suffix != "" || n < 512): // a tar's members begin with blocks of this size
		return fmt.Errorf("%w: it begins with %q", errOtherKind, head[:min(n, 16)])
	}
	return nil
}

// ends refuses a tar without compression that stops between two members: it ends with two blocks of zeros, and
// nothing else says that it is whole (POSIX pax, "ustar Interchange Format").
func ends(name string, f *os.File) error {
	fi, err := f.Stat()
	if suffix, _, _ := compression(name); err != nil || suffix != "" || fi.Size() == 0 {
		return err
	}
	last := make([]byte, min(fi.Size(), 2*512))
	if _, err := f.ReadAt(last, fi.Size()-int64(len(last))); err != nil {
		return err
	}
	if len(bytes.Trim(last, "\x00")) > 0 {
		return errors.New("read tarball: it is cut short: the two empty blocks that end a tar are missing")
	}
	return nil
}

// slow are the compressions that take too long to read all of a kernel before it is unpacked.
var slow = []string{".xz", ".bz2"}

// findIn decompresses by the file's name, which may be wrong: that is noticed here.
func findIn(name string, r io.Reader, dir string) (treeInTar, error) {
	suffix, _, ok := compression(name)
	if !ok {
		return treeInTar{}, fmt.Errorf("%s: not the name of a tarball", name)
	}
	plain, err := decompress.NewReader(r, suffix)
	if err != nil {
		return treeInTar{}, truncated(err)
	}
	defer plain.Close()
	bounded := reading.Bounded(plain, maxTree, fmt.Errorf("it unpacks to more than %s", units.Size(maxTree)))
	return findTree(bounded, dir, dir == "" && searched(name, dir))
}

// searched reports whether a tarball is read to its end for a second kernel before it is unpacked; of the others
// that is found while it is. Where the user names a directory of it there is nothing to search for.
func searched(name, dir string) bool {
	suffix, _, _ := compression(name)
	return dir != "" || !slices.Contains(slow, suffix)
}

// GitState is what git says of a work tree, for people. What is built follows from the files alone.
type GitState struct {
	Commit string `json:"commit"`          // in hexadecimal
	Dirty  bool   `json:"dirty,omitempty"` // files that git knows are not those of the commit
}

// gitPatience bounds what git may take, which has 70,000 files to look at.
const gitPatience = 10 * time.Second

// ReadGit asks this machine's git about a directory that has a .git of its own. It returns nil where there is none,
// where git is missing, and where git refuses (the tree is another user's). It neither writes to the tree nor runs
// what the tree's own git configuration names: no hooks, no monitor, no filters, no fetch of what a partial clone
// lacks. A plain git status would.
//
// cacheDir keeps what was found for one content of the tree, named by a digest ("": there is none), one commit and
// one index: looking at every file costs as much as all the rest of a build that changes nothing.
func ReadGit(ctx context.Context, dir string, content units.Digest, cacheDir string) *GitState {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, gitPatience)
	defer cancel()
	out, err := git(ctx, dir, "rev-parse", "--git-path", "index", "HEAD^{commit}")
	index, commit, ok := strings.Cut(strings.TrimSuffix(string(out), "\n"), "\n")
	if err != nil || !ok {
		return nil
	}
	if !filepath.IsAbs(index) {
		index = filepath.Join(dir, index)
	}
	fi, err := os.Stat(index)
	if err != nil {
		return nil
	}
	type known struct {
		Commit  string
		Content units.Digest
		Index   string // how it looks
		Dirty   bool
	}
	now := known{Commit: commit, Content: content, Index: fmt.Sprint(tree.StatOf(fi))}
	cache := filepath.Join(cacheDir, "kernel", "git-"+string(units.DigestOf([]byte(dir))))
	if text, err := os.ReadFile(cache); err == nil && content != "" {
		var was known
		err := json.Unmarshal(text, &was)
		now.Dirty = was.Dirty
		if err == nil && was == now {
			return &GitState{commit, was.Dirty}
		}
	}
	s := &GitState{Commit: commit}
	off, err := noFilters(ctx, dir)
	if err != nil {
		return nil
	}
	changed, err := git(ctx, dir,
		append(off, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--no-renames")...)
	if err != nil {
		return nil
	}
	s.Dirty = len(changed) > 0
	now.Dirty = s.Dirty
	if text, err := json.Marshal(now); err == nil && content != "" {
		_ = renameio.WriteFile(cache, text, 0o644) // if it cannot be kept, git is asked again
	}
	return s
}

// noFilters turn off every filter that a configuration names: git would run them on what it compares.
func noFilters(ctx context.Context, dir string) (off []string, err error) {
	keys, err := git(ctx, dir, "config", "--null", "--name-only", "--get-regexp", `^filter\.`)
	if err != nil && len(keys) == 0 {
		return nil, nil // there are none
	}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(keys), "\x00"), "\x00") {
		if strings.Contains(key, "=") {
			return nil, fmt.Errorf("a filter is called %q", key) // -c cannot name it
		}
		off = append(off, "-c", key+"=")
	}
	return off, nil
}

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	options := []string{"--no-pager", "--no-optional-locks",
		"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"}
	cmd := exec.CommandContext(ctx, "git", append(options, args...)...)
	cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GIT_") { // a hook that runs kimg has the repository of its own there
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1",
		"GIT_ALLOW_PROTOCOL=none", "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = limitWriter(&out, 64<<20)
	err := cmd.Run()
	return out.Bytes(), err
}

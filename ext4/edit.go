package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
)

// Worker is a directory in which e2fsprogs run: on the host, or in a container.
type Worker interface {
	// Put makes or replaces the file called name, holes where there are zeros.
	Put(ctx context.Context, name string, r io.Reader) error
	// Get writes the file called name to w.
	Get(ctx context.Context, name string, w io.Writer) error
	// Run runs a command in the directory. A status other than zero is an error.
	Run(ctx context.Context, args ...string) (stdout, stderr []byte, err error)
}

// Edit is one change to an image: a [WriteFile], [MakeDir], [Symlink], [Remove] or [SignedHash]. Paths are absolute and
// clean; symbolic links among their parents are followed inside the image, a link at their end is not. Missing parents
// are made, with mode 0755 and root as their owner.
type Edit interface {
	path() string
	plan(p *planner) error
	verify(img *Image) error
}

// WriteFile makes or replaces a file.
type WriteFile struct {
	Path     string
	Data     []byte
	Mode     fs.FileMode // permissions
	UID, GID uint32
	Time     time.Time // all four of its times; whole seconds
}

// MakeDir makes a directory unless there is one.
type MakeDir struct {
	Path     string
	Mode     fs.FileMode
	UID, GID uint32
	Time     time.Time
}

// Symlink makes a symbolic link, or puts one in a file's place.
type Symlink struct {
	Path, Target string
	Time         time.Time
}

// Remove removes a file or an empty directory.
type Remove struct{ Path string }

// SignedHash says in the superblock and its copies that directories' hashes take characters as signed ones, as every
// mke2fs of x86-64 does. One that runs on arm64 says the other thing, of the same tree: the characters of C are
// unsigned there. No directory of a new image has hashes yet. Where Apply is called alone, [Finish] sees to the copies.
type SignedHash struct{}

// Change applies the edits to a copy of the image in file, checks the copy with e2fsck, reads it back with this
// package's own reader, and renames it into the image's place. On any error the image is as it was.
func Change(ctx context.Context, worker Worker, file string, edits []Edit) error {
	file, err := filepath.EvalSymlinks(file) // the copy goes where the image is, not in the link's place
	if err != nil {
		return fmt.Errorf("edit image: %w", err)
	}
	before, err := Open(file)
	if err != nil {
		return err
	}
	defer before.Close()
	if err := before.change(ctx, worker, file, edits); err != nil {
		return fmt.Errorf("edit image %s: %w", file, err)
	}
	return nil
}

func (img *Image) change(ctx context.Context, worker Worker, file string, edits []Edit) error {
	const name = "image"
	size := img.sb.bytes()
	if err := worker.Put(ctx, name, io.NewSectionReader(img.r, 0, size)); err != nil {
		return err
	}
	if err := Apply(ctx, worker, name, img, edits); err != nil {
		return err
	}
	out, err := filelock.Replace(file, renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // after CloseAtomicallyReplace it has nothing to do
	if err := reading.Pipe(
		func(w io.Writer) error { return worker.Get(ctx, name, w) },
		func(r io.Reader) error { _, err := sparse.Copy(out.File, r); return err },
	); err != nil {
		return err
	}
	st, err := os.Stat(file)
	if err == nil && st.Size() > size { // a trailer behind the file system is kept
		_, err = io.Copy(io.NewOffsetWriter(out, size), io.NewSectionReader(img.r, size, st.Size()-size))
	}
	if err == nil {
		err = Finish(out.File, edits)
	}
	if err == nil {
		err = Verify(out.Name(), edits)
	}
	if err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}

// Apply runs the edits with debugfs on the image called name with the worker, and
// e2fsck after them. tree is what is in the image before. Every time that is
// written into the image is the edits' own, so two runs write the same bytes.
//
// debugfs exits 0 on most failures, so whatever it says on stderr beside its version is one. It leaves holes where
// space ran out: that shows only when the files are read back, so a caller calls Verify when it has the image.
func Apply(ctx context.Context, worker Worker, name string, tree fs.ReadLinkFS, edits []Edit) error {
	p := newPlanner(tree)
	for _, e := range edits {
		if err := e.plan(p); err != nil {
			return err
		}
	}
	for i, b := range p.payloads {
		if err := worker.Put(ctx, payloadName(i), bytes.NewReader(b)); err != nil {
			return err
		}
	}
	const script = "debugfs.cmd"
	if err := worker.Put(ctx, script, strings.NewReader(p.script())); err != nil {
		return err
	}
	clock := strconv.FormatInt(p.latest.Unix(), 10)
	stdout, stderr, err := worker.Run(ctx, "env", "LC_ALL=C", "SOURCE_DATE_EPOCH="+clock,
		"E2FSPROGS_FAKE_TIME="+clock, // the same for e2fsprogs before 1.47.1
		"debugfs", "-w", "-f", script, name)
	if err != nil {
		return fmt.Errorf("run debugfs: %w: %s", err, bytes.TrimSpace(stderr))
	}
	if said := debugfsComplaint(stderr); said != "" {
		return fmt.Errorf("run debugfs: %s (after %q)", said, lastLine(stdout))
	}
	return Check(ctx, worker, name)
}

// Check runs e2fsck -fn: a clean file system or an error with what it found.
func Check(ctx context.Context, worker Worker, name string) error {
	stdout, stderr, err := worker.Run(ctx, "env", "LC_ALL=C", "e2fsck", "-fn", name)
	if err != nil {
		return fmt.Errorf("check the file system with e2fsck: %w\n%s%s", err, stderr, stdout)
	}
	return nil
}

// Verify reads an edited image and compares it with the edits.
func Verify(file string, edits []Edit) error {
	img, err := Open(file)
	if err != nil {
		return err
	}
	defer img.Close()
	last := map[string]Edit{} // of two edits of one path only the later one can be seen
	for _, e := range edits {
		last[e.path()] = e
	}
	for _, e := range edits {
		if e = last[e.path()]; e == nil {
			continue
		}
		if err := e.verify(img); err != nil {
			return fmt.Errorf("read back %s: %w", e.path(), err)
		}
		delete(last, e.path())
	}
	return nil
}

func (e WriteFile) path() string  { return e.Path }
func (e MakeDir) path() string    { return e.Path }
func (e Symlink) path() string    { return e.Path }
func (e Remove) path() string     { return e.Path }
func (e SignedHash) path() string { return "the superblock" }

func (e WriteFile) verify(img *Image) error {
	b, err := img.ReadFile(relative(e.Path))
	if err != nil {
		return err
	}
	if !bytes.Equal(b, e.Data) {
		return errors.New("its content is not what was written (is the file system full?)")
	}
	st, err := img.Lstat(relative(e.Path))
	if err != nil {
		return err
	}
	is, t := st.Sys().(*Stat), e.Time.Truncate(time.Second).UTC()
	if st.Mode() != e.Mode.Perm() || is.UID != e.UID || is.GID != e.GID || !st.ModTime().Equal(t) {
		return fmt.Errorf("has mode %v, owner %d:%d, time %v; want %v, %d:%d, %v",
			st.Mode(), is.UID, is.GID, st.ModTime(), e.Mode.Perm(), e.UID, e.GID, t)
	}
	return nil
}

func (e SignedHash) verify(img *Image) error {
	if flags := le.Uint32(img.super[superFlags:]); flags != signedHash {
		return fmt.Errorf("its flags are %#x, not %#x", flags, signedHash)
	}
	return img.checkCopies()
}

func (e MakeDir) verify(img *Image) error {
	st, err := img.Stat(relative(e.Path))
	if err == nil && !st.IsDir() {
		err = errors.New("is not a directory")
	}
	return err
}

func (e Symlink) verify(img *Image) error {
	to, err := img.ReadLink(relative(e.Path))
	if err == nil && to != e.Target {
		err = fmt.Errorf("leads to %q, not to %q", to, e.Target)
	}
	return err
}

func (e Remove) verify(img *Image) error {
	_, err := img.Lstat(relative(e.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, errors.New("is still there"))
}

func relative(p string) string {
	if p = strings.TrimPrefix(path.Clean(p), "/"); p == "" {
		return "."
	}
	return p
}

// banner is what debugfs always says on stderr.
var banner = regexp.MustCompile(`^debugfs \d+\.\d+`)

func debugfsComplaint(stderr []byte) string {
	var said []string
	for line := range strings.Lines(string(stderr)) {
		if line = strings.TrimSpace(line); line != "" && !banner.MatchString(line) {
			said = append(said, line)
		}
	}
	if len(said) > 3 { // the first complaint is the cause
		said = append(said[:3], "...")
	}
	return strings.Join(said, "; ")
}

func lastLine(b []byte) string {
	l := strings.Split(strings.TrimSpace(string(b)), "\n")
	return l[len(l)-1]
}

// HostWorker is a Worker in a directory of this machine, with its own e2fsprogs.
type HostWorker struct{ dir string }

// NewHostWorker makes a worker in a new directory below dir (empty: os.TempDir).
// Where debugfs or e2fsck is missing the error is exec.ErrNotFound.
func NewHostWorker(dir string) (*HostWorker, error) {
	for _, tool := range []string{"debugfs", "e2fsck"} {
		if _, err := findTool(tool); err != nil {
			return nil, err
		}
	}
	d, err := os.MkdirTemp(dir, "kimg-ext4-*")
	if err != nil {
		return nil, fmt.Errorf("make a working directory: %w", err)
	}
	return &HostWorker{d}, nil
}

// Close removes the worker and what is on it.
func (b *HostWorker) Close() error { return os.RemoveAll(b.dir) }

// Put is Worker's.
func (b *HostWorker) Put(_ context.Context, name string, r io.Reader) error {
	f, err := os.Create(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	if _, err := sparse.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Get is Worker's.
func (b *HostWorker) Get(_ context.Context, name string, w io.Writer) error {
	f, err := os.Open(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Run is Worker's.
func (b *HostWorker) Run(ctx context.Context, args ...string) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var o, e bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, &o, &e
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	cmd.Env = append(cmd.Env, "PATH="+toolPath())
	err = cmd.Run()
	return o.Bytes(), e.Bytes(), err
}

// toolPath adds where distributions put e2fsprogs and an ordinary user's PATH does not look.
func toolPath() string { return os.Getenv("PATH") + ":/usr/sbin:/sbin" }

func findTool(name string) (string, error) {
	for _, dir := range filepath.SplitList(toolPath()) {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

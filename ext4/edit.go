package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

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

// Edit is one change to an image: a [WriteFile], [MakeDir], [Symlink] or [Remove]. Paths are absolute and clean;
// symbolic links among their parents are followed inside the image, a link at their end is not. Missing parents are
// made, with mode 0755 and root as their owner.
type Edit interface {
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
	const name = "image"
	if err := worker.Put(ctx, name, io.NewSectionReader(before.r, 0, before.sb.bytes())); err != nil {
		return fmt.Errorf("edit image %s: %w", file, err)
	}
	if err := Apply(ctx, worker, name, before, edits); err != nil {
		return fmt.Errorf("edit image %s: %w", file, err)
	}
	out, err := renameio.NewPendingFile(file, renameio.WithExistingPermissions())
	if err != nil {
		return fmt.Errorf("edit image %s: %w", file, err)
	}
	defer out.Cleanup() //nolint:errcheck // after CloseAtomicallyReplace it has nothing to do
	if err := reading.Pipe(
		func(w io.Writer) error { return worker.Get(ctx, name, w) },
		func(r io.Reader) error { _, err := sparse.Copy(out.File, r); return err },
	); err != nil {
		return fmt.Errorf("edit image %s: %w", file, err)
	}
	// A trailer behind the file system is kept.
	if st, err := os.Stat(file); err != nil || st.Size() > before.sb.bytes() {
		if err = errors.Join(err, keepTrailer(out.File, before, st)); err != nil {
			return fmt.Errorf("edit image %s: %w", file, err)
		}
	}
	if err := Verify(out.Name(), edits); err != nil {
		return fmt.Errorf("edit image %s: %w", file, err)
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("edit image %s: %w", file, err)
	}
	return nil
}

func keepTrailer(out *os.File, before *Image, st os.FileInfo) error {
	n := before.sb.bytes()
	_, err := io.Copy(io.NewOffsetWriter(out, n), io.NewSectionReader(before.r, n, st.Size()-n))
	return err
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
	// Of two edits of one path only the later one can be seen.
	last := map[string]Edit{}
	for _, e := range edits {
		last[pathOf(e)] = e
	}
	for _, e := range edits {
		if last[pathOf(e)] != nil {
			if err := last[pathOf(e)].verify(img); err != nil {
				return fmt.Errorf("read back %s: %w", pathOf(e), err)
			}
			delete(last, pathOf(e))
		}
	}
	return nil
}

func pathOf(e Edit) string {
	switch e := e.(type) {
	case WriteFile:
		return e.Path
	case MakeDir:
		return e.Path
	case Symlink:
		return e.Path
	case Remove:
		return e.Path
	}
	return ""
}

func (e WriteFile) verify(img *Image) error {
	b, err := img.ReadFile(relative(e.Path))
	if err != nil {
		return err
	}
	if !bytes.Equal(b, e.Data) {
		return errors.New("its content is not what was written (is the file system full?)")
	}
	return attributes(img, e.Path, e.Mode.Perm(), e.UID, e.GID, e.Time)
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

func attributes(img *Image, name string, mode fs.FileMode, uid, gid uint32, t time.Time) error {
	st, err := img.Lstat(relative(name))
	if err != nil {
		return err
	}
	s := st.Sys().(*Stat)
	if st.Mode() != mode || s.UID != uid || s.GID != gid || !st.ModTime().Equal(t.Truncate(time.Second)) {
		return fmt.Errorf("has mode %v, owner %d:%d, time %v; want %v, %d:%d, %v",
			st.Mode(), s.UID, s.GID, st.ModTime(), mode, uid, gid, t.Truncate(time.Second).UTC())
	}
	return nil
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

package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/reading"
)

// byRule marks what comes from a directory, whose owners are those of the user's machine and say nothing of the
// guest's: it becomes root's. A tar's own numbers hold.
const byRule = -1

// PackOverlay writes a directory, or a tar of one, compressed or not, as the tar that Customise lays over a tree: the
// same files give the same bytes, whenever and by whom they were made. It may hold limit bytes at most.
//
// Of a directory's modes it takes what git would: who may read and run, but not that others may write, for that hangs
// on the umask. A tar's modes are as they are.
func PackOverlay(ctx context.Context, file string, limit Size, w io.Writer) error {
	err := packOverlay(ctx, file, limit, w)
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return err
}

func packOverlay(ctx context.Context, file string, limit Size, w io.Writer) error {
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	t, err := newTree("")
	if err != nil {
		return err
	}
	defer t.close()
	tooMuch := fmt.Errorf("it has more than the %s of the image: give it more with --size", limit)
	switch {
	case st.IsDir():
		err = t.takeDir(ctx, file, int64(limit), tooMuch)
	case st.Mode().IsRegular():
		err = t.takeTar(ctx, file, int64(limit), tooMuch)
	default:
		err = errors.New("it is neither a directory nor a tar")
	}
	if err != nil {
		return err
	}
	for _, n := range t.sorted() {
		if err := custom.CheckName(n.name); err != nil {
			return err
		}
		if n.typ != tar.TypeDir { // what leads there by a link of the tree's is found when it is laid
			if err := layable(n.name); err != nil {
				return err
			}
		}
		n.mtime = overlayTime
		n.xattr = keptXattrs(n.xattr)
		for p := path.Dir(n.name); t.nodes[p] == nil; p = path.Dir(p) { // tar c etc/motd names no etc
			t.nodes[p] = &node{name: p, typ: tar.TypeDir, mode: 0o755, mtime: overlayTime}
		}
	}
	if err := t.check(); err != nil {
		return err
	}
	return t.write(w)
}

func (t *tree) takeTar(ctx context.Context, file string, limit int64, tooMuch error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(reading.Until(ctx, f))
	head, err := r.Peek(decompress.HeadSize)
	if err == io.EOF {
		return errors.New("it is no tar, and no directory: it is too short")
	}
	if err != nil {
		return err
	}
	suffix, _ := decompress.Suffix(head)
	plain, err := decompress.NewReader(r, suffix)
	if err != nil {
		return err
	}
	defer plain.Close()
	err = t.takeAll(reading.Bounded(plain, limit, tooMuch))
	switch {
	case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it is no tar, or not a whole one, and no directory")
	case err != nil:
		return err
	}
	for _, n := range t.nodes {
		if err := overlayType(n.name, n.typ); err != nil {
			return err
		}
	}
	return nil
}

// overlayType refuses what is no content.
func overlayType(name string, typ byte) error {
	switch typ {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
		return nil
	case tar.TypeFifo:
		return fmt.Errorf("%s is a fifo: an overlay has files, directories and links; leave it out", name)
	}
	return fmt.Errorf("%s is a device: the guest's kernel makes its own; leave it out", name)
}

func (t *tree) takeDir(ctx context.Context, dir string, limit int64, tooMuch error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if len(t.nodes) >= maxEntries {
			return fmt.Errorf("it has more than %d files", maxEntries)
		}
		n := &node{name: name, mode: int64(st.Mode().Perm() &^ 0o022), uid: byRule, gid: byRule}
		switch st.Mode().Type() {
		case 0:
			n.typ = tar.TypeReg
			if st.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				return fmt.Errorf("%s is set-user-id or set-group-id, and all of a directory's files become root's: "+
					"bring it in a tar, whose owners and modes hold, or by files: with its mode", name)
			}
			err = t.takeFile(ctx, root, n, limit, tooMuch)
		case fs.ModeDir:
			n.typ = tar.TypeDir
		case fs.ModeSymlink:
			n.typ, n.mode = tar.TypeSymlink, 0o777
			n.link, err = root.Readlink(filepath.FromSlash(name))
		case fs.ModeNamedPipe:
			err = overlayType(name, tar.TypeFifo)
		case fs.ModeSocket:
			err = fmt.Errorf("%s is a socket: an overlay has files, directories and links; leave it out", name)
		default:
			err = overlayType(name, tar.TypeChar)
		}
		if err != nil {
			return err
		}
		t.nodes[name] = n
		return nil
	})
}

// takeFile reads a file that may be another by now than it was when the directory was listed.
func (t *tree) takeFile(ctx context.Context, root *os.Root, n *node, limit int64, tooMuch error) error {
	f, err := root.OpenFile(filepath.FromSlash(n.name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s changed while it was read", n.name)
	}
	if st.Size() > limit-t.end {
		return fmt.Errorf("with %s, of %s, %w", n.name, Size(st.Size()), tooMuch)
	}
	n.at = t.end
	r := reading.Bounded(reading.Until(ctx, f), limit-t.end, tooMuch)
	if n.size, err = io.Copy(io.NewOffsetWriter(t.spool, t.end), r); err != nil {
		return err
	}
	t.end += n.size
	return nil
}

// within says whether a name is a directory or below it.
func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

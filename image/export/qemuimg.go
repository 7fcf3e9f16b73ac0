package export

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
)

// Qcow2 is the disk image in QEMU's own format, version 3 (compat=1.1).
type Qcow2 struct{ Compress, Bootable bool }

// Export implements Format.
func (q Qcow2) Export(ctx context.Context, b *Build, w io.Writer) error {
	args := []string{"-o", "compat=1.1,cluster_size=65536,lazy_refcounts=off"}
	if q.Compress {
		args = append(args, "-c")
	}
	return convert(ctx, b, q.Bootable, "qcow2", args, true, func(r io.Reader, _ int64) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// The files in the container. The raw image travels in a tar that leaves its
// zeros out; and that in the one that the engine unpacks, which would write them.
const (
	workDir  = "/kimg/work"
	workTar  = "disk.tar"
	workFile = "rootfs." // and the format: a VMDK names itself
	workUser = 1000
)

// convertScript makes an image of the format $1, checks it where that format can be ($2), and reads it back and
// compares before it is handed on. What follows is qemu-img's.
const convertScript = `set -e
format=$1 check=$2
shift 2
tar --extract --file=` + workTar + `
rm ` + workTar + `
qemu-img convert -q -f raw -O "$format" "$@" ` + artifact.Disk + ` ` + workFile + `"$format"
test "$check" != yes || qemu-img check -q -f "$format" ` + workFile + `"$format"
qemu-img compare -q -f raw -F "$format" ` + artifact.Disk + ` ` + workFile + `"$format"
`

// convertArgs are the container's argv.
func convertArgs(format string, checks bool, args []string) []string {
	check := "no"
	if checks {
		check = "yes"
	}
	return append([]string{"sh", "-c", convertScript, "sh", format, check}, args...)
}

// convert has qemu-img, in a container of the imaging image, make the disk image one of another format, and hands it
// to take, with its size. checks says that qemu-img can check that format.
func convert(
	ctx context.Context, b *Build, bootable bool, format string, args []string, checks bool,
	take func(io.Reader, int64) error,
) (err error) {
	eng, image, err := b.Imaging(ctx)
	if err != nil {
		return err
	}
	said := &lastLine{w: cmp.Or(b.Log, io.Discard)}
	c, err := eng.Create(ctx, &container.Cmd{
		Image: image, Args: convertArgs(format, checks, args),
		User: strconv.Itoa(workUser) + ":" + strconv.Itoa(workUser), Dir: workDir,
		Init: true, Stdout: said, Stderr: said,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Remove(ctx)) }()
	if err := sendDisk(ctx, b, bootable, c); err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		if said.line != "" {
			return fmt.Errorf("run qemu-img: %w (%s)", err, said.line)
		}
		return fmt.Errorf("run qemu-img: %w", err)
	}
	r, err := c.CopyOut(ctx, workDir+"/"+workFile+format)
	if err != nil {
		return err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil {
		return fmt.Errorf("copy out the disk image: %w", err)
	}
	if err := take(tr, h.Size); err != nil {
		return fmt.Errorf("copy out the disk image: %w", err)
	}
	if n, err := io.Copy(io.Discard, tr); err != nil || n > 0 {
		return fmt.Errorf("copy out the disk image: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return nil
}

// sendDisk brings the disk image into the container.
func sendDisk(ctx context.Context, b *Build, bootable bool, c container.Container) error {
	src, err := b.disk(ctx, bootable)
	if err != nil {
		return err
	}
	defer src.Close()
	extents, size, err := sparse.Map(src)
	if err != nil {
		return fmt.Errorf("read the disk image: %w", err)
	}
	inner := func(w io.Writer, r io.ReaderAt) error {
		t := newTarStream(w)
		if err := t.writeSparse(tar.Header{Typeflag: tar.TypeReg, Name: artifact.Disk, Mode: 0o644, Size: size},
			extents,
			r); err != nil {
			return err
		}
		return t.Close()
	}
	var long counter // its length must be known before it
	if err := inner(&long, zeros{}); err != nil {
		return err
	}
	return reading.Pipe(func(w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: workTar, Mode: 0o600, Uid: workUser, Gid: workUser, Size: int64(long),
		}); err != nil {
			return err
		}
		if err := inner(tw, src.At); err != nil {
			return err
		}
		return tw.Close()
	}, func(r io.Reader) error { return c.CopyIn(ctx, workDir, r) })
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// zeros are as many as are asked for.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// lastLine passes a log on and keeps its last line.
type lastLine struct {
	w    io.Writer
	line string
}

func (l *lastLine) Write(p []byte) (int, error) {
	lines := strings.Split(string(bytes.TrimRight(p, "\n")), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		l.line = last
	}
	return l.w.Write(p)
}

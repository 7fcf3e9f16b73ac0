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

// Qcow2 is the disk image in QEMU's own format, version 3 (compat=1.1), made and
// checked by qemu-img in a container of the imaging image.
type Qcow2 struct{ Compress bool }

// The files in the container. The raw image travels in a tar that leaves its
// zeros out; and that in the one that the engine unpacks, which would write them.
const (
	workDir  = "/kimg/work"
	workTar  = "disk.tar"
	workFile = "disk.qcow2"
	workUser = 1000
)

// convert makes the image, and reads it back and compares before it is handed on.
const convert = `set -e
tar --extract --file=` + workTar + `
rm ` + workTar + `
qemu-img convert -q -f raw -O qcow2 $1 -o compat=1.1,cluster_size=65536,lazy_refcounts=off \
	` + artifact.Disk + ` ` + workFile + `
qemu-img check -q -f qcow2 ` + workFile + `
qemu-img compare -q -f raw -F qcow2 ` + artifact.Disk + ` ` + workFile + `
`

// convertArgs are the container's argv.
func convertArgs(compress bool) []string {
	flag := ""
	if compress {
		flag = "-c"
	}
	return []string{"sh", "-c", convert, "sh", flag}
}

// Export implements Format.
func (q Qcow2) Export(ctx context.Context, b *Build, w io.Writer) (err error) {
	eng, image, err := b.Imaging(ctx)
	if err != nil {
		return err
	}
	said := &lastLine{w: cmp.Or(b.Log, io.Discard)}
	c, err := eng.Create(ctx, &container.Cmd{
		Image: image, Args: convertArgs(q.Compress), User: strconv.Itoa(workUser) + ":" + strconv.Itoa(workUser),
		Dir: workDir, Init: true, Stdout: said, Stderr: said,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Remove(ctx)) }()
	if err := sendDisk(ctx, b, c); err != nil {
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
	r, err := c.CopyOut(ctx, workDir+"/"+workFile)
	if err != nil {
		return err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil {
		return fmt.Errorf("copy out the disk image: %w", err)
	}
	if n, err := io.Copy(w, tr); err != nil {
		return fmt.Errorf("copy out the disk image: %w", err)
	} else if n != h.Size {
		return fmt.Errorf("copy out the disk image: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// sendDisk brings the disk image into the container.
func sendDisk(ctx context.Context, b *Build, c container.Container) error {
	src, err := b.open(ctx, artifact.Disk)
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

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
)

// bench is e2fsprogs in a container of the imaging image: no network, no
// capability, an ordinary user, a volume of its own.
type bench struct {
	eng    container.Engine
	c      container.Container
	volume string
	log    io.Writer
}

var _ ext4.Bench = (*bench)(nil)

// openBench starts the container. Its own process only waits: what is done is
// done by Exec.
func openBench(ctx context.Context, eng container.Engine, imaging string, task *progress.Task) (_ *bench, err error) {
	b := &bench{eng: eng, log: task.Log()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start e2fsprogs: %w", err), b.close(ctx))
		}
	}()
	if b.volume, err = container.TempVolume(ctx, eng); err != nil {
		return nil, err
	}
	b.c, err = eng.Create(ctx, &container.Cmd{
		Image: imaging, Args: []string{"sleep", "infinity"}, User: "1000:1000", Dir: workDir, Init: true,
		Mounts: []container.Mount{{Volume: b.volume, Target: workDir}}, Hostname: Hostname,
	})
	if err != nil {
		return nil, err
	}
	return b, b.c.Start(ctx)
}

// close removes the container and its volume, even when ctx has ended.
func (b *bench) close(ctx context.Context) error {
	return cleanup(ctx, func(ctx context.Context) (err error) {
		if b.c != nil {
			err = b.c.Remove(ctx)
		}
		if b.volume != "" {
			err = errors.Join(err, b.eng.RemoveVolume(ctx, b.volume))
		}
		return err
	})
}

// Put is ext4.Bench's.
func (b *bench) Put(ctx context.Context, name string, r io.Reader) error {
	err := b.c.Exec(ctx, &container.ExecCmd{
		Args: []string{"dd", "of=" + name, "bs=64k", "iflag=fullblock", "conv=sparse", "status=none"},
		Dir:  workDir, Stdin: r, Stderr: b.log,
	})
	if err != nil {
		return fmt.Errorf("put %s on the bench: %w", name, err)
	}
	return nil
}

// Get is ext4.Bench's. GNU tar leaves holes out, so an empty gigabyte costs
// nothing on the way.
func (b *bench) Get(ctx context.Context, name string, w io.Writer) error {
	err := reading.Pipe(func(out io.Writer) error {
		return b.c.Exec(ctx, &container.ExecCmd{
			Args: []string{"tar", "--create", "--sparse", "--file=-", "--", name},
			Dir:  workDir, Stdout: out, Stderr: b.log,
		})
	}, func(r io.Reader) error {
		tr := tar.NewReader(r)
		if _, err := tr.Next(); err != nil {
			return err
		}
		if _, err := io.Copy(w, tr); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, r) // the tar's end, and tar's exit status
		return err
	})
	if err != nil {
		return fmt.Errorf("get %s from the bench: %w", name, err)
	}
	return nil
}

// Run is ext4.Bench's.
func (b *bench) Run(ctx context.Context, args ...string) (stdout, stderr []byte, err error) {
	var o, e bytes.Buffer
	err = b.c.Exec(ctx, &container.ExecCmd{
		Args: args, Dir: workDir, Stdout: io.MultiWriter(&o, b.log), Stderr: io.MultiWriter(&e, b.log),
	})
	return o.Bytes(), e.Bytes(), err
}

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
	"github.com/kimg/kimg/internal/reading"
)

// worker is e2fsprogs in a container of the imaging image: no network, no
// capability, an ordinary user, a volume of its own.
type worker struct {
	eng    container.Engine
	c      container.Container
	volume string
	log    io.Writer
}

var _ ext4.Worker = (*worker)(nil)

// startWorker starts the container. Its own process only waits: the work is done by Exec. With root the user is the
// container's root, with what it takes to unpack a tree and no more.
func (m Maker) startWorker(ctx context.Context) (_ *worker, err error) {
	k := &worker{eng: m.Engine, log: m.log()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start e2fsprogs: %w", err), k.close(ctx))
		}
	}()
	if k.volume, err = container.TempVolume(ctx, m.Engine); err != nil {
		return nil, err
	}
	k.c, err = m.Engine.Create(ctx, &container.Cmd{
		Image: m.Imaging, Args: []string{"sleep", "infinity"}, User: "1000:1000", Dir: workDir, Init: true,
		Mounts: []container.Mount{{Volume: k.volume, Target: workDir}}, Hostname: Hostname,
	})
	if err != nil {
		return nil, err
	}
	return k, k.c.Start(ctx)
}

// close removes the container and its volume, even when ctx has ended.
func (k *worker) close(ctx context.Context) (err error) {
	if k.c != nil {
		err = k.c.Remove(ctx)
	}
	if k.volume != "" {
		err = errors.Join(err, k.eng.RemoveVolume(ctx, k.volume))
	}
	return err
}

// Put is ext4.Worker's.
func (k *worker) Put(ctx context.Context, name string, r io.Reader) error {
	err := k.c.Exec(ctx, &container.ExecCmd{
		Args: []string{"dd", "of=" + name, "bs=64k", "iflag=fullblock", "conv=sparse", "status=none"},
		Dir:  workDir, Stdin: r, Stderr: k.log,
	})
	if err != nil {
		return fmt.Errorf("put %s into the container: %w", name, err)
	}
	return nil
}

// Get is ext4.Worker's. GNU tar leaves holes out, so an empty gigabyte costs nothing on the way.
func (k *worker) Get(ctx context.Context, name string, w io.Writer) error {
	err := reading.Pipe(func(out io.Writer) error {
		return k.c.Exec(ctx, &container.ExecCmd{
			Args: []string{"tar", "--create", "--sparse", "--file=-", "--", name},
			Dir:  workDir, Stdout: out, Stderr: k.log,
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
		return fmt.Errorf("get %s from the container: %w", name, err)
	}
	return nil
}

// Run is ext4.Worker's.
func (k *worker) Run(ctx context.Context, args ...string) (stdout, stderr []byte, err error) {
	var o, e bytes.Buffer
	err = k.c.Exec(ctx, &container.ExecCmd{
		Args: args, Dir: workDir, Stdout: io.MultiWriter(&o, k.log), Stderr: io.MultiWriter(&e, k.log),
	})
	return o.Bytes(), e.Bytes(), err
}

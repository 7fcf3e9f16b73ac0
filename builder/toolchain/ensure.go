package toolchain

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/deb"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/store"
)

// Image is a toolchain image that the engine has.
type Image struct {
	Ref  string // kimg-toolchain:trixie-...
	ID   string // what containers are made from: a tag can be moved
	Made bool   // it was not there before
}

// Maker makes toolchain images.
type Maker struct {
	Engine  container.Engine
	Archive *archive.Client // downloads packages into its store
	Locks   string          // directory of the lock files of images that are being made
	Task    *progress.Task
}

// Ensure makes the image that the lock describes, unless the engine has it. Of several calls for the same image, in
// this process or others, one makes it and the others wait for it. Where packages can no longer be downloaded the
// error is an *archive.MissingError: Resolve makes a lock of those that can.
//
// A finished base stays when a later step fails, as a download does; nothing else
// of a failed or cancelled Ensure stays.
func (m Maker) Ensure(ctx context.Context, l *Lock) (Image, error) {
	image, err := m.ensure(ctx, l)
	if err != nil {
		return Image{}, fmt.Errorf("make toolchain image %s: %w", l.Target, err)
	}
	return image, nil
}

func (m Maker) ensure(ctx context.Context, l *Lock) (Image, error) {
	if err := l.check(); err != nil {
		return Image{}, err
	}
	if id, ok, err := m.Engine.ImageID(ctx, l.Ref()); err != nil || ok {
		return Image{Ref: l.Ref(), ID: id}, err
	}
	made, err := m.once(ctx, l.Ref(), "toolchain image "+string(l.Target), func() error {
		if err := m.Fetch(ctx, l); err != nil {
			return err
		}
		if err := m.ensureBase(ctx, l); err != nil {
			return err
		}
		return m.finish(ctx, l)
	})
	if err != nil {
		return Image{}, err
	}
	id, ok, err := m.Engine.ImageID(ctx, l.Ref())
	if err == nil && !ok {
		err = errors.New("it was removed at once")
	}
	return Image{Ref: l.Ref(), ID: id, Made: made}, err
}

// once runs make unless the engine has ref, while nothing else that shares the lock
// files does. what names the image in messages; made reports whether make ran.
func (m Maker) once(ctx context.Context, ref, what string, make func() error) (made bool, err error) {
	file := filepath.Join(m.Locks, string(tagUnsafe.ReplaceAll([]byte(ref), []byte("-")))+".lock")
	waiting := func() { m.Task.Say("another kimg is making the " + what + ": waiting for it") }
	unlock, err := filelock.Take(ctx, file, waiting)
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", file, err)
	}
	defer unlock()
	if _, ok, err := m.Engine.ImageID(ctx, ref); err != nil || ok {
		return false, err
	}
	return true, make()
}

var tagUnsafe = regexp.MustCompile(`[^a-z0-9.-]`)

// Fetch downloads the packages that the image is made of and that the engine does not have in its base, and makes
// nothing. All in one go: downloads run in parallel, and where some are gone the *archive.MissingError names every
// one of them. Without an Engine it downloads all.
func (m Maker) Fetch(ctx context.Context, l *Lock) error {
	packages := slices.Concat(l.Base, l.Packages)
	if m.Engine != nil {
		_, haveBase, err := m.Engine.ImageID(ctx, l.baseRef())
		if err != nil {
			return err
		}
		if haveBase {
			packages = l.Packages
		}
	}
	return m.Archive.Fetch(ctx, l.Suite, packages, l.Date, func(n, total int64) { m.Task.Add(n, total, "bytes") })
}

// ensureBase makes and imports the base unless the engine has it.
func (m Maker) ensureBase(ctx context.Context, l *Lock) error {
	ref := l.baseRef()
	_, err := m.once(ctx, ref, "base of the "+l.Suite.Name+" toolchains", func() error {
		// Nothing to do, unless the base was removed since Ensure asked for it.
		if err := m.Archive.Fetch(ctx, l.Suite, l.Base, l.Date, nil); err != nil {
			return err
		}
		fmt.Fprintf(m.Task.Log(), "Laying %s from %d packages\n", ref, len(l.Base))
		next, stop := deb.UnpackAll(ctx, m.Archive.Store, l.Base, nil)
		defer stop()
		return reading.Pipe(func(w io.Writer) error {
			return layBase(ctx, w, l.Arch(), l.Target.dropped(l.Arch()), l.Date, next)
		}, func(r io.Reader) error {
			return m.Engine.Import(ctx, ref, r)
		})
	})
	return err
}

// finish runs Dockerfile.builder over the base.
func (m Maker) finish(ctx context.Context, l *Lock) error {
	return reading.Pipe(func(w io.Writer) error {
		return writeContext(ctx, w, m.Archive.Store, l)
	}, func(r io.Reader) error {
		return m.Engine.Build(ctx, container.BuildSpec{
			Context:    r,
			Dockerfile: "Dockerfile.builder",
			Target:     l.Target.stage(),
			Tag:        l.Ref(),
			Args:       map[string]string{"BASE": l.baseRef()},
			Labels:     map[string]string{"kimg.lock": string(l.Digest())},
			Log:        m.Task.Log(),
		})
	})
}

// writeContext writes the build's context: Dockerfile.builder, hugepages.c and debs/.
func writeContext(ctx context.Context, w io.Writer, st *store.Store, l *Lock) error {
	tw := tar.NewWriter(w)
	put := func(name string, size int64, r io.Reader) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: l.Date}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write build context: %w", err)
		}
		if _, err := io.Copy(tw, r); err != nil {
			return fmt.Errorf("write build context: %s: %w", name, err)
		}
		return nil
	}
	if err := put("Dockerfile.builder", int64(len(dockerfile)), bytes.NewReader(dockerfile)); err != nil {
		return err
	}
	if err := put("hugepages.c", int64(len(hugepages)), bytes.NewReader(hugepages)); err != nil {
		return err
	}
	for _, p := range l.Packages {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("write build context: %w", err)
		}
		r, err := st.Open(p.SHA256)
		if err != nil {
			return fmt.Errorf("write build context: package %s: %w", p.Name, err)
		}
		if err := errors.Join(put("debs/"+path.Base(p.Filename), p.Size, r), r.Close()); err != nil {
			return err
		}
	}
	return tw.Close()
}

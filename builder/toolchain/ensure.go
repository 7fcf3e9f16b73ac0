package toolchain

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
)

// Image is a toolchain image that the engine has.
type Image struct {
	Ref  string // kimg-toolchain:trixie-...
	ID   string // what containers are made from: a tag can be moved
	Made bool   // it was not there before
}

const cleanupTime = 30 * time.Second

// Ensure makes the image that the lock describes, unless the engine has it.
// Packages come through ac. Processes that want the same image wait for one
// another by lock files below the directory locks. Where packages can no longer be had
// the error is an *archive.MissingError: Resolve makes a lock of those that can.
//
// A base that was laid whole stays when a later step fails, as a download does;
// nothing else of a failed or cancelled Ensure stays.
func Ensure(ctx context.Context, eng container.Engine, ac *archive.Client, locks string, l *Lock, task *progress.Task) (Image, error) {
	doing := "make toolchain image " + l.Ref()
	if err := l.check(); err != nil {
		return Image{}, fmt.Errorf("%s: %w", doing, err)
	}
	if id, ok, err := eng.ImageID(ctx, l.Ref()); err != nil || ok {
		return Image{Ref: l.Ref(), ID: id}, err
	}
	made, err := once(ctx, eng, locks, l.Ref(), task, func() error {
		if err := Fetch(ctx, eng, ac, l, task); err != nil {
			return err
		}
		if err := ensureBase(ctx, eng, ac, locks, l, task); err != nil {
			return err
		}
		return finish(ctx, eng, ac, l, task)
	})
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", doing, err)
	}
	id, ok, err := eng.ImageID(ctx, l.Ref())
	if err == nil && !ok {
		err = errors.New("somebody removed it at once")
	}
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", doing, err)
	}
	return Image{Ref: l.Ref(), ID: id, Made: made}, nil
}

// once runs make unless the engine has ref, while no other process of this
// cache does. made says whether it ran.
func once(ctx context.Context, eng container.Engine, locks, ref string, task *progress.Task, make func() error) (made bool, err error) {
	name := filepath.Join(locks, string(tagUnsafe.ReplaceAll([]byte(ref), []byte("-")))+".lock")
	unlock, err := filelock.Take(ctx, name, func() { task.Say("another kimg makes " + ref + ": waiting for it") })
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", ref, err)
	}
	defer unlock()
	if _, ok, err := eng.ImageID(ctx, ref); err != nil || ok {
		return false, err
	}
	return true, make()
}

var tagUnsafe = regexp.MustCompile(`[^a-z0-9.-]`)

// Fetch brings the packages into the store that making the image takes, and makes
// nothing. All in one go: downloads run in parallel, and where some are gone the
// *archive.MissingError names every one of them. eng may be nil: it has nothing then.
func Fetch(ctx context.Context, eng container.Engine, ac *archive.Client, l *Lock, task *progress.Task) error {
	packages := slices.Concat(l.Base, l.Packages)
	if eng != nil {
		_, haveBase, err := eng.ImageID(ctx, l.baseRef())
		if err != nil {
			return err
		}
		if haveBase {
			packages = l.Packages
		}
	}
	return ac.Fetch(ctx, l.Suite, packages, l.Date, func(n, total int64) { task.Add(n, total, "bytes") })
}

// ensureBase lays and imports the base unless the engine has it.
func ensureBase(ctx context.Context, eng container.Engine, ac *archive.Client, locks string, l *Lock, task *progress.Task) error {
	ref := l.baseRef()
	_, err := once(ctx, eng, locks, ref, task, func() error {
		// Nothing to do, unless the base went away since Ensure asked for it.
		if err := ac.Fetch(ctx, l.Suite, l.Base, l.Date, nil); err != nil {
			return err
		}
		fmt.Fprintf(task.Log(), "Laying %s from %d packages\n", ref, len(l.Base))
		next, stop := unpackAll(ctx, ac.Store, l.Base)
		defer stop()
		return stream(func(w io.Writer) error {
			return layBase(ctx, w, l.Date, next)
		}, func(r io.Reader) error {
			return eng.Import(ctx, ref, r)
		})
	})
	return err
}

// finish runs Dockerfile.builder over the base.
func finish(ctx context.Context, eng container.Engine, ac *archive.Client, l *Lock, task *progress.Task) error {
	seen := &steps{w: task.Log()}
	err := stream(func(w io.Writer) error {
		return writeContext(ctx, w, ac, l)
	}, func(r io.Reader) error {
		return eng.Build(ctx, container.BuildSpec{
			Context:    r,
			Dockerfile: "Dockerfile.builder",
			Target:     l.Target.stage(),
			Tag:        l.Ref(),
			Args:       map[string]string{"BASE": l.baseRef()},
			Labels:     map[string]string{"kimg.lock": string(l.Digest())},
			Log:        seen,
		})
	})
	if err == nil {
		return nil
	}
	// The engine keeps the images between the steps of a build that failed, for a
	// next build that may never come.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if id := seen.last(); id != "" {
		if left := eng.RemoveImage(work, id); left != nil {
			// Such as one that another image stands on: no news for the person.
			fmt.Fprintln(seen, left)
		}
	}
	return err
}

// writeContext writes the build's context: Dockerfile.builder, hugepages.c and debs/.
func writeContext(ctx context.Context, w io.Writer, ac *archive.Client, l *Lock) error {
	tw := tar.NewWriter(w)
	put := func(name string, size int64, r io.Reader) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: l.Date}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(tw, r)
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{"Dockerfile.builder", dockerfile}, {"hugepages.c", hugepages}} {
		if err := put(f.name, int64(len(f.text)), bytes.NewReader(f.text)); err != nil {
			return fmt.Errorf("write build context: %w", err)
		}
	}
	for _, p := range l.Packages {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("write build context: %w", err)
		}
		r, err := ac.Store.Open(p.SHA256)
		if err != nil {
			return fmt.Errorf("write build context: package %s: %w", p.Name, err)
		}
		err = put("debs/"+path.Base(p.Filename), p.Size, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("write build context: package %s: %w", p.Name, err)
		}
	}
	return tw.Close()
}

// stream runs write and read side by side with a pipe between them and returns
// the error of the one that failed first.
func stream(write func(io.Writer) error, read func(io.Reader) error) error {
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(pw, 1<<20)
		err := write(w)
		if err == nil {
			err = w.Flush()
		}
		pw.CloseWithError(err)
		done <- err
	}()
	err := read(pr)
	pr.CloseWithError(errStopped)
	if werr := <-done; werr != nil && !errors.Is(werr, errStopped) {
		return werr // the reader only saw its stream break
	}
	return err
}

var errStopped = errors.New("nobody reads on")

// steps passes on what the classic builder says and notes the images that it
// says it made: " ---> 0123456789ab".
type steps struct {
	w    io.Writer
	mu   sync.Mutex
	line []byte
	id   string
	n    int
}

var stepImage = regexp.MustCompile(`^ ---> ([0-9a-f]{12,64})$`)

func (s *steps) Write(p []byte) (int, error) {
	s.mu.Lock()
	for _, c := range p {
		if c != '\n' {
			s.line = append(s.line, c)
			continue
		}
		if m := stepImage.FindSubmatch(s.line); m != nil {
			s.id, s.n = string(m[1]), s.n+1
		}
		s.line = s.line[:0]
	}
	s.mu.Unlock()
	return s.w.Write(p)
}

// last is the newest image; "" while there is none but the base, which the
// builder names first.
func (s *steps) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n < 2 {
		return ""
	}
	return s.id
}

package builder

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/progress"
)

// kernelOrg is a client of kernel.org, or of the mirror that the Spec or
// KIMG_KERNEL_MIRROR names.
func (s *session) kernelOrg(progress func(int64)) (*kernelorg.Client, error) {
	keys, err := kernelorg.ShippedKeys()
	if err != nil {
		return nil, err
	}
	if keys, err = keys.Add(s.spec.KernelKeyrings...); err != nil {
		return nil, &SpecError{Field: "--kernel-keyring", Err: err}
	}
	base := s.spec.KernelMirror
	if base == "" {
		base = os.Getenv("KIMG_KERNEL_MIRROR")
	}
	return &kernelorg.Client{
		Store: s.store, HTTP: &fetch.Client{}, Keys: keys, Base: base,
		VerifyTar: s.spec.VerifyTar, AllowUnsigned: s.spec.AllowUnsigned, Now: s.Now, Progress: progress,
	}, nil
}

// resolveDownload pins a kernel that has to be downloaded. It is downloaded
// here and not in a step: only its own Makefile tells its version, and with that
// its toolchain.
func (s *session) resolveDownload(ctx context.Context, src kernel.Source, l, old KernelLock) (KernelLock, error) {
	pinned := old.Request == l.Request && old.Source == l.Source && old.Download != nil
	switch {
	case pinned && s.spec.VerifyTar && len(old.Download.TarSignedBy) == 0:
		pinned = false // it was not checked as far as is asked now
	case pinned && old.Download.Unsigned && !s.spec.AllowUnsigned:
		pinned = false // it was let pass, and no longer is
	}
	if s.spec.Frozen && !pinned {
		return l, &FrozenError{"the kernel " + l.Request}
	}
	if pinned {
		l = old
	}
	if !pinned || !s.store.Has(l.SHA256) {
		got, err := s.download(ctx, src, l)
		if err != nil {
			return l, err
		}
		if !pinned {
			l.Download = &got
		}
	}
	l.SHA256 = l.Download.SHA256
	tree, err := kernel.PinDownload(ctx, src.Kind, l.Download.URL, s.store.Path(l.SHA256), s.Cache)
	if err != nil {
		return l, err
	}
	if tree.SHA256 != l.SHA256 { // damaged since: the store's own check removes it
		return l, errors.Join(s.store.Verify(l.SHA256), fmt.Errorf("read kernel source %s: it is damaged in the store: run the command again", l.Request))
	}
	s.tree, l.Version = tree, tree.Version
	return l, nil
}

// download brings the kernel into the store: by the digest that the lock pins,
// where it pins one, else by who signed it.
func (s *session) download(ctx context.Context, src kernel.Source, l KernelLock) (kernelorg.Verified, error) {
	task := progress.Start(s.Sink, "source", "fetch Linux "+l.Request)
	got, err := func() (kernelorg.Verified, error) {
		client, err := s.kernelOrg(func(n int64) { task.Add(n, 0, "bytes") })
		switch {
		case err != nil:
			return kernelorg.Verified{}, err
		case l.Download != nil:
			return client.FetchURL(ctx, l.Download.URL, l.Download.SHA256)
		case src.Kind == kernel.URL:
			return client.FetchURL(ctx, src.URL, "")
		}
		return client.Fetch(ctx, src.Version)
	}()
	task.End(false, err)
	if err == nil && got.Unsigned {
		progress.Warn(s.Sink, fmt.Sprintf("nobody vouches for the kernel %s: %s (--allow-unsigned)", l.Request, got.Why))
	}
	return got, err
}

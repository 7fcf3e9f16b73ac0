package deb

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/units"
)

// Opener opens a package's file by its digest, and verifies it while it is read.
type Opener interface {
	Open(d units.Digest) (io.ReadCloser, error)
}

// UnpackAll unpacks packages on all cores, since decompressing is nearly all of the
// work. next returns them one by one in their order. At most one more than there are
// cores is in memory at a time. data says of which the data part is unpacked, nil of all; it is
// called from several goroutines. stop ends the work and must be called.
func UnpackAll(ctx context.Context, from Opener, packages []archive.Locked, data func(*Package) bool) (
	next func() (*Package, error), stop func()) {

	type result struct {
		u   *Package
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	slots := make(chan struct{}, runtime.GOMAXPROCS(0)+1)
	results := make([]chan result, len(packages))
	for i := range results {
		results[i] = make(chan result, 1)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i, p := range packages {
			select {
			case <-ctx.Done():
				return
			case slots <- struct{}{}:
			}
			wg.Go(func() {
				u, err := unpackOne(from, p, data)
				results[i] <- result{u, err}
			})
		}
	})
	at := 0
	next = func() (*Package, error) {
		if at > 0 && at <= len(packages) {
			<-slots // the caller is done with the last one
		}
		if at >= len(packages) {
			at = len(packages) + 1
			return nil, io.EOF
		}
		at++
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case r := <-results[at-1]:
			return r.u, r.err
		}
	}
	return next, func() { cancel(); wg.Wait() }
}

// unpackOne unpacks one package and checks that it is the locked one.
func unpackOne(from Opener, p archive.Locked, data func(*Package) bool) (*Package, error) {
	r, err := from.Open(p.SHA256)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r) // to the end, where the digest is checked
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	u, err := unpack(b, data)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	if name, version := u.Field("Package"), u.Field("Version"); name != p.Name || version != p.Version {
		return nil, fmt.Errorf("package %s %s: its file is %q %q", p.Name, p.Version, name, version)
	}
	if of := u.Field("Architecture"); p.Arch != "" && of != p.Arch {
		return nil, fmt.Errorf("package %s %s of %s: its file is of %q", p.Name, p.Version, p.Arch, of)
	}
	return u, nil
}

package toolchain

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/store"
)

// unpackAll unpacks packages on all cores, since decompressing is nearly all of the
// work. next returns them one by one in their order. At most one more than there are
// cores is in memory at a time. stop ends the work and must be called.
func unpackAll(ctx context.Context, st *store.Store, packages []archive.Locked) (
	next func() (*unpacked, error), stop func()) {

	type result struct {
		u   *unpacked
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
				u, err := unpackFromStore(st, p)
				results[i] <- result{u, err}
			})
		}
	})
	at := 0
	next = func() (*unpacked, error) {
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

// unpackFromStore unpacks one package and checks that it is the locked one.
func unpackFromStore(st *store.Store, p archive.Locked) (*unpacked, error) {
	r, err := st.Open(p.SHA256)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r) // to the end, where the store checks the digest
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	u, err := unpackDeb(b)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	if name, version := u.field("Package"), u.field("Version"); name != p.Name || version != p.Version {
		return nil, fmt.Errorf("package %s %s: its file is %q %q", p.Name, p.Version, name, version)
	}
	return u, nil
}

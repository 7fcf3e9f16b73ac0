package toolchain

import (
	"context"
	"fmt"
	"slices"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
)

// Resolve makes the target's lock anew from the signed archive, for engines of the client's architecture.
func Resolve(ctx context.Context, ac *archive.Client, t Target) (*Lock, error) {
	doing := "resolve toolchain " + string(t)
	of, err := t.contents(ac.Arch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	rel, err := ac.Release(ctx, of.suite)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	index, err := ac.Index(ctx, rel, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	l := &Lock{Target: t, Suite: of.suite, Date: rel.Date.UTC(), InRelease: rel.InRelease}
	if ac.Arch != arch.Default {
		l.Engine = ac.Arch.Name
	}
	if l.Base, l.Packages, err = choose(index, of); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return l, nil
}

// choose returns the base, which is the essential packages and what they depend on, and what has to be installed
// over it for packages. The base is smaller than debootstrap's minbase: apt, and what is merely required of a
// machine that boots, have no use in these images.
func choose(index *archive.Index, of contents) (base, over []archive.Locked, err error) {
	boot, err := index.Closure(archive.ClosureSpec{Suite: of.suite, Variant: archive.Minbase})
	if err != nil {
		return nil, nil, fmt.Errorf("find the essential packages: %w", err)
	}
	names := slices.Clone(of.suite.Toolchain.Base)
	for _, p := range append(boot.Required, boot.Base...) {
		if p.Essential {
			names = append(names, p.Name)
		}
	}
	essential, err := index.Install(names, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("find the base: %w", err)
	}
	have := map[string]bool{}
	for _, p := range essential {
		have[p.Name] = true
		base = append(base, p.Locked())
	}
	rest, err := index.Install(of.packages, have)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range rest {
		if !have[p.Name] {
			over = append(over, p.Locked())
		}
	}
	return base, over, nil
}

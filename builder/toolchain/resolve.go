package toolchain

import (
	"context"
	"fmt"

	"github.com/kimg/kimg/internal/archive"
)

// Resolve makes the target's lock anew from the signed archive.
func Resolve(ctx context.Context, ac *archive.Client, t Target) (*Lock, error) {
	doing := "resolve toolchain " + string(t)
	known, err := t.recipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	suite, err := t.Suite()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	rel, err := ac.Release(ctx, suite)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	index, err := ac.Index(ctx, rel, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	l := &Lock{Target: t, Suite: suite, Date: rel.Date.UTC(), InRelease: rel.InRelease}
	if l.Base, l.Packages, err = choose(index, suite, known.base, known.packages); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return l, nil
}

// choose returns the base, which is the essential packages and what they
// depend on, and what has to be installed over it for packages. The base is
// smaller than debootstrap's minbase: apt, and what is merely required of a
// machine that boots, have no use in these images.
func choose(index *archive.Index, suite archive.Suite, also, packages []string) (base, over []archive.Locked, err error) {
	boot, err := index.Closure(archive.ClosureSpec{Suite: suite, Variant: archive.Minbase})
	if err != nil {
		return nil, nil, fmt.Errorf("find the essential packages: %w", err)
	}
	names := append([]string(nil), also...)
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
	rest, err := index.Install(packages, have)
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

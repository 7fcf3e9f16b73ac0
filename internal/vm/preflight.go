package vm

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/toolbox"
)

// Planned is a check that is to be run.
type Planned struct {
	Options Options
	Check   Check
	Places  []string // functions and FILE:LINE that a frame is expected at; they must be in this kernel too
}

// Preflight says before anything boots which of the checks this build cannot do, and why: wrong has an error for
// each check, or nil. The first check's Options name the build and the toolbox of all.
func Preflight(ctx context.Context, list []Planned) (wrong []error, err error) {
	wrong = make([]error, len(list))
	p := &preflight{}
	defer func() { err = errors.Join(err, p.close(ctx)) }()
	for i := range list {
		c := &list[i]
		_, wrong[i] = c.Check.ready(&c.Options)
		if wrong[i] == nil {
			_, wrong[i] = resolve(c.Options.Shares)
		}
		if wrong[i] != nil || c.Check.Break == "" {
			continue
		}
		if wrong[i], err = p.places(ctx, c); err != nil {
			return nil, err
		}
	}
	return wrong, nil
}

// preflight looks places up, in vmlinux's own table and with a gdb that is only started when it is needed.
type preflight struct {
	kernel   *gdb.Symbols
	tools    *toolbox.Tools
	debugger *gdb.Debugger
}

func (p *preflight) close(ctx context.Context) error {
	if p.tools == nil {
		return nil
	}
	return p.tools.Close(ctx)
}

// places says what is wrong with the places of a check. The second error is one of the looking up.
func (p *preflight) places(ctx context.Context, c *Planned) (wrong, err error) {
	if p.kernel == nil {
		if p.kernel, err = symbols(c.Options.Dir); err != nil {
			return nil, err
		}
	}
	if !p.kernel.DebugInfo {
		return errNoDebugInfo, nil
	}
	if wrong, err = p.look(ctx, c, c.Check.Break, false); wrong != nil || err != nil {
		return wrong, err
	}
	for _, at := range c.Places {
		if wrong, err = p.look(ctx, c, at, true); wrong != nil || err != nil {
			return wrong, err
		}
	}
	return nil, nil
}

// look says what is wrong with a place. A line need not have code of its own: an inlined function may begin there.
func (p *preflight) look(ctx context.Context, c *Planned, at string, expected bool) (wrong, err error) {
	if slices.Contains(p.kernel.Functions, at) {
		return nil, nil
	}
	if err := p.start(ctx, c); err != nil {
		return nil, err
	}
	_, err = p.debugger.Find(ctx, p.kernel, at)
	var unknown *gdb.NoBreakError
	if errors.As(err, &unknown) {
		unknown.Expected = expected
		return unknown, nil
	}
	return nil, err
}

// start starts gdb. It needs neither the guest's disk nor its network.
func (p *preflight) start(ctx context.Context, c *Planned) error {
	if p.debugger != nil {
		return nil
	}
	dir, err := filepath.Abs(c.Options.Dir)
	if err != nil {
		return err
	}
	if p.tools, err = c.Options.Toolbox.Open(ctx, toolbox.Mounts{Dir: dir, Files: c.Check.files(true)}); err != nil {
		return err
	}
	p.debugger, err = startGDB(ctx, p.tools)
	return err
}

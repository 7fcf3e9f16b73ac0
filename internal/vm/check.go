package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/qemu"
)

// Check says what must happen in a guest.
type Check struct {
	Break   string        // a function, FILE:LINE, FILE:FUNCTION or *ADDRESS that must be reached; empty: there is no gdb
	During  bool          // it is looked for while the command runs, and not on the way there
	By      string        // the name of the process that must reach it, others pass; empty: any
	Print   []string      // expressions that gdb evaluates where the guest stopped
	Command []string      // run in the guest; nil: none
	Limit   time.Duration // from start to end; 0: 5 minutes, without qemu.KVM 20
}

// Result is what a check saw. It is returned with an error too, as far as it goes.
type Result struct {
	Hit       bool
	Frames    []Frame  // where the guest stopped, the innermost first
	Task      string   // the process that did, as "cat (pid 312)"; empty where the kernel's scripts do not say
	Backtrace []string // gdb's, a line for each frame
	Values    []Value  // of the expressions
	Ran       bool     // the command was run to its end
	Status    int      // its exit status
	Log       string   // what gdb was told and said
	Console   []string // the last lines of the serial console
}

// Frame is a function that was called and has not returned.
type Frame struct {
	Function string // empty where nothing is known of it
	File     string // in the kernel's tree; empty where there is no debug information
	Line     int
}

// Value is what gdb made of an expression, or why it did not.
type Value struct{ Expr, Text, Err string }

// RunCheck boots the guest and looks whether the check's breakpoint is reached,
// by one of two ways. A breakpoint of the boot is set before the guest's first
// instruction; once it was reached the guest is let go, boots on, and runs the
// command. A breakpoint that is for the command (During) is set when the command
// is about to run, and must be reached before it ends; so nothing of the boot is
// taken for it. A check without a breakpoint runs its command, as Exec does.
//
// The error is nil only if the guest stopped there and the command, whatever its
// status, was run. A guest that did not do in time what it should, panicked, or
// lost its QEMU is a *GuestError; a gdb that died is a *GDBError.
func RunCheck(ctx context.Context, o Options, c Check) (result *Result, err error) {
	k := &checking{o: &o, c: c, result: &Result{}}
	config, err := c.ready(&o)
	if err != nil {
		return k.result, err
	}
	if c.Break != "" {
		if k.kernel, err = readSymbols(filepath.Join(o.Dir, SymbolsFile)); err != nil {
			return k.result, err
		}
	}
	k.scripts = config["GDB_SCRIPTS"] == "y"
	site, err := o.open(ctx, config, c.files(true)...)
	if err != nil {
		return k.result, err
	}
	defer func() { err = errors.Join(err, site.Close(ctx)) }()
	devices := append(o.devices(config, site, Terminal{}), qemu.Serial{})
	if c.Break != "" {
		var stub qemu.GDBStub
		stub, k.entry = k.kernel.stub(site, []string{c.Break}, c.During)
		devices = append(devices, stub)
	}
	ports := o.agentPorts()
	if c.Command != nil {
		ports = commandPorts
	}
	devices = append(devices, o.ports(site, ports...)...)
	k.limits = o.limits(site.Accel)
	if c.Limit > 0 {
		k.limits.boot, k.limits.check = c.Limit, c.Limit
	}
	if k.m, err = boot(ctx, site, wiring{console: o.Console}, devices...); err != nil {
		return k.result, err
	}
	defer k.m.quit()
	if c.Command == nil {
		k.m.listen(ctx, ports...)
	}
	defer func() { k.result.Console = k.m.console.lines() }()
	return k.result, k.run(ctx)
}

// ready is an error where this build cannot do what the check needs.
func (c *Check) ready(o *Options) (Config, error) {
	if c.Break != "" {
		if err := CheckBreak(c.Break); err != nil {
			return nil, fmt.Errorf("break at %w", err)
		}
	}
	if c.During && (c.Break == "" || c.Command == nil) {
		return nil, errors.New("check a breakpoint while a command runs: want both of them")
	}
	for _, expr := range c.Print {
		if err := CheckExpression(expr); err != nil {
			return nil, fmt.Errorf("print %w", err)
		}
	}
	config, err := o.read(c.files(false)...)
	if err == nil && c.Command != nil {
		err = config.agent()
	}
	if err == nil && c.By != "" {
		err = config.need("tell gdb which process runs", "GDB_SCRIPTS")
	}
	return config, err
}

// files are what the check cannot do without besides what every guest needs, or
// what it takes where it is there.
func (c *Check) files(all bool) []string {
	switch {
	case c.Break == "":
		return nil
	case all:
		return []string{SymbolsFile, ScriptsFile, "scripts/gdb"}
	}
	return []string{SymbolsFile}
}

// NoBreakError says that this kernel has no such place to stop at.
type NoBreakError struct {
	Break    string
	Near     []string // names that it does have
	Msg      string   // gdb's words
	Expected bool     // it is where a stop is expected, and not where it is asked for
}

func (e *NoBreakError) Error() string {
	verb := "break at"
	if e.Expected {
		verb = "expect"
	}
	return fmt.Sprintf("%s %s: %s", verb, e.Break, trimStop(e.Msg))
}

// Hint is the way out.
func (e *NoBreakError) Hint() string {
	if len(e.Near) == 0 {
		return ""
	}
	return "this kernel has " + strings.Join(e.Near, ", ")
}

// errNoDebugInfo says that gdb would know addresses and nothing else.
var errNoDebugInfo = &MissingConfigError{For: "be debugged", Symbols: []string{"DEBUG_INFO"}}

// breakRE is what gdb may be asked to break at: no conditions, no commands.
var breakRE = regexp.MustCompile(`^([A-Za-z_][\w.$]*|\*0x[0-9A-Fa-f]{1,16}|[\w./+-]+:(\d{1,9}|[A-Za-z_][\w.$]*))$`)

// CheckBreak is an error for what cannot be a place to stop at.
func CheckBreak(at string) error {
	if !breakRE.MatchString(at) {
		return fmt.Errorf("%q: want a function, FILE:LINE, FILE:FUNCTION or *ADDRESS", at)
	}
	return nil
}

// checking is a check under way.
type checking struct {
	o       *Options
	c       Check
	kernel  *symbols
	entry   uint64 // where the guest's head start ends; 0: it has none
	scripts bool   // gdb has the kernel's own
	first   int    // the process id of the command's shell; those of its children are higher
	m       *machine
	limits  limits
	result  *Result
	missing string // what has not been seen yet, for a check that runs out of time
}

// errOver is the cause of a check's end by its limit.
var errOver = errors.New("the check's time is up")

// run lasts from the boot to the check's end.
func (k *checking) run(ctx context.Context) error {
	timed, cancel := context.WithTimeoutCause(ctx, k.limits.check, errOver)
	defer cancel()
	alive, stop := k.m.whileUp(timed)
	defer stop()
	var err error
	if k.c.During {
		err = k.during(alive)
	} else {
		if k.c.Break != "" {
			err = k.atBoot(alive)
		}
		if err == nil && k.c.Command != nil {
			err = k.command(alive)
		}
	}
	var unknown *NoBreakError
	var guest *GuestError
	switch {
	case err == nil || errors.As(err, &unknown) || errors.As(err, &guest):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case context.Cause(timed) == errOver: // whatever it was that this ended
		return k.m.hung(fmt.Sprintf("%s in %v", k.missing, k.limits.check))
	case k.m.waitEnd(ctx, time.Second): // gdb and the agent only see that a connection has ended
		return k.m.endError(ctx)
	}
	return k.m.explain(ctx, err, k.limits)
}

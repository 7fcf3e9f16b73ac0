package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Check says what must happen in a guest.
type Check struct {
	Break   string        // a function, FILE:LINE, FILE:FUNCTION or *ADDRESS that must be reached
	Limit   time.Duration // from start to the breakpoint; 0: the options' BootLimit
	Command []string      // run in the guest after that; nil: none
}

// Result is what a check saw. It is returned with an error too, as far as it goes.
type Result struct {
	Hit       bool
	Function  string   // where the guest stopped
	Location  string   // file:line there, in the kernel's tree
	Backtrace []string // gdb's, a line for each frame
	Ran       bool     // the command was run
	Status    int      // its exit status
	Log       string   // what gdb was told and said
	Console   []string // the last lines of the serial console
}

// NoBreakError says that this kernel has no such place to stop at.
type NoBreakError struct {
	Break string
	Near  []string // names that it does have
	Msg   string   // gdb's words
}

func (e *NoBreakError) Error() string {
	return fmt.Sprintf("break at %s: %s", e.Break, strings.TrimSuffix(e.Msg, "."))
}

// Hint is the way out.
func (e *NoBreakError) Hint() string {
	if len(e.Near) == 0 {
		return ""
	}
	return "this kernel has " + strings.Join(e.Near, ", ")
}

// RunCheck boots the guest halted under gdb, sets the breakpoint, lets it run
// and returns where it stopped. Then, where the check has a command, the guest
// is let go, boots on, and runs it. The error is nil only if the guest stopped
// there and the command, whatever its status, was run.
func RunCheck(ctx context.Context, o Options, c Check) (result *Result, err error) {
	result = &Result{}
	if err := checkBreak(c.Break); err != nil {
		return result, err
	}
	config, err := o.read(SymbolsFile)
	if err != nil {
		return result, err
	}
	if c.Command != nil {
		if err := config.agent(); err != nil {
			return result, err
		}
	}
	kernel, err := readSymbols(filepath.Join(o.Dir, SymbolsFile))
	if err != nil {
		return result, err
	}
	if !kernel.debugInfo {
		return result, errNoDebugInfo
	}
	site, err := o.open(ctx, SymbolsFile, ScriptsFile)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, site.Close(ctx)) }()
	devices := append(o.devices(config, site, Terminal{}), Serial{}, GDBStub{Socket: site.Socket(gdbSocket)})
	if c.Command != nil {
		devices = append(devices, portsOf(site, commandPorts...))
	}
	m, err := boot(ctx, site, wiring{console: o.Console}, devices...)
	if err != nil {
		return result, err
	}
	defer m.quit()
	defer func() { result.Console = m.console.lines() }()
	if err := m.stopAt(ctx, &o, c, kernel, result); err != nil || c.Command == nil {
		return result, err
	}
	result.Status, err = m.runCommand(ctx, &o, c.Command)
	result.Ran = err == nil
	return result, err
}

// errNoDebugInfo says that gdb would know addresses and nothing else.
var errNoDebugInfo = &MissingConfigError{For: "be debugged", Symbols: []string{"DEBUG_INFO"}}

// breakRE is what gdb may be asked to break at: no conditions, no commands.
var breakRE = regexp.MustCompile(`^([A-Za-z_][\w.$]*|\*0x[0-9A-Fa-f]{1,16}|[\w./+-]+:(\d{1,9}|[A-Za-z_][\w.$]*))$`)

func checkBreak(at string) error {
	if !breakRE.MatchString(at) {
		return fmt.Errorf("break at %q: want a function, FILE:LINE, FILE:FUNCTION or *ADDRESS", at)
	}
	return nil
}

// kvmBreaks is how many hardware breakpoints an x86 processor has.
const kvmBreaks = 4

// early is a function that runs once, when the kernel has mapped itself.
const early = "start_kernel"

// stopAt lets the halted guest run to the check's breakpoint and then lets it go.
func (m *machine) stopAt(ctx context.Context, o *Options, c Check, kernel *symbols, result *Result) error {
	limit := c.Limit
	if limit == 0 {
		limit = o.limits(m.site.Accel).boot
	}
	errLate := errors.New("late")
	alive, stop := m.whileUp(ctx)
	defer stop()
	alive, cancel := context.WithTimeoutCause(alive, limit, errLate)
	defer cancel()
	d, err := startGDB(alive, m.site)
	if err != nil {
		return err
	}
	defer func() { result.Log = d.transcript() }()
	err = d.check(alive, m.site, c.Break, kernel, result)
	var unknown *NoBreakError
	switch {
	case err == nil || errors.As(err, &unknown):
		return err
	case errors.Is(err, errLate):
		return m.hung(fmt.Sprintf("the guest did not reach %s in %v", c.Break, limit))
	case m.waitEnd(ctx, time.Second): // gdb only sees that the connection has ended
		return m.endError(ctx)
	}
	return err
}

// check drives gdb from its start to the guest's going on.
func (d *debugger) check(ctx context.Context, site *Site, at string, kernel *symbols, result *Result) error {
	// Asked for before there is a guest: gdb answers for itself what it knows.
	want, err := d.setBreak(ctx, at, false)
	var refused *miError
	if errors.As(err, &refused) {
		return &NoBreakError{Break: at, Near: kernel.near(at), Msg: refused.Msg}
	}
	if err != nil {
		return err
	}
	root := d.sourceRoot(ctx)
	if err := d.deleteBreak(ctx, want); err != nil {
		return err
	}
	if err := d.attach(ctx, site.Socket(gdbSocket)); err != nil {
		return err
	}
	// A software breakpoint is an instruction in memory, where the kernel has yet to
	// be unpacked. Under KVM there are only so many of the other kind; more places,
	// as an inlined function has, get instructions once the kernel is there.
	hardware := true
	if site.Accel == KVM && want.Locations > kvmBreaks {
		if _, err := d.runTo(ctx, early, true); err != nil {
			return err
		}
		hardware = false
	}
	frame, err := d.runTo(ctx, at, hardware)
	if err != nil {
		return err
	}
	result.Hit, result.Function = true, frame.text("func")
	result.Location = location(frame, root)
	_, trace, err := d.do(ctx, `-interpreter-exec console "backtrace 64"`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(strings.ReplaceAll(trace, root, "")) {
		if line = strings.TrimRight(plain(line), " "); line != "" {
			result.Backtrace = append(result.Backtrace, line)
		}
	}
	if _, _, err := d.do(ctx, "-target-detach"); err != nil {
		return err
	}
	_, _, err = d.do(ctx, "-gdb-exit")
	return err
}

// runTo runs the guest to a new breakpoint, which is then removed, and returns
// the frame it stopped in.
func (d *debugger) runTo(ctx context.Context, at string, hardware bool) (miTuple, error) {
	b, err := d.setBreak(ctx, at, hardware)
	if err != nil {
		return nil, fmt.Errorf("break at %s: %w", at, err)
	}
	stopped, err := d.resume(ctx)
	if err != nil {
		return nil, fmt.Errorf("run to %s: %w", at, err)
	}
	if stopped.text("reason") != "breakpoint-hit" || stopped.text("bkptno") != b.Number {
		return nil, fmt.Errorf("run to %s: the guest stopped for another reason: %s %s", at,
			stopped.text("reason"), stopped.text("signal-meaning"))
	}
	frame, _ := stopped["frame"].(miTuple)
	return frame, d.deleteBreak(ctx, b)
}

// sourceRoot is where the kernel's source was when it was compiled, with a
// slash; empty when gdb does not say.
func (d *debugger) sourceRoot(ctx context.Context) string {
	b, err := d.setBreak(ctx, early, false)
	if err != nil || d.deleteBreak(ctx, b) != nil {
		return ""
	}
	root, ok := strings.CutSuffix(b.Fullname, "init/main.c")
	if !ok {
		return ""
	}
	return root
}

// location is a frame's file:line in the kernel's tree.
func location(frame miTuple, root string) string {
	file := frame.text("fullname")
	if file == "" {
		return ""
	}
	line, _ := strconv.Atoi(frame.text("line"))
	return fmt.Sprintf("%s:%d", strings.TrimPrefix(file, root), line)
}

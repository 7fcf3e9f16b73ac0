package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kimg/kimg/internal/qemu"
)

// Debugging says how a person's gdb session begins.
type Debugging struct {
	Breaks   []string // as Check.Break; the guest runs on to the first of them that it reaches
	Running  bool     // the guest runs at once; without it and without Breaks it stays halted
	Commands []string // gdb's own, run after that
	Batch    bool     // gdb ends after them
	Attached func(guest string) (detach func())
	// Attached is called with the guest's name once its console can be attached to,
	// and what it returns at the end; nil: nobody wants to know.
}

// SourceFile is a gdb script of the out directory that says where the kernel's
// source is on this machine.
const SourceFile = "kimg.gdb"

// Debug boots the guest under a gdb whose prompt is the person's, on the options'
// streams. The serial console can be attached to meanwhile, see Attach. The end of
// gdb ends the guest. A guest that panics stays, to be looked at.
//
// Breakpoints are looked for before anything boots: a *NoBreakError names one that
// this kernel does not have. They are hardware breakpoints where others would be
// lost: a software breakpoint is an instruction in memory, where the kernel has yet
// to be unpacked. A QEMU that ends against the plan is a *GuestError.
func Debug(ctx context.Context, o Options, d Debugging) (err error) {
	for _, at := range d.Breaks {
		if err := CheckBreak(at); err != nil {
			return fmt.Errorf("break at %w", err)
		}
	}
	config, err := o.read(SymbolsFile)
	if err != nil {
		return err
	}
	kernel, err := readSymbols(filepath.Join(o.Dir, SymbolsFile))
	if err != nil {
		return err
	}
	if !kernel.debugInfo {
		return errNoDebugInfo
	}
	for _, notice := range debugNotices(config) {
		o.say("%s", notice)
	}
	site, err := o.open(ctx, config, SymbolsFile, ScriptsFile, "scripts/gdb", SourceFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close(ctx)) }()
	unpacked, err := findBreaks(ctx, site, kernel, d.Breaks)
	if err != nil {
		return err
	}

	hub, err := newConsoleHub(site)
	if err != nil {
		return err
	}
	defer hub.close()
	stub, entry := kernel.stub(site, d.Breaks, d.Running)
	devices := append(o.devices(config, site, Terminal{}), qemu.Serial{}, stub)
	devices = append(devices, o.ports(site, o.agentPorts()...)...)
	m, err := boot(ctx, site, wiring{stdin: hub.input(), mute: hub.mute, console: hub, keys: o.Keys}, keepPanics(devices)...)
	if err != nil {
		return err
	}
	defer m.quit()
	m.listen(ctx, o.agentPorts()...)
	if d.Attached != nil {
		defer d.Attached(site.guest.Name)()
	}
	_, mapped := os.Stat(filepath.Join(o.Dir, SourceFile))
	args := personArgs(site, d, unpacked, mapped == nil && !site.Isolated)
	return m.settle(ctx, &o, m.lend(ctx, &o, args, entry))
}

// lend gives the terminal to gdb until it ends, and the guest a head start to entry.
func (m *machine) lend(ctx context.Context, o *Options, args []string, entry uint64) error {
	// Ctrl-C and Ctrl-\ are gdb's. Caught rather than ignored, which gdb would inherit.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGQUIT)
	defer signal.Stop(dropped)

	running, cancel := context.WithCancel(ctx)
	defer cancel()
	up := make(chan error, 1)
	go func() { up <- m.awaitGDB(running, entry) }()
	wait, err := m.site.run.start(running, program{Args: args, Person: true, Term: o.Term, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	came := false
	for {
		select {
		case err := <-up:
			if err != nil && !m.waitEnd(ctx, time.Second) { // else QEMU's end tells more
				cancel()
				<-ended
				return err
			}
			came, up = err == nil, nil
		case <-m.done:
			if !came { // gdb has nothing to attach to
				cancel()
				<-ended
				return m.endError(ctx)
			}
			if m.err != nil {
				o.say("%v; quit ends gdb", m.endError(ctx))
			}
			return errors.Join(gdbEnd(<-ended), m.sessionEnd(ctx))
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return gdbEnd(err)
		}
	}
}

// gdbEnd is the end of a gdb that a person had. A status other than zero is what
// the person, or a batch of theirs, made of it.
func gdbEnd(err error) error {
	if err == nil {
		return nil
	}
	return &GDBError{err}
}

// GDBError says that gdb ended with a status other than zero, or where nobody had
// ended it.
type GDBError struct{ Err error }

func (e *GDBError) Error() string {
	if e.Err == nil {
		return "gdb ended by itself"
	}
	return fmt.Sprintf("gdb ended: %v", e.Err)
}

// Unwrap gives gdb's own end.
func (e *GDBError) Unwrap() error { return e.Err }

// debugNotices tell of what a person would wonder about in this kernel.
func debugNotices(c Config) []string {
	var notices []string
	if c["RANDOMIZE_BASE"] == "y" {
		notices = append(notices, "this kernel was built with RANDOMIZE_BASE: it is booted with nokaslr, so that it is where vmlinux says")
	}
	if c["GDB_SCRIPTS"] != "y" {
		notices = append(notices, "this kernel was built without GDB_SCRIPTS: gdb has no lx-dmesg, lx-ps, lx-symbols; --set GDB_SCRIPTS=y brings them")
	}
	if c["DEBUG_INFO_REDUCED"] == "y" {
		notices = append(notices, "this kernel was built with DEBUG_INFO_REDUCED: gdb knows no structures and no variables; --set DEBUG_INFO_REDUCED=n brings them")
	}
	return notices
}

// findBreaks looks for the places to stop at, before there is a guest. A function
// is in vmlinux's own table; what is inlined or named by its line only gdb finds.
// afterUnpacking says that they are more than the processor has breakpoints for.
func findBreaks(ctx context.Context, site *Site, kernel *symbols, breaks []string) (afterUnpacking bool, err error) {
	ask := slices.DeleteFunc(slices.Clone(breaks), func(at string) bool {
		return site.Accel == qemu.TCG && slices.Contains(kernel.functions, at)
	})
	if len(ask) == 0 {
		return false, nil
	}
	d, err := startGDB(ctx, site)
	if err != nil {
		return false, err
	}
	locations := 0
	for _, at := range ask {
		b, err := d.find(ctx, kernel, at)
		if err != nil {
			return false, err
		}
		locations += b.Locations
	}
	_, _, err = d.do(ctx, "-gdb-exit")
	return site.Accel == qemu.KVM && locations > kvmBreaks, err
}

// A Ctrl-C ends a gdb that only just starts, or its Python. heldKeys keeps it back until
// takeKeys, which drops what came. Where gdb is this machine's own nobody knows whether
// it has a Python to do so, and so it is as with any gdb.
//
// The scripts of older kernels have escapes that a new Python warns of.
var heldKeys = []string{"env", "--block-signal=INT", "PYTHONWARNINGS=ignore::SyntaxWarning"}

const takeKeys = "python import signal as s; s.sigtimedwait([s.SIGINT], 0); s.pthread_sigmask(s.SIG_UNBLOCK, [s.SIGINT])"

// personArgs starts the person's gdb. On this machine it reads the person's own
// ~/.gdbinit.
func personArgs(site *Site, d Debugging, unpacked, mapped bool) []string {
	args := []string{"gdb", "-q"}
	if site.Isolated {
		args = append(slices.Clone(heldKeys), "gdb", "-q", "-nx")
	}
	if d.Batch {
		args = append(args, "-batch")
	}
	args = append(append(args, indexArgs(site.index)...),
		"-iex", "set debuginfod enabled off",
		"-iex", "set auto-load local-gdbinit off",
		"-iex", "add-auto-load-safe-path "+site.Path(ScriptsFile)+":"+site.Path("scripts/gdb"),
		"-iex", "set confirm off", "-iex", "set breakpoint pending off",
		site.Path(SymbolsFile))
	do := func(commands ...string) {
		for _, c := range commands {
			args = append(args, "-ex", c)
		}
	}
	if mapped {
		do("source " + site.Path(SourceFile))
	}
	socket := site.Socket(gdbSocket)
	// QEMU is started with gdb, which has long symbols to read; still, it may be the later one,
	// and gdb's socket is not there until the guest's head start is over.
	do("shell for i in $(seq 3000); do test -S '" + socket + "' && break; sleep 0.02; done")
	if site.Isolated {
		do(takeKeys)
	}
	do("target remote " + socket)
	set := "hbreak "
	if unpacked {
		do("thbreak "+early, "continue")
		set = "break "
	}
	for _, at := range d.Breaks {
		do(set + at)
	}
	if len(d.Breaks) > 0 || d.Running {
		do("continue")
	}
	do(d.Commands...)
	return args
}

// keepPanics has the kernel stay where it panicked, for gdb.
func keepPanics(devices []qemu.Device) []qemu.Device {
	kept := slices.Clone(devices)
	for i, d := range kept {
		if k, ok := d.(qemu.Kernel); ok {
			k.Append = strings.Replace(k.Append, "panic=-1 ", "", 1)
			kept[i] = k
		}
	}
	return kept
}

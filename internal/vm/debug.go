package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
)

// Debugging says how a user's gdb session begins.
type Debugging struct {
	Breaks   []string // as Check.Break; the guest runs on to the first of them that it reaches
	Running  bool     // the guest runs at once; without it and without Breaks it stays halted
	Commands []string // gdb's own, run after that
	Batch    bool     // gdb ends after them
	Attached func(guest string) (detach func())
	// Attached is called once the guest's console can be attached to, and what it returns at the end; nil: neither is.
}

// SourceFile is a gdb script of the out directory that says where the kernel's source is on this machine.
const SourceFile = "kimg.gdb"

// Debug boots the guest under a gdb whose prompt is the user's, on the options' streams. The serial console can be
// attached to meanwhile, see Attach. The end of gdb ends the guest. A guest that panics stays, to be looked at.
//
// Breakpoints are looked for before anything boots: a *gdb.NoBreakError names one that this kernel does not have.
// They are hardware breakpoints where others would be lost: a software breakpoint is an instruction in memory,
// where the kernel has yet to be unpacked. A QEMU that ends against the plan is a *GuestError.
func Debug(ctx context.Context, o Options, d Debugging) (err error) {
	for _, at := range d.Breaks {
		if err := gdb.CheckBreak(at); err != nil {
			return fmt.Errorf("break at %w", err)
		}
	}
	config, err := o.read(wants{debug: true, files: []string{artifact.Vmlinux}})
	if err != nil {
		return err
	}
	kernel, err := symbols(o.Dir)
	if err != nil {
		return err
	}
	if !kernel.DebugInfo {
		return errNoDebugInfo
	}
	for _, notice := range debugNotices(config) {
		o.say("%s", notice)
	}
	if d.Running && len(d.Breaks) == 0 {
		o.use = ForDebug
	}
	files := []string{artifact.Vmlinux, artifact.GDBLoader, artifact.GDBScripts, SourceFile}
	return o.with(ctx, config, files, func(vm *instance) error {
		unpacked, err := findBreaks(ctx, vm.tools, kernel, d.Breaks, vm.machine.Arch.HardwareBreaks)
		if err != nil {
			return err
		}
		hub, err := newConsoleHub(vm.entry)
		if err != nil {
			return err
		}
		defer hub.close()
		stub, entry := stubOf(kernel, vm.tools, d.Breaks, d.Running)
		vm.machine.More, vm.machine.Kernel.KeepPanics = append(vm.machine.More, stub), true
		to := guestIO{stdin: hub.input(), mute: hub.mute, console: hub, ports: o.agentPorts()}
		if vm.keeping.warm() {
			to.ports = commandPorts
		}
		if err := vm.boot(ctx, to); err != nil {
			return err
		}
		if vm.keeping.warm() {
			quiet, err := vm.goOn(ctx)
			if err != nil {
				return err
			}
			defer quiet()
		} else {
			vm.rests = true // who knows: nobody has spoken to its agent
			vm.listen(ctx, to.ports...)
		}
		if d.Attached != nil {
			defer d.Attached(vm.entry.Name)()
		}
		session := gdb.Session{
			Files: gdbFiles(vm.tools), Socket: vm.tools.Socket(gdbSocket),
			Settings: !vm.tools.Isolated, HoldKeys: vm.tools.Isolated,
			Breaks: d.Breaks, Unpacked: unpacked, Running: d.Running, Commands: d.Commands, Batch: d.Batch,
		}
		if _, err := os.Stat(filepath.Join(o.Dir, SourceFile)); err == nil && !vm.tools.Isolated {
			session.Source = vm.tools.Path(SourceFile)
		}
		return vm.debug(ctx, session.Args(), entry)
	})
}

// goOn has the kept guest go on, and nothing run in it.
func (vm *instance) goOn(ctx context.Context) (end func(), err error) {
	alive, stop := vm.whileUp(ctx)
	agent, ports, err := vm.agent(alive)
	if err != nil {
		stop()
		return nil, vm.explain(ctx, err)
	}
	go func() {
		for range agent.lines { // it has nothing to say that anybody waits for
		}
	}()
	return func() {
		closePorts(agent, ports)
		stop()
	}, nil
}

// debug gives the terminal to gdb until it ends. Meanwhile the guest runs to entry, if that is not 0.
func (vm *instance) debug(ctx context.Context, args []string, entry uint64) error {
	// Ctrl-C and Ctrl-\ are gdb's. Caught rather than ignored, which gdb would inherit.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGQUIT)
	defer signal.Stop(dropped)

	running, cancel := context.WithCancel(ctx)
	defer cancel()
	up := make(chan error, 1)
	go func() { up <- vm.awaitGDB(running, entry) }()
	o := vm.o
	wait, err := vm.tools.Start(running, toolbox.Program{
		Args: args, Terminal: true, Term: o.Term, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	came := false
	for {
		select {
		case err := <-up:
			if err != nil && !vm.waitEnd(ctx, time.Second) { // else QEMU's end tells more
				cancel()
				<-ended
				return err
			}
			came, up = err == nil, nil
		case <-vm.done:
			if !came { // gdb has nothing to attach to
				cancel()
				<-ended
				return vm.endError(ctx)
			}
			if vm.err != nil && ctx.Err() == nil {
				o.say("%v; quit ends gdb", vm.endError(ctx))
			}
			return errors.Join(gdbEnd(<-ended), vm.sessionEnd(ctx))
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return gdbEnd(err)
		}
	}
}

// gdbEnd is the end of a gdb that the user drove, with the user's status.
func gdbEnd(err error) error {
	if err == nil {
		return nil
	}
	return &gdb.EndedError{Err: err}
}

// lackNotice tells of what a guest does without.
func lackNotice(l needs.Lack) string {
	return fmt.Sprintf("this kernel cannot %s: it was built %s; %s brings it", l.What, l.Why(), needs.Way(l))
}

// debugNotices explain what a user could wonder about in this kernel.
func debugNotices(c Config) []string {
	var notices []string
	if c["RANDOMIZE_BASE"] == "y" {
		notices = append(notices, "this kernel was built with RANDOMIZE_BASE: it is booted with nokaslr, "+
			"so that it is where vmlinux says")
	}
	for _, l := range needs.Lacks(c.get, needs.Scripts, needs.Variables) {
		notices = append(notices, lackNotice(l))
	}
	return notices
}

// findBreaks looks for the places to stop at: a function in vmlinux's own table, else gdb does. afterUnpacking says
// that they are more than the hardware breakpoints of the processor.
func findBreaks(
	ctx context.Context, tools *toolbox.Tools, kernel *gdb.Symbols, breaks []string, hardware int,
) (afterUnpacking bool, err error) {
	ask := slices.DeleteFunc(slices.Clone(breaks), func(at string) bool {
		return tools.Accel == qemu.TCG && slices.Contains(kernel.Functions, at)
	})
	if len(ask) == 0 {
		return false, nil
	}
	d, err := startGDB(ctx, tools)
	if err != nil {
		return false, err
	}
	locations := 0
	for _, at := range ask {
		b, err := d.Find(ctx, kernel, at)
		if err != nil {
			return false, err
		}
		locations += b.Locations
	}
	return tools.Accel != qemu.TCG && locations > hardware, d.Exit(ctx)
}

// headSocket is where QEMU's gdb stub listens first, for kimg. It listens for gdb at another one after that.
const headSocket = "head"

// headLimit is how long the firmware and the kernel's unpacking may take; then gdb gets the guest.
func headLimit(a qemu.Accel) time.Duration {
	if a == qemu.TCG {
		return 30 * time.Second
	}
	return 5 * time.Second
}

// stubOf is the stub of a guest that is to stop in breaks, and the address to run to first; 0: none.
func stubOf(
	kernel *gdb.Symbols, tools *toolbox.Tools, breaks []string, running bool,
) (stub qemu.GDBStub, entry uint64) {
	if !running {
		entry = kernel.FirstStop(breaks)
	}
	if entry != 0 {
		return qemu.GDBStub{Socket: tools.Socket(headSocket)}, entry
	}
	return qemu.GDBStub{Socket: tools.Socket(gdbSocket), Running: running}, 0
}

// awaitGDB lets the halted guest run to entry (0: not), while gdb reads symbols, and has gdb's socket listen.
func (vm *instance) awaitGDB(ctx context.Context, entry uint64) error {
	if entry == 0 {
		_, err := vm.order(ctx, "query-status", nil) // that QEMU is there
		return err
	}
	head, cancel := context.WithTimeout(ctx, headLimit(vm.tools.Accel))
	defer cancel()
	// gdb gets a guest that does not come that far too.
	_ = vm.runTo(head, entry)
	if ctx.Err() != nil || vm.ended() {
		return nil // that is reported elsewhere
	}
	return vm.moveStub(ctx)
}

func (vm *instance) runTo(ctx context.Context, address uint64) error {
	conn, err := vm.connect(ctx, headSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return gdb.RunStub(conn, address)
}

// moveStub has QEMU's gdb stub listen at gdb's socket, and nowhere else.
func (vm *instance) moveStub(ctx context.Context) error {
	type named = map[string]any
	_, err := vm.order(ctx, "chardev-add", named{"id": "debugger", "backend": named{"type": "socket", "data": named{
		"addr":   named{"type": "unix", "data": named{"path": vm.tools.Socket(gdbSocket)}},
		"server": true, "wait": false,
	}}})
	if err != nil {
		return err
	}
	// QMP itself has no command for it.
	said, err := vm.order(ctx, "human-monitor-command", named{"command-line": "gdbserver chardev:debugger"})
	var answer string
	if err == nil && json.Unmarshal(said, &answer) == nil && strings.Contains(answer, "ould not") {
		err = fmt.Errorf("have QEMU wait for gdb: %s", strings.TrimSpace(answer))
	}
	return err
}

// gdbFiles are what a gdb of the tools reads.
func gdbFiles(tools *toolbox.Tools) gdb.Files {
	return gdb.Files{
		GDB: tools.GDB, Vmlinux: tools.Path(artifact.Vmlinux), Index: tools.Index,
		Scripts: []string{tools.Path(artifact.GDBLoader), tools.Path(artifact.GDBScripts)},
	}
}

// startGDB starts a gdb of the tools. The end of ctx ends it.
func startGDB(ctx context.Context, tools *toolbox.Tools) (*gdb.Debugger, error) {
	return gdb.Start(func(in io.Reader, out, errs io.Writer) (func() error, error) {
		return tools.Start(ctx, toolbox.Program{Args: gdb.Args(gdbFiles(tools)), Stdin: in, Stdout: out, Stderr: errs})
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"text/tabwriter"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/vm"
)

// actions are the real ones.
var actions = table{
	build:  builder.Build,
	debug:  debugGuest,
	plan:   builder.Explain,
	run:    runGuest,
	ssh:    sshGuest,
	check:  checkGuest,
	export: builder.Export,
	verify: verifyTable{check: outdir.Verify, sign: builder.Sign, rebuild: builder.Rebuild},
	config: configTable{edit: builder.EditConfig, diff: builder.DiffConfig, show: builder.ShowConfig},
	lock:   lockTable{update: builder.Update, look: lookAtLock},
	list:   listEras,
	trim:   trimCache,
	relock: builder.Relock,
}

// lookAtLock reads the lock that a Spec names. why says what keeps this kimg from
// building what it meant to the one that wrote it.
func lookAtLock(sp spec.Spec) (l *spec.Lock, file string, why, err error) {
	file = sp.LockPath()
	if l, err = spec.NamedLock(file); err == nil {
		why = builder.Compatible(l)
	}
	return l, file, why, err
}

// options says where and how to boot the guest. The caller calls closeEngine at its end.
func (g *guest) options(ctx context.Context, env builder.Env) (_ vm.Options, closeEngine func(), err error) {
	closeEngine = func() {}
	// Asked for first: an image with QEMU may take minutes to make.
	if _, err := os.Stat(filepath.Join(g.out, artifact.Config)); err != nil {
		return vm.Options{}, closeEngine, &vm.MissingArtifactError{Dir: g.out, File: artifact.Config}
	}
	place, err := vm.Choose(ctx, os.Getenv("KIMG_TOOLS"), func(ctx context.Context) (container.Engine, string, error) {
		eng, image, err := builder.Imaging(ctx, env, g.out)
		if err == nil {
			closeEngine = func() { _ = eng.Close() } // nothing is lost with it
		}
		return eng, image, err
	})
	if err != nil {
		return vm.Options{}, closeEngine, err
	}
	if box, ok := place.(vm.Container); ok {
		box.Indexes = filepath.Join(env.Cache, "gdb-index")
		place = box
	}
	return vm.Options{
		Dir: g.out, Place: place, Memory: g.memory, CPUs: g.cpus, Append: g.append,
		Stdin: g.stdin, Stdout: g.stdout, Stderr: g.stderr, Term: os.Getenv("TERM"),
		BootLimit: g.timeout, RunLimit: g.timeout,
		Say: func(text string) { progress.Say(env.Sink, text) },
	}, closeEngine, nil
}

// consoleLines is how much of the serial console is shown when a guest fails.
const consoleLines = 30

func runGuest(ctx context.Context, env builder.Env, req runRequest) error {
	o, closeEngine, err := req.options(ctx, env)
	if err != nil {
		return err
	}
	defer closeEngine()
	o.Write = req.write
	req.extras.apply(&o, req.command)
	req.offerSSH(ctx, env, &req.extras, &o)
	// What is said once the progress has left the screen is a line of its own.
	var taken atomic.Bool
	take, say := req.takeTerminal, o.Say
	req.takeTerminal = func() {
		taken.Store(true)
		take()
	}
	o.Say = func(text string) {
		if !taken.Load() {
			say(text)
		} else if !req.quiet {
			fmt.Fprintf(req.stderr, "kimg: %s\n", progress.CleanText(text))
		}
	}
	if len(req.command) == 0 {
		req.takeTerminal()
		return statusError(vm.Run(ctx, o))
	}

	task := progress.Start(env.Sink, "guest", "boot "+req.out)
	o.Console = task.Log()
	o.Stdout = &firstWrite{w: req.stdout, first: req.takeTerminal}
	o.Stderr = &firstWrite{w: req.stderr, first: req.takeTerminal}
	o.Interrupt = req.interrupts()
	status, err := vm.Exec(ctx, o, req.command)
	req.takeTerminal()
	task.End(false, err)
	req.lastWords(err)
	return statusError(status, err)
}

// lastWords shows what the serial console of a guest said that failed.
func (g *guest) lastWords(err error) {
	var failed *vm.GuestError
	if !errors.As(err, &failed) {
		return
	}
	lines := failed.Console
	for _, line := range lines[max(0, len(lines)-consoleLines):] {
		fmt.Fprintf(g.stderr, "  | %s\n", progress.Clean(line))
	}
}

// statusError makes an error of a status other than zero.
func statusError(status int, err error) error {
	if err == nil && status != 0 {
		return guestStatus(status)
	}
	return err
}

// firstWrite calls first before it writes.
type firstWrite struct {
	w     io.Writer
	first func()
}

func (f *firstWrite) Write(p []byte) (int, error) {
	f.first()
	return f.w.Write(p)
}

func listEras(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KERNELS\tTOOLCHAIN\tPROVEN BY\tWHY")
	for _, e := range kernel.Eras() {
		proven := e.Proven
		if proven == "" {
			proven = "nothing yet"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.Range(), e.Toolchain(), proven, e.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nThe compiler compiles what runs during the build (HOSTCC), too. build --toolchain takes any of\n%s.\n",
		strings.Join(kernel.Toolchains(), ", "))
	if err != nil {
		return err
	}
	fmt.Fprintln(t, "\nFIXES FOR\tWITH\tPROVEN BY\tWHAT IS FIXED, AND WHY")
	for _, f := range kernel.Fixes() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Range(), f.Cause(), f.Proven, f.Line())
	}
	return t.Flush()
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/keep"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
)

// table is what the commands do once their arguments have been read: tests have one without an engine.
type table struct {
	build           func(context.Context, builder.Env, spec.Spec) (*outdir.Manifest, error)
	plan            func(context.Context, builder.Env, spec.Spec, io.Writer) error
	run             func(context.Context, builder.Env, runRequest) error
	check           func(context.Context, builder.Env, checkRequest) error
	verifyRecording func(context.Context, builder.Env, recordingRequest) error
	debug           func(context.Context, builder.Env, debugRequest) error
	why             func(context.Context, builder.Env, whyRequest) error
	ssh             func(context.Context, builder.Env, sshRequest) error
	export          func(context.Context, builder.Env, builder.ExportRequest) error
	verify          verifyTable
	config          configTable
	lock            lockTable
	trim            func(context.Context, builder.Env) ([]keep.Item, error)
	list            func(io.Writer) error
	relock          func(ctx context.Context, env builder.Env, targets []string) error
	tool            func(ctx context.Context, env builder.Env, c builder.ToolCommand) (int, error)
}

// guest is what run and check have in common.
type guest struct {
	out     string // directory of the artifacts
	append  string // added to the kernel's command line
	memory  units.Size
	cpus    int
	timeout time.Duration // 0: the defaults of vm
	splats  string        // what a complaint of the kernel's is; empty: the default

	stdin          *os.File
	stdout, stderr *os.File
	recorded       bool                    // it is a recording's, and needs no build
	pins           string                  // the directory of the lock that pins its tools; empty: out
	arch           arch.Arch               // of the recording; zero: that of the artifacts in out
	inContainer    bool                    // QEMU and gdb come from kimg's container, unless KIMG_TOOLS says host
	gdb            bool                    // it is wanted, and not QEMU alone
	takeTerminal   func()                  // removes the progress from the screen; called before the guest is shown
	interrupts     func() <-chan os.Signal // has Ctrl-C go to the guest from now on

	engine container.Engine // set by options; nil: QEMU and gdb are this machine's
}

// runRequest asks for a guest on the terminal or for a command's output. A status other than zero is a guestStatus.
type runRequest struct {
	guest
	write   bool
	command []string
	extras  extras
	quiet   bool // stderr is the command's, except for errors
	record  recordFlags
	keep    keepFlags
}

type debugRequest struct {
	guest
	debugging vm.Debugging
	extras    extras
	noTmux    bool
	replay    replayFlags
	record    recordFlags
}

type checkRequest struct {
	guest
	list     []checks.Check
	all      []string // names of the checks, with those that were not selected
	file     string   // that they are from; empty: the command line
	extras   extras
	failFast bool
	parallel int            // guests at once; 0: as many as there is room for
	record   checks.Records // which of the guests' recordings are kept; empty: none is recorded

	junit, json, report string                            // where reports go; empty: nowhere
	progress            func() (progress.Renderer, error) // one for each check
}

var actions = table{
	build:           builder.Build,
	debug:           debugGuest,
	why:             askWhy,
	plan:            builder.Explain,
	run:             runGuest,
	ssh:             sshGuest,
	check:           checkGuest,
	verifyRecording: verifyRecordings,
	export:          builder.Export,
	verify:          verifyTable{check: outdir.Verify, sign: builder.Sign, rebuild: builder.Rebuild},
	config:          configTable{edit: builder.EditConfig, diff: builder.DiffConfig, show: builder.ShowConfig},
	lock:            lockTable{update: builder.Update, look: lookAtLock},
	list:            listEras,
	trim:            trimCache,
	relock:          builder.Relock,
	tool:            builder.RunTool,
}

// lookAtLock reads the lock that a Spec names. why says what keeps this kimg from building it as it was meant.
func lookAtLock(sp spec.Spec) (l *spec.Lock, file string, why, err error) {
	file = sp.LockPath()
	if l, err = spec.NamedLock(file); err == nil {
		why = builder.Compatible(l)
	}
	return l, file, why, err
}

// guestsDir is where kept guests are in the cache directory.
const guestsDir = "guests"

// options says where and how to boot the guest. The caller calls closeEngine at its end.
func (g *guest) options(ctx context.Context, env builder.Env) (vm.Options, error) {
	// Looked for first: an image with QEMU may take minutes to make.
	if _, err := os.Stat(filepath.Join(g.out, artifact.Config)); err != nil && !g.recorded {
		return vm.Options{}, &vm.MissingArtifactError{Dir: g.out, File: artifact.Config}
	}
	imaging := func(ctx context.Context) (_ toolbox.Engine, image string, err error) {
		g.engine, image, err = builder.Imaging(ctx, env, cmp.Or(g.pins, g.out))
		return g.engine, image, err
	}
	from := os.Getenv("KIMG_TOOLS")
	if g.inContainer {
		from = cmp.Or(from, "container")
	}
	a := cmp.Or(g.arch, artifact.ArchOf(g.out))
	tools, err := toolbox.Choose(ctx, a, from, g.gdb, imaging)
	if err != nil {
		return vm.Options{}, err
	}
	indexes := filepath.Join(env.Cache, "gdb-index")
	switch t := tools.(type) {
	case toolbox.Container:
		t.Indexes = indexes
		tools = t
	case toolbox.Host:
		t.Indexes = indexes
		tools = t
	}
	return vm.Options{
		Dir: g.out, Arch: a, Toolbox: tools, Memory: g.memory, CPUs: g.cpus, Append: g.append, User: g.user(),
		Kept: filepath.Join(env.Cache, guestsDir),
		Say:  func(text string) { progress.Say(env.Sink, text) },
	}, nil
}

func (g *guest) closeEngine() {
	if g.engine != nil {
		_ = g.engine.Close() // nothing is lost with it
	}
}

func (g *guest) user() vm.User {
	return vm.User{
		Stdin: g.stdin, Stdout: g.stdout, Stderr: g.stderr, Term: os.Getenv("TERM"),
		BootLimit: g.timeout, RunLimit: g.timeout,
	}
}

// handOver is when the terminal goes from the progress to the guest.
type handOver struct {
	done atomic.Bool
	take func() // removes the progress from the screen
}

// handOver has the options' notices go to stderr, in this format ("": dropped), once the terminal is handed over.
func (g *guest) handOver(o *vm.Options, format string) *handOver {
	h := &handOver{take: g.takeTerminal}
	before := o.Say
	o.Say = func(text string) {
		if !h.done.Load() {
			before(text)
		} else if format != "" {
			fmt.Fprintf(g.stderr, format, progress.CleanText(text))
		}
	}
	return h
}

// now hands the terminal over, unless that was done before; first is called before it.
func (h *handOver) now(first func()) {
	if h.done.CompareAndSwap(false, true) {
		first()
		h.take()
	}
}

// notice is the format of a line on stderr, which may be the command's alone.
func (req *runRequest) notice() string {
	if req.quiet {
		return ""
	}
	return "kimg: %s\n"
}

// consoleLines is how much of the serial console is shown when a guest fails.
const consoleLines = 30

func runGuest(ctx context.Context, env builder.Env, req runRequest) error {
	o, err := req.options(ctx, env)
	defer req.closeEngine()
	if err != nil {
		return err
	}
	o.Write = req.write
	if req.keep.use == string(vm.ForCommand) || req.keep.use == forCheck {
		req.command = []string{"any"} // and none for the console
	}
	req.extras.apply(&o, req.command)
	req.offerSSH(ctx, env, &req.extras, &o)
	if req.keep.only() {
		task := progress.Start(env.Sink, "guest", "boot "+req.out)
		o.Console = task.Log()
		err := keepGuest(ctx, o, req.keep)
		task.End(false, err)
		return err
	}
	req.keepLater(env, &o, string(vm.ForCommand))
	screen := req.handOver(&o, req.notice())
	take := func() { screen.now(func() {}) }
	if len(req.command) == 0 && req.record.name == "" {
		take()
		heard := req.watch(&o)
		status, err := vm.Run(ctx, o)
		return statusError(status, heard.tell(err))
	}

	task := progress.Start(env.Sink, "guest", "boot "+req.out)
	o.Console = task.Log()
	o.Stdout = &firstWrite{w: req.stdout, first: take}
	o.Stderr = &firstWrite{w: req.stderr, first: take}
	o.Interrupt = req.interrupts()
	heard := req.watch(&o)
	status, err := req.exec(ctx, o)
	take()
	task.End(false, err)
	req.lastWords(err)
	return statusError(status, heard.tell(err))
}

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

// proven is what was built and booted in an era, on each architecture.
func proven(e kernel.Era) string {
	all := []string{cmp.Or(e.Proven, "nothing yet")}
	for _, a := range arch.All {
		if a != arch.Default && e.ProvenFor(a) != "" {
			all = append(all, a.Name+": "+e.ProvenFor(a))
		}
	}
	return strings.Join(all, "; ")
}

// elsewhere says which toolchains engines of other architectures than the default have.
func elsewhere() string {
	var b strings.Builder
	for _, a := range arch.Engines {
		var have, not []string
		for _, s := range suite.All() {
			switch {
			case a == arch.Default || s.Toolchain == nil:
			case slices.Contains(s.Toolchain.Engines, a.Name):
				have = append(have, s.Name)
			default:
				not = append(not, s.Name)
			}
		}
		if have != nil {
			fmt.Fprintf(&b, "An engine of %s has those of %s: they make the same kernels there. It has none of %s, "+
				"whose\ncompilers and cross compilers are not the same version.\n",
				a, strings.Join(have, " and "), strings.Join(not, " or "))
		}
	}
	return b.String()
}

func listEras(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KERNELS\tTOOLCHAIN\tPROVEN BY\tWHY")
	for _, e := range kernel.Eras() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.Range(), e.Toolchain(), proven(e), e.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nThe compiler compiles what runs during the build (HOSTCC), too. "+
		"build --toolchain takes any of\n%s.\n%s",
		strings.Join(kernel.Toolchains(), ", "), elsewhere())
	if err != nil {
		return err
	}
	fmt.Fprintln(t, "\nFIXES FOR\tWITH\tPROVEN BY\tWHAT IS FIXED, AND WHY")
	for _, f := range kernel.Fixes() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Range(), f.Cause(), f.Proven, f.Line())
	}
	return t.Flush()
}

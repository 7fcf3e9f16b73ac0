package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/keep"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
)

// table is what the commands do once their arguments have been read. It is a value so that
// a test can read arguments without an engine.
type table struct {
	build  func(context.Context, builder.Env, spec.Spec) (*outdir.Manifest, error)
	plan   func(context.Context, builder.Env, spec.Spec, io.Writer) error
	run    func(context.Context, builder.Env, runRequest) error
	check  func(context.Context, builder.Env, checkRequest) error
	debug  func(context.Context, builder.Env, debugRequest) error
	ssh    func(context.Context, builder.Env, sshRequest) error
	export func(context.Context, builder.Env, builder.ExportRequest) error
	verify verifyTable
	config configTable
	lock   lockTable
	trim   func(context.Context, builder.Env) ([]keep.Item, error)
	list   func(io.Writer) error
	relock func(ctx context.Context, env builder.Env, targets []string) error
}

// guest is what run and check have in common.
type guest struct {
	out     string // directory of the artifacts
	append  string // added to the kernel's command line
	memory  units.Size
	cpus    int
	timeout time.Duration // 0: the defaults of vm

	stdin          *os.File
	stdout, stderr *os.File
	takeTerminal   func()                  // removes the progress from the screen; called before the guest is shown
	interrupts     func() <-chan os.Signal // has Ctrl-C go to the guest from now on

	engine container.Engine // set by options; nil: QEMU and gdb are this machine's
}

// runRequest asks for a guest on the terminal or, with a command, for what that
// command prints. A command's own status other than zero is a guestStatus.
type runRequest struct {
	guest
	write   bool
	command []string
	extras  extras
	quiet   bool // stderr is the command's, except for errors
}

type debugRequest struct {
	guest
	debugging vm.Debugging
	extras    extras
	noTmux    bool
}

type checkRequest struct {
	guest
	list     []checks.Check
	all      []string // names of the checks, with those that were not selected
	file     string   // that they are from; empty: the command line
	extras   extras
	failFast bool

	junit, json, report string                            // where reports go; empty: nowhere
	progress            func() (progress.Renderer, error) // one for each check
}

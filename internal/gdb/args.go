package gdb

import (
	"cmp"
	"slices"
	"strings"
)

// Files are what gdb reads, as gdb sees them.
type Files struct {
	GDB     string // the program; empty: gdb
	Vmlinux string
	Scripts []string // files and directories of the kernel's own scripts, which gdb may run
	Index   string   // directory of gdb's index of vmlinux; empty: there is none
}

// Args starts a gdb for [Start]: without anybody's settings, scripts but the kernel's own, and questions.
func Args(f Files) []string {
	args := append([]string{cmp.Or(f.GDB, "gdb"), "-nx", "-nh", "-q", "--interpreter=mi3"}, IndexArgs(f.Index)...)
	return append(args,
		"-iex", "set debuginfod enabled off",
		"-iex", "set auto-load local-gdbinit off",
		"-iex", "set auto-load safe-path "+strings.Join(f.Scripts, ":"),
		"-iex", "set confirm off", "-iex", "set pagination off", "-iex", "set width 0",
		"-iex", "set breakpoint pending off",
		// An expression must not run the kernel's functions.
		"-iex", "set may-call-functions off", "-iex", "set print null-stop on",
		f.Vmlinux)
}

// IndexArgs has gdb use the index of vmlinux that is in a directory, or else write it there.
func IndexArgs(dir string) []string {
	if dir == "" {
		return nil
	}
	return []string{"-iex", "set index-cache directory " + dir, "-iex", "set index-cache enabled on"}
}

// Session is a gdb that a user drives.
type Session struct {
	Files    Files
	Socket   string   // of the gdb stub
	Settings bool     // it reads the user's own ~/.gdbinit
	HoldKeys bool     // Ctrl-C waits until gdb can take it
	Source   string   // a script that says where the kernel's source is; empty: none
	Breaks   []string // the guest runs on to the first of them that it reaches
	Unpacked bool     // they are software breakpoints, set once the kernel is unpacked
	Running  bool     // the guest runs at once, also without breakpoints
	Commands []string // run after that
	Batch    bool     // gdb ends after them
}

// A Ctrl-C ends a gdb that is just starting, or its Python. holdKeys blocks it until takeKeys, which drops what
// came. Only a gdb that is known to have a Python can do so: kimg's own.
//
// The scripts of older kernels have escapes that a new Python warns of.
var holdKeys = []string{"env", "--block-signal=INT", "PYTHONWARNINGS=ignore::SyntaxWarning"}

const takeKeys = "python import signal as s; s.sigtimedwait([s.SIGINT], 0); " +
	"s.pthread_sigmask(s.SIG_UNBLOCK, [s.SIGINT])"

// Args starts the session's gdb.
func (s Session) Args() []string {
	var args []string
	if s.HoldKeys {
		args = slices.Clone(holdKeys)
	}
	args = append(args, cmp.Or(s.Files.GDB, "gdb"), "-q")
	if !s.Settings {
		args = append(args, "-nx")
	}
	if s.Batch {
		args = append(args, "-batch")
	}
	args = append(append(args, IndexArgs(s.Files.Index)...),
		"-iex", "set debuginfod enabled off",
		"-iex", "set auto-load local-gdbinit off",
		"-iex", "add-auto-load-safe-path "+strings.Join(s.Files.Scripts, ":"),
		"-iex", "set confirm off", "-iex", "set breakpoint pending off",
		s.Files.Vmlinux)
	do := func(commands ...string) {
		for _, c := range commands {
			args = append(args, "-ex", c)
		}
	}
	if s.Source != "" {
		do("source " + s.Source)
	}
	// QEMU may come later than gdb; and the stub does not listen there before the guest's first stop.
	do("shell for i in $(seq 3000); do test -S '" + s.Socket + "' && break; sleep 0.02; done")
	if s.HoldKeys {
		do(takeKeys)
	}
	do("target remote " + s.Socket)
	set := "hbreak "
	if s.Unpacked {
		do("thbreak "+StartKernel, "continue")
		set = "break "
	}
	for _, at := range s.Breaks {
		do(set + at)
	}
	if len(s.Breaks) > 0 || s.Running {
		do("continue")
	}
	do(s.Commands...)
	return args
}

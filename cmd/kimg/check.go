package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/progress"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type checkFlags struct {
	breaks, expect, print, only []string
	when, by, run, record       string
}

func (a *app) check() *cobra.Command {
	req := checkRequest{guest: a.guest()}
	var words checkFlags
	cmd := &cobra.Command{
		Use:   "check {FILE.yaml | --break SYMBOL... | --run CMD}",
		Short: "Boot the last build and check that it stops where it must, and what a command does",
		Long: `Boot the last build, once for each check, and report whether each was met. It needs
no user, so that CI can run it.

A check with --break is met when the guest stops there, --expect holds there and gdb
can evaluate what --print asks for. A check with --run is met when the script ends with
status 0 in the guest (sh -e runs it: each of its commands must succeed). A check with both stops while the
script runs: the breakpoint is set when the guest is up and the script is about to
begin, and must be reached before it ends. With --when boot it is set before the guest's
first instruction, and the script runs after it was reached.

A file has a list of such checks. The whole file, and every symbol in it, is checked before
anything boots. Flags override the file.

A line for each check and one at the end are written to stdout. --junit, --json and
--report write reports, also when the checks were interrupted.

A check whose kernel complained (a warning, an oops, a sanitizer's or lockdep's report)
is not met, whatever else it did: --splats warn only tells it, and a file can allow what
is known.

With --record each guest is recorded, and of a check that failed the recording stays:
kimg why says by it who wrote what the kernel stumbled over, and kimg debug --replay goes
backwards. --record=all keeps those of all checks. With --report a recording also is one
file beside the check's report. A guest with --record is emulated, has one processor and
runs a command; what cannot be recorded is refused before anything boots.

The exit status is 0 when all checks were met, 8 when one was not, 6 when a guest
panicked, hung, complained or never reached a breakpoint, and 1 when kimg or gdb failed.

QEMU and gdb come from this machine, or from a container where one of them is not
installed.`,
		Example: `  kimg check --break do_sys_openat2
  kimg check --break do_sys_openat2 --break vfs_read --timeout 5m
  kimg check --break version_proc_show --expect seq_read_iter --run 'cat /proc/version'
  kimg check --break vfs_read --by cat --run 'cat /etc/hostname'
  kimg check --init sh --run 'grep -q kimg /etc/hostname'
  kimg check checks.yaml --junit junit.xml --report reports
  kimg check checks.yaml --record --report reports`,
		Args: atMost(1, ": want one file of checks"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := req.find(cmd.Flags(), "."); err != nil {
				return err
			}
			if err := req.extras.parse(false); err != nil {
				return err
			}
			if req.parallel < 0 {
				return &spec.InputError{Field: "--parallel",
					Err: fmt.Errorf("%d is not a number of guests", req.parallel)}
			}
			if req.extras.init != "" && req.extras.init != "sh" {
				return &spec.InputError{Field: "--init",
					Err: fmt.Errorf("%q: want sh, which leaves systemd out", req.extras.init)}
			}
			if err := req.read(cmd, words, args); err != nil {
				return err
			}
			if words.record != "" {
				var err error
				if req.record, err = checks.ParseRecords(words.record); err != nil {
					return &spec.InputError{Field: "--record", Err: err}
				}
				req.inContainer = true
			}
			req.progress = func() (progress.Renderer, error) { return progress.New(a.progressMode, a.stderr) }
			return a.withEnv(func(env builder.Env, done func()) error {
				req.takeTerminal = done
				return a.actions.check(cmd.Context(), env, req)
			})
		},
	}
	flags := cmd.Flags()
	words.addFlags(flags)
	flags.BoolVar(&req.failFast, "fail-fast", false, "run no further check after one that failed")
	flags.IntVar(&req.parallel, "parallel", 0,
		"run the guests of `N` checks at once (default: as many as there are processors and memory for, or 1\n"+
			"where they would share a port, a TAP, or a directory that they write to)")
	flags.StringVar(&req.junit, "junit", "", "write a report in JUnit's XML to `FILE`")
	flags.StringVar(&req.json, "json", "", "write a report in JSON to `FILE`")
	flags.StringVar(&req.report, "report", "",
		"keep each check's console, gdb log, output and outcome in a directory below `DIR`")
	req.addFlags(flags)
	flags.StringVar(&words.record, "record", "",
		"record the guests, and keep the recordings of `WHICH` checks: failed (where none is said), or all")
	flags.Lookup("record").NoOptDefVal = string(checks.RecordFailed)
	flags.Lookup("timeout").Usage = "give up on a check that takes longer than `TIME` from start to end, " +
		"such as 90s (default: 5m, or 20m without KVM; with --record 10m)"
	flags.Lookup("splats").Usage = "take what a guest's kernel complains of " +
		"(warnings, oopses, sanitizers' reports ...) as `WHAT`:\nfail, warn, or allow (default: fail)"
	req.extras.addGuestFlags(flags)
	req.extras.addCold(flags)
	flags.Lookup("init").Usage = "boot without systemd, in a fraction of the time; `INIT` is sh"
	return cmd
}

func (w *checkFlags) addFlags(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringArrayVar(&w.breaks, "break", nil, "stop at `SYMBOL` or FILE:LINE (repeatable: a check for each)")
	flags.StringVar(&w.when, "when", "", "`WHEN` the breakpoint is looked for: boot (from the first instruction on) "+
		"or run (while the command runs; the default where there is one)")
	flags.StringVar(&w.by, "by", "", "stop only the process `NAME`, such as cat; others pass")
	flags.StringArrayVar(&w.expect, "expect", nil,
		"where it must stop: `PLACE` is FILE:LINE, or a function of the backtrace (repeatable)")
	flags.StringArrayVar(&w.print, "print", nil,
		"print the value of `EXPR` there; it may begin with a format, as in '/x flags' (repeatable)")
	flags.StringVar(&w.run, "run", "", "run the shell script `CMD` in the guest")
	flags.StringArrayVar(&w.only, "only", nil, "run only the check `NAME` of the file (repeatable)")
}

func (req *checkRequest) read(cmd *cobra.Command, w checkFlags, args []string) error {
	own := len(w.breaks)+len(w.expect)+len(w.print) > 0 || w.when != "" || w.by != "" || w.run != ""
	switch {
	case len(args) == 1 && own:
		return usageError{cmd, errors.New("--break, --when, --by, --expect, --print and --run make checks of their " +
			"own: want them or a file")}
	case len(args) == 0 && len(w.only) > 0:
		return usageError{cmd, errors.New("--only chooses from a file of checks: name the file")}
	case len(args) == 0 && len(w.breaks) == 0 && w.run == "":
		return usageError{cmd, errors.New("nothing to check: name a file of checks, or a symbol with --break, " +
			"or a command with --run")}
	}
	err := checkBreaks(cmd, w.breaks)
	if err != nil {
		return err
	}
	for _, expr := range w.print {
		if err := gdb.CheckExpression(expr); err != nil {
			return usageError{cmd, fmt.Errorf("--print: %w", err)}
		}
	}
	if len(args) == 1 {
		req.file = args[0]
		if req.list, err = checks.ReadFile(req.file); err != nil {
			return unreadable(cmd, req.file, err)
		}
	} else if req.list, err = w.checks(); err != nil {
		return err
	}
	for _, c := range req.list {
		req.all = append(req.all, c.Name)
	}
	if req.list, err = checks.Select(req.list, w.only); err != nil {
		return &spec.InputError{Field: "--only", Err: err}
	}
	req.applyFlags(cmd.Flags())
	return nil
}

// unreadable is the error of a file of checks that cannot be read. It may be a symbol.
func unreadable(cmd *cobra.Command, file string, err error) error {
	switch {
	case hasType[*checks.ProblemsError](err):
		return err
	case errors.Is(err, fs.ErrNotExist) && filepath.Base(file) == file && filepath.Ext(file) == "":
		return usageError{cmd, fmt.Errorf("there is no file %s: a symbol to stop at comes after --break", file)}
	}
	return usageError{cmd, err}
}

// checks makes a check of each breakpoint, or of the command alone.
func (w *checkFlags) checks() ([]checks.Check, error) {
	one := checks.Check{By: w.by, Print: w.print, Run: w.run}
	var err error
	if w.when != "" {
		if one.When, err = checks.ParseWhen(w.when); err != nil {
			return nil, &spec.InputError{Field: "--when", Err: err}
		}
	}
	for _, text := range w.expect {
		e, err := checks.ParseExpectation(text)
		if err != nil {
			return nil, &spec.InputError{Field: "--expect", Err: err}
		}
		one.Expect = append(one.Expect, e)
	}
	breaks := w.breaks
	if len(breaks) == 0 {
		breaks = []string{""}
	}
	var list []checks.Check
	seen := map[string]int{}
	for _, at := range breaks {
		c := one
		c.Break = at
		if c.Name = at; at == "" {
			c.Name = shorten(w.run)
		}
		if seen[c.Name]++; seen[c.Name] > 1 {
			c.Name = fmt.Sprintf("%s (%d)", c.Name, seen[c.Name])
		}
		if err := c.Complete(); err != nil {
			return nil, &spec.InputError{Field: "check", Err: err}
		}
		list = append(list, c)
	}
	return list, nil
}

func shorten(script string) string {
	line, _, more := strings.Cut(strings.TrimSpace(script), "\n")
	if runes := []rune(line); len(runes) > 40 {
		line, more = string(runes[:40]), true
	}
	if line = progress.Clean(line); more {
		line += "..."
	}
	return line
}

// applyFlags has the given flags override the checks. --append comes behind the file's: the kernel takes the last.
func (req *checkRequest) applyFlags(flags *pflag.FlagSet) {
	for i := range req.list {
		c := &req.list[i]
		c.Guest.Append = strings.TrimSpace(c.Guest.Append + " " + req.append)
		if flags.Changed("memory") || c.Guest.Memory == 0 {
			c.Guest.Memory = req.memory
		}
		if flags.Changed("cpus") || c.Guest.CPUs == 0 {
			c.Guest.CPUs = req.cpus
		}
		if flags.Changed("timeout") || c.Timeout == 0 {
			c.Timeout = req.timeout
		}
		c.Guest.Direct = c.Guest.Direct || req.extras.init != ""
		c.Splats = cmp.Or(checks.Policy(req.splats), c.Splats)
	}
	req.timeout = 0
}

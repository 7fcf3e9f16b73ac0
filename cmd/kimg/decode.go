package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/decode"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/splat"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/cobra"
)

type decodeRequest struct {
	guest
	json bool
}

func (a *app) decode() *cobra.Command {
	req := decodeRequest{guest: a.guest()}
	cmd := &cobra.Command{
		Use:   "decode [FILE | -]",
		Short: "Find what a kernel complains of in its log, and where in the source that is",
		Long: `Read a kernel's log (a serial console's, dmesg's, syslog's or journalctl's) from FILE or
stdin, and print what the kernel complains of: warnings, oopses, what the sanitizers,
lockdep and the watchdogs report, panics. Each frame gets its file and line, and what
was inlined there, from the vmlinux and the modules of the last build.

A log of another kernel is told by its version, or by its build ID where the kernel
writes one. Then only functions that have the same size in this build get places, and
they may be wrong.`,
		Example: `  kimg decode console.log
  dmesg | kimg decode --out ../build
  kimg decode --json reports/boots/console.log | jq -r '.reports[].key'`,
		Args: atMost(1, ": want one log"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := req.find(cmd.Flags(), "."); err != nil {
				return err
			}
			name := "-"
			if len(args) == 1 {
				name = args[0]
			}
			return a.decodeLog(name, req)
		},
	}
	cmd.Flags().StringVar(&req.out, "out", req.out, "take the vmlinux and the modules in `DIR`")
	cmd.Flags().BoolVar(&req.json, "json", false, "print JSON")
	return cmd
}

// decodedReport is a report of kimg decode --json.
type decodedReport struct {
	*splat.Report
	Match   *decode.Match `json:"match,omitempty"` // none: there is nothing to decode with
	Problem string        `json:"problem,omitempty"`
}

// decoded is what kimg decode --json prints.
type decoded struct {
	Version int             `json:"version"` // of this format: 1
	Log     string          `json:"log"`
	Reports []decodedReport `json:"reports"`
	Dropped int             `json:"dropped,omitempty"` // reports that were too many to be kept
}

func (a *app) decodeLog(name string, req decodeRequest) error {
	in := io.Reader(a.stdin)
	if name != "-" {
		f, err := reading.Open(name)
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		defer f.Close()
		in = f
	}
	log := bufio.NewReader(in)
	if err := asText(log, name); err != nil {
		return err
	}
	var reader splat.Reader
	if _, err := io.Copy(&reader, log); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	_ = reader.Close() // it never fails
	build, err := decode.Open(req.out)
	if errors.Is(err, fs.ErrNotExist) {
		missing := &vm.MissingArtifactError{Dir: req.out, File: "vmlinux"}
		fmt.Fprintf(a.stderr, "kimg: %v: places in the source are left out\n  hint: %s\n", missing, missing.Hint())
	} else if err != nil {
		return err
	} else {
		defer build.Close()
	}
	all := decoded{Version: 1, Log: name, Reports: []decodedReport{}, Dropped: reader.Dropped()}
	said := map[string]bool{}
	for _, r := range reader.Reports() {
		one := decodedReport{Report: r}
		if build != nil {
			match := build.Match(r, reader.Banner())
			one.Match = &match
			if match.Why != "" && !said[match.Why] && !req.json {
				said[match.Why] = true
				fmt.Fprintf(a.stderr, "kimg: %s\n", progress.Clean(match.Why))
			}
			if err := build.Fill(r); err != nil {
				one.Problem = err.Error()
			}
		}
		all.Reports = append(all.Reports, one)
	}
	if req.json {
		return a.printJSON("the reports", all)
	}
	for i, r := range all.Reports {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		for _, line := range r.Lines() {
			if _, err := fmt.Fprintln(a.stdout, progress.Clean(line)); err != nil {
				return fmt.Errorf("print the reports: %w", err)
			}
		}
		if r.Problem != "" {
			fmt.Fprintf(a.stderr, "kimg: %s\n", progress.CleanText(r.Problem))
		}
	}
	switch {
	case len(all.Reports) > 0:
	case reader.Trace() > 0:
		fmt.Fprintf(a.stderr, "kimg: no report is found in this log, though line %d has a call trace: of a dump that "+
			"was asked for (sysrq), or in a form of log that kimg does not read\n", reader.Trace())
	default:
		fmt.Fprintln(a.stderr, "kimg: the kernel complains of nothing in this log")
	}
	if all.Dropped > 0 {
		fmt.Fprintf(a.stderr, "kimg: %d more reports are left out\n", all.Dropped)
	}
	return nil
}

// formsOfLogs are what a log may begin with that is no text yet, and what makes it one.
var formsOfLogs = []struct{ magic, what, by string }{
	{"\x1f\x8b", "compressed by gzip", "zcat"},
	{"\xfd7zXZ", "compressed by xz", "xzcat"},
	{"\x28\xb5\x2f\xfd", "compressed by zstd", "zstdcat"},
	{"BZh", "compressed by bzip2", "bzcat"},
	{"\xff\xfe", "in UTF-16", "iconv -f UTF-16 -t UTF-8"},
	{"\xfe\xff", "in UTF-16", "iconv -f UTF-16 -t UTF-8"},
}

// asText is an error for a log that is no text.
func asText(log *bufio.Reader, name string) error {
	first, _ := log.Peek(5) // an error of reading comes again
	for _, form := range formsOfLogs {
		if bytes.HasPrefix(first, []byte(form.magic)) {
			file := name
			if name == "-" {
				file = "FILE"
			}
			return &spec.InputError{Field: "decode",
				Err: &notTextError{name, form.what, form.by + " " + file + " | kimg decode -"}}
		}
	}
	return nil
}

// notTextError says that a log has to be made text first.
type notTextError struct{ name, what, by string }

func (e *notTextError) Error() string {
	return fmt.Sprintf("read the log %s: it is %s", e.name, e.what)
}

// Hint says what can be done.
func (e *notTextError) Hint() string { return e.by }

// complaints listens to a guest's console for what its kernel complains of.
type complaints struct {
	g *guest

	mu     sync.Mutex // the console may still be read when the guest is given up
	reader splat.Reader
}

func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader.Write(p)
}

// reports are those of a guest that has ended, with their places in the source.
func (c *complaints) reports(out string) []*splat.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.reader.Close() // it never fails
	decode.FillAll(out, c.reader.Reports())
	return c.reader.Reports()
}

// watch has the options' guest be listened to.
func (g *guest) watch(o *vm.Options) *complaints {
	c := &complaints{g: g}
	o.Watch = c
	return c
}

// complainedError says that a kernel complained where it must not.
type complainedError struct{ reports []*splat.Report }

func (e *complainedError) Error() string {
	if n := len(e.reports); n > 1 {
		return fmt.Sprintf("the guest's kernel complained %d times", n)
	}
	return "the guest's kernel complained"
}

func (e *complainedError) Hint() string {
	return "--splats warn tells it and keeps the command's exit status"
}

// tell writes to stderr what the kernel of the guest complained of. Where that must not be, it is an error.
func (c *complaints) tell(err error) error {
	policy := cmp.Or(checks.Policy(c.g.splats), checks.Warn)
	if policy == checks.Allow {
		return err
	}
	reports := c.reports(c.g.out)
	for _, r := range reports {
		lines := r.Lines()
		fmt.Fprintf(c.g.stderr, "kimg: the guest's kernel complained: %s\n", progress.Clean(lines[0]))
		for _, line := range lines[1:] {
			fmt.Fprintf(c.g.stderr, "  | %s\n", progress.Clean(line))
		}
	}
	if policy == checks.Fail && len(reports) > 0 && err == nil {
		return &complainedError{reports}
	}
	return err
}

// checkPolicy is an error for a value that --splats does not have.
func (g *guest) checkPolicy() error {
	if g.splats == "" {
		return nil
	}
	if _, err := checks.ParsePolicy(g.splats); err != nil {
		return &spec.InputError{Field: "--splats", Err: err}
	}
	return nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/vm"
)

// unmet is the outcome of checks that were not all met. The lines on stdout have said which.
type unmet struct{ failed, of, code int }

func (u unmet) Error() string { return fmt.Sprintf("%d of %d checks failed", u.failed, u.of) }

// checkGuest boots a guest for each check: one that stopped early has not been where the next check looks.
func checkGuest(ctx context.Context, env builder.Env, req checkRequest) (err error) {
	for _, name := range []string{req.junit, req.json} {
		if name == "" {
			continue
		}
		if err := checks.CheckReportFile(name); err != nil {
			return &spec.InputError{Field: "report", Err: err}
		}
	}
	req.gdb = slices.ContainsFunc(req.list, func(c checks.Check) bool { return c.Break != "" })
	o, err := req.options(ctx, env)
	defer req.closeEngine()
	if err != nil {
		return err
	}
	o.Stdin, o.Stdout, o.Stderr = nil, nil, nil // the guests do not get the terminal
	o.KeepItself = len(req.list) > 1            // the next check begins with it
	req.keepLater(env, &o, forCheck)
	plans := make(map[string]vm.Planned, len(req.list))
	var planned []vm.Planned
	for _, c := range req.list {
		p, err := req.plan(o, c)
		if err != nil {
			return err
		}
		plans[c.Name] = p
		planned = append(planned, p)
	}
	if err := req.preflight(ctx, env, planned); err != nil {
		return err
	}
	var keep *checks.Keeper
	if req.report != "" {
		if keep, err = checks.NewKeeper(req.report, req.all); err != nil {
			return &spec.InputError{Field: "--report", Err: err}
		}
		defer func() { err = errors.Join(err, keep.Close()) }()
	}
	req.takeTerminal() // from now on each check has a progress of its own
	text := &checks.Text{W: req.stdout, Backtraces: req.file == "", Paint: progress.Verdicts(req.stdout)}
	for _, c := range req.list {
		text.Names = append(text.Names, c.Name)
	}
	jobs := req.parallel
	if jobs == 0 && slices.ContainsFunc(planned, inTheWay) {
		jobs = 1
	} else if jobs == 0 {
		jobs = checks.Jobs(req.list, checks.ThisRoom())
	}
	jobs = min(jobs, len(req.list))
	screen := &checkScreen{req: req, say: sayOnce(), many: jobs > 1}
	if screen.many {
		screen.notice(fmt.Sprintf("%d checks at a time: --parallel 1 runs one after the other", jobs))
	}
	r := checks.Runner{
		Jobs: jobs,
		Guest: func(ctx context.Context, c checks.Check, s checks.Streams) checks.Seen {
			p := plans[c.Name]
			p.Options.Console, p.Options.Stdout, p.Options.Stderr = s.Console, s.Stdout, s.Stderr
			p.Options.Say = screen.notice
			heard := req.watch(&p.Options)
			result, made, err := req.runCheck(ctx, c, p)
			seen := seen(result, err)
			if made != nil {
				seen.Recording = made
			}
			seen.Splats = heard.reports(req.out)
			return seen
		},
		Begin: screen.begin,
		Ended: func(o checks.Outcome) {
			screen.end(o)
			text.Outcome(o)
		},
		FailFast: req.failFast, Keep: keep, Record: req.record, Kernel: kernelOf(req.out),
		Suite: cmp.Or(filepath.ToSlash(req.file), "kimg check"),
	}
	report, err := r.Run(ctx, req.list)
	if len(req.list) > 1 || req.file != "" {
		text.Summary(report)
	}
	if err := errors.Join(err, req.write(report)); err != nil {
		return err
	}
	return verdict(ctx, report)
}

// inTheWay says whether the guest of a check has something of this machine's that another one could want meanwhile.
func inTheWay(p vm.Planned) bool {
	o := p.Options
	return len(o.Network.Forwards)+len(o.QEMU) > 0 || o.Network.Mode == vm.TAPNet ||
		slices.ContainsFunc(o.Shares, func(s vm.Share) bool { return s.Write })
}

func verdict(ctx context.Context, report *checks.Report) error {
	if report.Interrupted {
		return context.Cause(ctx)
	}
	u := unmet{failed: report.Failed, of: len(report.Checks)}
	switch report.Cause() {
	case checks.KimgFault:
		return report.Fault()
	case checks.GuestFault:
		u.code = codeGuest
	case checks.Unmet:
		u.code = codeUnmet
	default:
		return nil
	}
	return u
}

func (req *checkRequest) plan(o vm.Options, c checks.Check) (vm.Planned, error) {
	req.extras.apply(&o, nil)
	o.Session = ""
	o.Append, o.Memory, o.CPUs, o.Direct = c.Guest.Append, c.Guest.Memory, c.Guest.CPUs, c.Guest.Direct
	for _, text := range c.Guest.Share {
		share, err := vm.ParseShare(text)
		if err != nil {
			problem := checks.Problem{File: req.file, Line: c.Line("share"), Err: fmt.Errorf("share: %w", err)}
			return vm.Planned{}, &checks.ProblemsError{Problems: []checks.Problem{problem}}
		}
		o.Shares = append(o.Shares[:len(o.Shares):len(o.Shares)], share)
	}
	p := vm.Planned{Options: o, Check: vm.Check{
		Break: c.Break, During: c.When == checks.WhenRun, By: c.By, Print: c.Print, Limit: c.Timeout}}
	if c.Run != "" {
		p.Check.Command = []string{"sh", "-ec", c.Run}
	}
	for _, e := range c.Expect {
		p.Places = append(p.Places, e.String())
	}
	return p, nil
}

// preflight reports everything that this build cannot do, before anything boots.
func (req *checkRequest) preflight(ctx context.Context, env builder.Env, planned []vm.Planned) error {
	wrong := req.unrecordable(planned)
	if wrong == nil {
		var err error
		if wrong, err = lookUp(ctx, env, planned); err != nil {
			return err
		}
	}
	var problems []checks.Problem
	for i, err := range wrong {
		if err == nil {
			continue
		}
		c, key := req.list[i], ""
		var unknown *gdb.NoBreakError
		if errors.As(err, &unknown) {
			if key = "break"; unknown.Expected {
				key = "expect"
			}
		}
		if req.file == "" && len(req.list) == 1 {
			return err // with its hint
		}
		if hint := (interface{ Hint() string })(nil); errors.As(err, &hint) && hint.Hint() != "" {
			err = fmt.Errorf("%w (%s)", err, hint.Hint())
		}
		problems = append(problems, checks.Problem{File: req.file, Line: c.Line(key), Err: err})
	}
	if len(problems) == 0 {
		return nil
	}
	return &checks.ProblemsError{Problems: problems}
}

func lookUp(ctx context.Context, env builder.Env, planned []vm.Planned) ([]error, error) {
	if !slices.ContainsFunc(planned, func(p vm.Planned) bool { return p.Check.Break != "" }) {
		return vm.Preflight(ctx, planned)
	}
	task := progress.Start(env.Sink, "preflight", "look up where to stop")
	wrong, err := vm.Preflight(ctx, planned)
	task.End(false, err)
	return wrong, err
}

func seen(r *vm.Result, err error) checks.Seen {
	s := checks.Seen{Console: r.Console, GDBLog: r.Log, Err: err}
	var guest *vm.GuestError
	s.Guest = errors.As(err, &guest)
	if r.Hit {
		s.Stop = &checks.Stop{Task: r.Task, Backtrace: r.Backtrace}
		for _, f := range r.Frames {
			s.Stop.Frames = append(s.Stop.Frames, checks.Frame(f))
		}
	}
	for _, v := range r.Values {
		s.Values = append(s.Values, checks.Value{Expression: v.Expr, Value: v.Text, Error: v.Err})
	}
	if r.Ran {
		s.Status = &r.Status
	}
	return s
}

func kernelOf(out string) string {
	m, err := outdir.Read(out)
	if err != nil {
		return ""
	}
	return m.Build.Kernel
}

func (req *checkRequest) write(report *checks.Report) error {
	one := func(name string, encode func() ([]byte, error)) error {
		if name == "" {
			return nil
		}
		b, err := encode()
		if err != nil {
			return fmt.Errorf("write report %s: %w", name, err)
		}
		return checks.WriteReport(name, b)
	}
	return errors.Join(one(req.junit, report.JUnit), one(req.json, report.JSON))
}

// checkScreen shows the check that runs, and leaves the terminal for the line of its verdict. Of several that run at
// once it shows the notices.
type checkScreen struct {
	req  checkRequest
	many bool
	mu   sync.Mutex // for say
	say  func(string) bool
	sink progress.Renderer
	task *progress.Task
}

func (s *checkScreen) begin(c checks.Check) io.Writer {
	if s.many {
		return nil
	}
	sink, err := s.req.progress()
	if err != nil {
		return nil // it worked once before
	}
	s.sink = sink
	s.task = progress.Start(sink, "check "+c.Name, "check "+c.Name)
	return s.task.Log()
}

func (s *checkScreen) end(o checks.Outcome) {
	if s.task == nil {
		return // it was not run
	}
	s.sink.Close()
	var err error
	if o.Verdict != checks.Passed {
		err = errors.New(strings.Join(o.Reasons, "; "))
	}
	s.task.End(false, err)
	s.task = nil
}

// notice shows what is said about every guest only once.
func (s *checkScreen) notice(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.many && s.task == nil || !s.say(text):
	case !s.many:
		s.task.Say(text)
	default:
		if sink, err := s.req.progress(); err == nil {
			progress.Say(sink, text)
			sink.Close()
		}
	}
}

// sayOnce reports whether a text is a new one.
func sayOnce() func(string) bool {
	said := map[string]bool{}
	return func(text string) bool {
		fresh := !said[text]
		said[text] = true
		return fresh
	}
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/vm/why"
	"github.com/spf13/cobra"
)

// whyFormats are how kimg why can answer.
var whyFormats = []string{"text", "json", "html"}

// whyRequest asks what a recording ended by.
type whyRequest struct {
	guest
	name   string // empty: the newest
	wrote  string
	format string
	print  func(*why.Answer) error
}

func (a *app) why() *cobra.Command {
	req := whyRequest{guest: a.guest()}
	req.inContainer = true
	cmd := &cobra.Command{
		Use:   "why [NAME | FILE]",
		Short: "Find out by a recording who wrote what the kernel stumbled over",
		Long: `Go back in a recording (kimg run --record, kimg check --record) from the panic or the other
complaint that it ends by, and tell how it came to that: the instruction that went wrong, where
the bad value was loaded from, who wrote it there, who freed and who allocated the object. Each
has its stack with file, line and variables. Without a name it is the newest recording; FILE is
one that kimg recording export wrote.

The kernel's last panic is what is asked about, or else its last complaint. --wrote asks for a
variable of the kernel instead: who wrote it last.

What was found is kept beside the recording. Where the time was up, or kimg was ended, the same
command goes on from there.`,
		Example: `  kimg why
  kimg why crash --format html > why.html
  kimg why crash --wrote 'init_task.signal->nr_threads'
  kimg why reports/boots/recording.kimg-recording`,
		Args: atMost(1, ": want one recording"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := req.find(cmd.Flags(), "."); err != nil {
				return err
			}
			if !slices.Contains(whyFormats, req.format) {
				return &spec.InputError{Field: "--format",
					Err: fmt.Errorf("%q: want %s", req.format, strings.Join(whyFormats, ", "))}
			}
			if req.wrote != "" {
				if err := gdb.CheckExpression(req.wrote); err != nil {
					return &spec.InputError{Field: "--wrote", Err: err}
				}
			}
			req.name = strings.Join(args, "")
			req.print = func(answer *why.Answer) error { return a.printWhy(answer, req.format) }
			return a.withEnv(func(env builder.Env, done func()) error {
				req.takeTerminal = done
				return a.actions.why(cmd.Context(), env, req)
			})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&req.out, "out", req.out, "look in `DIR`")
	flags.StringVar(&req.wrote, "wrote", "", "ask who wrote the kernel's `VARIABLE` last, or a member of it")
	flags.StringVar(&req.format, "format", "text", "answer in `FORMAT`: text, json, or html, one page")
	flags.DurationVar(&req.timeout, "timeout", 0, "answer what was found within `TIME`, such as 90s (default: 10m)")
	return cmd
}

func (a *app) printWhy(answer *why.Answer, format string) error {
	switch format {
	case "json":
		return a.printJSON("the answer", answer)
	case "html":
		return answer.HTML(a.stdout)
	}
	for _, line := range answer.Lines() {
		if _, err := fmt.Fprintln(a.stdout, progress.Clean(line)); err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
	}
	return nil
}

func askWhy(ctx context.Context, env builder.Env, req whyRequest) error {
	if req.name == "" {
		var err error
		if req.name, err = newestRecording(req.out); err != nil {
			return err
		}
	}
	r, err := req.openRecording(ctx, env, req.name)
	if err != nil {
		return err
	}
	o, err := req.options(ctx, env)
	defer req.closeEngine()
	if err != nil {
		return err
	}
	task := progress.Start(env.Sink, "why", "ask why of "+r.Name())
	answer, err := why.Ask(ctx, o, r, why.Request{Expr: req.wrote, Limit: req.timeout}, counted(task),
		func(s why.Step) { task.Say(s.Headline()) })
	task.End(false, err)
	if err != nil {
		return err
	}
	req.takeTerminal()
	if err := req.print(answer); err != nil {
		return err
	}
	switch {
	case len(answer.Open) > 0 && len(answer.Steps) == 0:
		fmt.Fprintf(req.stderr, "kimg: the time was up before anything was found: --timeout gives it more (the first "+
			"time, a replay of the whole recording comes first)\n")
	case len(answer.Open) > 0:
		fmt.Fprintf(req.stderr, "kimg: the time was up; not looked for yet: %s. The same command goes on from there\n",
			progress.CleanText(strings.Join(answer.Open, ", ")))
	}
	return nil
}

// newestRecording is the name of the one that was made last.
func newestRecording(out string) (string, error) {
	list, err := recording.List(out)
	if err != nil {
		return "", err
	}
	list = slices.DeleteFunc(list, func(l recording.Listed) bool { return l.Err != nil || l.Busy })
	if len(list) == 0 {
		return "", &why.NothingError{Name: out, Reason: "there is none",
			Help: "kimg run --record NAME -- COMMAND makes one, and kimg check --record of each check that fails"}
	}
	newest := slices.MaxFunc(list, func(a, b recording.Listed) int { return a.Made.Compare(b.Made) })
	return newest.Name, nil
}

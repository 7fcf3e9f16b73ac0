// Package why answers, from the recording of a guest whose kernel complained, who wrote what it stumbled over, and
// when: begin with [Ask]. It goes back, as a person would in gdb, from where the kernel noticed to the instruction that
// went wrong, from there to where a register or memory got its value, to who wrote that, and to where the report's
// object was freed and allocated.
//
// It reads the instructions of x86-64. What it goes by are the instructions that were run, not those that could have
// been: breakpoints are set at all that give a register its value, and the one that is met first, backwards, did.
package why

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/decode"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/splat"
	"github.com/kimg/kimg/internal/vm"
	"github.com/kimg/kimg/internal/vm/replay"
)

// Answer is what was found.
type Answer struct {
	Version   int           `json:"version"` // of this format: 1
	Recording string        `json:"recording"`
	Command   []string      `json:"command"`
	Expr      string        `json:"expression,omitempty"` // the variable that was asked for
	Report    *splat.Report `json:"report,omitempty"`
	Others    []string      `json:"others,omitempty"` // the titles of the recording's other reports
	Steps     []Step        `json:"steps"`            // back in time, but for the beginning of a new question
	Open      []string      `json:"open,omitempty"`   // what was not looked for, as time was up
}

const answerVersion = 1

// Step is something that happened, and where.
type Step struct {
	Kind        Kind    `json:"kind"`
	What        string  `json:"what"`
	Icount      uint64  `json:"icount"`  // the number of the instruction, for kimg debug --at
	Seconds     float64 `json:"seconds"` // of the guest's time, from the beginning of the recording
	Task        string  `json:"task,omitempty"`
	Instruction string  `json:"instruction,omitempty"`
	Address     string  `json:"address,omitempty"`
	Symbol      string  `json:"symbol,omitempty"` // that the address is of
	Was         string  `json:"was,omitempty"`    // what was there, of a write
	Value       string  `json:"value,omitempty"`
	Frames      []Frame `json:"frames"` // the innermost first
}

// Frame is a function that was called and has not returned.
type Frame struct {
	Function string      `json:"function,omitempty"`
	File     string      `json:"file,omitempty"` // in the kernel's tree
	Line     int         `json:"line,omitempty"`
	Locals   []gdb.Local `json:"locals,omitempty"`
}

// Request says what to ask for.
type Request struct {
	Expr  string        // who wrote this variable last; empty: what the recording ended by
	Limit time.Duration // how long it may take; 0: [DefaultLimit]
}

// DefaultLimit is how long an answer may take.
const DefaultLimit = 10 * time.Minute

// errLimit is the cause of a context that ended at the limit.
var errLimit = errors.New("the time is up")

// NothingError says that there is nothing to be asked.
type NothingError struct{ Name, Reason, Help string }

func (e *NothingError) Error() string {
	return fmt.Sprintf("ask why of recording %s: %s", e.Name, e.Reason)
}

// Hint says what can be done.
func (e *NothingError) Hint() string { return e.Help }

// Ask finds out why. What is found is kept beside the recording: an answer that lacks something, as the time was up,
// goes on from there the next time. tell hears how far a replay is that has to go before, and found each step.
func Ask(
	ctx context.Context, o vm.Options, r *recording.Recording, q Request,
	tell func(done, all uint64), found func(Step),
) (_ *Answer, err error) {
	reports, err := replay.Reports(r)
	if err != nil {
		return nil, err
	}
	about := splat.Last(reports)
	switch {
	case q.Expr != "":
		about = nil
	case about == nil:
		return nil, &NothingError{r.Name(), "its kernel complained of nothing", "--wrote VARIABLE asks who wrote that"}
	}
	if !r.Explained() {
		return nil, &NothingError{r.Name(), "instructions of " + r.Arch + " are not read yet",
			"kimg debug --replay " + r.Name() + " goes through it by hand"}
	}
	decode.FillAll(r.Dir(), reports)
	k, err := load(r, q.Expr)
	if err != nil {
		return nil, err
	}
	k.about(r, about, reports)
	if k.Done() {
		return &k.Answer, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, q.limit(), errLimit)
	defer cancel()
	err = k.goOn(limited, o, r, about, tell, found)
	if errors.Is(context.Cause(limited), errLimit) && ctx.Err() == nil {
		err = nil // the answer says what is open
	}
	if err != nil {
		return nil, err
	}
	k.open()
	return &k.Answer, k.save(r)
}

func (q *Request) limit() time.Duration {
	if q.Limit > 0 {
		return q.Limit
	}
	return DefaultLimit
}

// about fills in what does not have to be found.
func (k *kept) about(r *recording.Recording, report *splat.Report, all []*splat.Report) {
	k.Recording, k.Command, k.Report, k.Others = r.Name(), r.Command, report, nil
	for _, other := range all {
		if other != report {
			k.Others = append(k.Others, other.String())
		}
	}
}

// goOn answers what is open.
func (k *kept) goOn(
	ctx context.Context, o vm.Options, r *recording.Recording, report *splat.Report,
	tell func(done, all uint64), found func(Step),
) (err error) {
	at := uint64(0)
	if k.Begun {
		at = k.Queue[0].Icount
	}
	g, err := replay.Enter(ctx, o, r, at, tell)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Leave(ctx)) }()
	var steps []Step // of what is being answered
	t := &tracer{g: g, root: g.SourceRoot(ctx), shift: r.Shift, keep: func(s Step) {
		steps = append(steps, s)
		found(s)
	}}
	if !k.Begun {
		queue, err := t.first(ctx, r, report, k.Expr)
		if err != nil && (fatal(ctx, err) || len(steps) == 0) {
			return err
		}
		k.Begun, k.Queue, k.Steps, steps = true, queue, append(k.Steps, steps...), nil
		k.open()
		if err := k.save(r); err != nil {
			return err
		}
	}
	for len(k.Queue) > 0 {
		if err := g.GoTo(ctx, k.Queue[0].Icount); err != nil {
			return err
		}
		more, err := t.follow(ctx, k.Queue[0])
		if err != nil {
			return err
		}
		k.Queue, k.Steps, steps = append(more, k.Queue[1:]...), append(k.Steps, steps...), nil
		k.open()
		if err := k.save(r); err != nil {
			return err
		}
	}
	return nil
}

// first shows what the report tells of, and returns the questions that it leaves; or the one for an expression.
func (t *tracer) first(
	ctx context.Context, r *recording.Recording, report *splat.Report, expr string,
) ([]question, error) {
	if expr != "" {
		return t.askFor(ctx, r, expr)
	}
	kernel, err := gdb.ReadSymbols(r.Path(artifact.Vmlinux))
	if err != nil {
		return nil, err
	}
	s, err := openScene(t, report, r.Dir())
	if err != nil {
		return nil, err
	}
	defer s.file.Close()
	err = s.begin(ctx, func(f string) bool { return slices.Contains(kernel.Functions, f) })
	return s.queue, err
}

// writersOfExpr is how many writes are told of a variable.
const writersOfExpr = 3

// isCode says whether an address is one of the kernel's instructions.
func (t *tracer) isCode(ctx context.Context, address uint64) bool {
	from, err := t.g.Number(ctx, "(unsigned long)&_stext")
	to, err2 := t.g.Number(ctx, "(unsigned long)&_etext")
	return errors.Join(err, err2) == nil && from <= address && address < to
}

// askFor is the question for a variable.
func (t *tracer) askFor(ctx context.Context, r *recording.Recording, expr string) ([]question, error) {
	address, err := t.g.Number(ctx, "&("+expr+")")
	size := uint64(0)
	if err == nil {
		size, err = t.g.Number(ctx, "sizeof("+expr+")")
	}
	if err == nil && t.isCode(ctx, address) {
		err = fmt.Errorf("%s is code", expr)
	}
	switch {
	case fatal(ctx, err):
		return nil, err
	case err != nil:
		return nil, &NothingError{r.Name(), err.Error(),
			"want a variable, or a member of one, at the end of the recording"}
	case !slices.Contains([]uint64{1, 2, 4, 8}, size):
		return nil, &NothingError{r.Name(), fmt.Sprintf("%s has %d bytes: want 1, 2, 4 or 8", expr, size),
			"name a member or an element of it"}
	}
	icount, err := t.g.Icount(ctx)
	return []question{{Icount: icount, What: expr, Address: address, Size: int(size), Writers: writersOfExpr}}, err
}

package progress

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/terminal"
)

// Renderer is a Sink that shows events to someone.
type Renderer interface {
	Sink
	// Aside runs do, which uses the terminal, while nothing else is shown.
	Aside(do func())
	// Close shows what is still to be shown; later events are not. It may be called more than once.
	Close()
}

// Modes are the values of New's mode, for help texts.
var Modes = []string{"auto", "live", "plain", "json", "quiet"}

// New returns the renderer that mode names, writing to w: "auto" is live on a terminal that can, else plain.
func New(mode string, w *os.File) (Renderer, error) {
	switch mode {
	case "auto":
		if terminal.Of(w).Is() && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != "" {
			return newLive(w, fileSize(w), localStyle(), 100*time.Millisecond), nil
		}
		return &plain{w: w}, nil
	case "live":
		if !terminal.Of(w).Is() {
			return nil, fmt.Errorf("show live progress: %s is not a terminal", w.Name())
		}
		return newLive(w, fileSize(w), localStyle(), 100*time.Millisecond), nil
	case "plain":
		return &plain{w: w}, nil
	case "quiet":
		return &plain{w: w, quiet: true}, nil
	case "json":
		return &jsonLines{enc: json.NewEncoder(w)}, nil
	}
	return nil, fmt.Errorf("unknown progress mode %q: want one of %s", mode, strings.Join(Modes, ", "))
}

// jsonLines writes each event as one line of JSON.
type jsonLines struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (j *jsonLines) Emit(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.enc.Encode(e) // where this fails there is nowhere left to report it
}

func (j *jsonLines) Aside(do func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	do()
}

func (j *jsonLines) Close() {}

// tailLines is how much of a failed step's log is shown with the failure.
const tailLines = 20

// running is what a renderer remembers of a step that has not ended.
type running struct {
	step, title string
	begun       time.Time
	amount      Event
	tail        []string // the last lines, cleaned, oldest first
	shown       time.Time
}

func (r *running) log(line string) {
	if line = Clean(line); strings.TrimSpace(line) == "" {
		return
	}
	if len(r.tail) == tailLines {
		r.tail = append(r.tail[:0], r.tail[1:]...)
	}
	r.tail = append(r.tail, line)
}

func (r *running) lastLine() string {
	if len(r.tail) == 0 {
		return ""
	}
	return strings.TrimSpace(r.tail[len(r.tail)-1])
}

// track folds an event into the running steps, in order of their start, and returns the one that it ended.
func track(steps []*running, e Event) ([]*running, *running) {
	at := -1
	for i, r := range steps {
		if r.step == e.Step {
			at = i
		}
	}
	switch {
	case e.Kind == Started && at < 0:
		steps = append(steps, &running{step: e.Step, title: titleOf(e), begun: e.Time, shown: e.Time})
	case at < 0:
	case e.Kind == Log:
		steps[at].log(e.Text)
	case e.Kind == Amount:
		steps[at].amount = e
	case e.Kind == Ended:
		ended := steps[at]
		return append(steps[:at:at], steps[at+1:]...), ended
	}
	return steps, nil
}

func titleOf(e Event) string { return Clean(cmp.Or(e.Title, e.Step)) }

// failure writes the last lines of a failed step's log and where the rest is, unless its error tells all.
func failure(w io.Writer, s style, ended *running, e Event) {
	if e.Whole {
		return
	}
	logFile := e.LogFile
	if ended != nil {
		for _, line := range ended.tail {
			fmt.Fprintf(w, "  %s %s\n", s.dim("|"), line)
		}
	}
	if logFile != "" {
		fmt.Fprintf(w, "  whole log: %s\n", Clean(logFile))
	}
}

// Duration is short and steady: 3.2s, 32s, 1m02s, 1h02m.
func Duration(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// amount reads "12.5/33.0 MB 37%", "120/5678 objects 2%" or, with no known total, "12.5 MB".
func amount(e Event) string {
	if e.Done == 0 && e.Total == 0 {
		return ""
	}
	count, unit := func(n int64) string { return fmt.Sprint(n) }, e.Unit
	if e.Unit == "bytes" {
		count, unit = func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }, "MB"
	}
	if e.Total <= 0 {
		return fmt.Sprintf("%s %s", count(e.Done), unit)
	}
	return fmt.Sprintf("%s/%s %s %d%%", count(e.Done), count(e.Total), unit,
		min(100, int64(float64(e.Done)/float64(e.Total)*100)))
}

// heartbeat is how often a running step is shown in plain mode: a CI system must not take the build for dead.
const heartbeat = time.Minute

// plain writes a line when a step starts, one when it ends, and one a minute between, only when given an event.
type plain struct {
	w     io.Writer
	style style
	quiet bool // warnings and failures only

	mu     sync.Mutex
	steps  []*running
	closed bool
}

func (p *plain) Emit(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	var ended *running
	p.steps, ended = track(p.steps, e)

	var b strings.Builder
	switch e.Kind {
	case Started:
		p.say(&b, "start  %s%s", titleOf(e), why(e.Why))
	case Ended:
		switch {
		case e.Stopped:
			p.say(&b, "stop   %s (%s)", titleOf(e), Duration(e.Elapsed))
		case e.Err != "":
			fmt.Fprintf(&b, "FAILED %s (%s)\n", titleOf(e), Duration(e.Elapsed))
			failure(&b, p.style, ended, e)
		case e.Cached:
			p.say(&b, "cached %s", titleOf(e))
		default:
			p.say(&b, "done   %s (%s)", titleOf(e), Duration(e.Elapsed))
		}
	case Notice:
		p.say(&b, "%s", CleanText(e.Text))
	case Warning:
		fmt.Fprintf(&b, "warning: %s\n", CleanText(e.Text))
	case Log, Amount:
		for _, r := range p.steps {
			if r.step == e.Step && e.Time.Sub(r.shown) >= heartbeat {
				r.shown = e.Time
				p.say(&b, "%s", strings.Join(nonEmpty(
					fmt.Sprintf("still  %s (%s)", r.title, Duration(e.Time.Sub(r.begun))),
					amount(r.amount), r.lastLine()), "  "))
			}
		}
	}
	if b.Len() > 0 {
		_, _ = io.WriteString(p.w, b.String()) // as in jsonLines
	}
}

func (p *plain) say(b *strings.Builder, format string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(b, format+"\n", args...)
	}
}

func (p *plain) Aside(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
}

func (p *plain) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func why(s string) string {
	if s == "" {
		return ""
	}
	return ": " + Clean(s)
}

func nonEmpty(parts ...string) []string {
	var out []string
	for _, s := range parts {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

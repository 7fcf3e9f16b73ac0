package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// heartbeat is how often a running step that has something to tell is shown in
// plain mode: often enough that a CI system does not take the build for dead.
const heartbeat = time.Minute

// plain writes one line when a step starts, one when it ends, and one a minute between. It writes only when it is
// given an event, so what it writes depends on the events alone.
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
			failure(&b, p.style, ended, e.LogFile)
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

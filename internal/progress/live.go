package progress

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
)

// live keeps the running steps in the last rows of a terminal, two rows each: time, title and amount, then the last
// log line. What has ended scrolls away above them as plain lines. It asks for the terminal's size at every frame
// instead of listening for SIGWINCH: a frame is due in a tenth of a second anyway.
//
// A multi-bar library was weighed against this: bars were not wanted, and none
// of those looked at clears what a terminal reflows when it is made narrower.
type live struct {
	out   io.Writer
	size  func() (width, height int) // columns and rows
	style style

	mu     sync.Mutex
	steps  []*running
	above  bytes.Buffer // lines that wait to be written above the running steps
	closed bool
	aside  bool // the running steps are off the screen

	drawing sync.Mutex // held for a frame, and while something else uses the terminal

	// Of the drawing goroutine, and after it of Close.
	frame int
	drawn []int // columns of each row of the last frame

	stop    chan struct{}
	stopped chan struct{}
}

// newLive draws every interval; with interval 0 only draw does.
func newLive(out io.Writer, size func() (int, int), s style, interval time.Duration) *live {
	l := &live{out: out, size: size, style: s, stop: make(chan struct{}), stopped: make(chan struct{})}
	if interval == 0 {
		close(l.stopped)
		return l
	}
	go func() {
		defer close(l.stopped)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				l.draw(now)
			case <-l.stop:
				return
			}
		}
	}()
	return l
}

// Emit only notes the event: a terminal that is held (Ctrl-S) must not hold a build.
func (l *live) Emit(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	var ended *running
	l.steps, ended = track(l.steps, e)
	switch e.Kind {
	case Ended:
		l.ended(e, ended)
	case Notice:
		fmt.Fprintln(&l.above, CleanText(e.Text))
	case Warning:
		fmt.Fprintf(&l.above, "%s %s\n", l.style.yellow("warning:"), CleanText(e.Text))
	}
}

// timeColumn holds "59m59s", "23h59m" and "cached".
const timeColumn = 6

func (l *live) ended(e Event, ended *running) {
	s := l.style
	switch {
	case e.Stopped:
		fmt.Fprintf(&l.above, "%s %*s  %s (stopped)\n", s.yellow("-"), timeColumn, Duration(e.Elapsed), titleOf(e))
	case e.Err != "":
		fmt.Fprintf(&l.above, "%s %*s  %s %s\n", s.red(s.pick("✗", "x")), timeColumn, Duration(e.Elapsed),
			titleOf(e), s.red("FAILED"))
		failure(&l.above, s, ended, e)
	case e.Cached:
		fmt.Fprintf(&l.above, "%s %*s  %s\n", s.green(s.pick("✓", "+")), timeColumn, "cached", titleOf(e))
	default:
		fmt.Fprintf(&l.above, "%s %*s  %s\n", s.green(s.pick("✓", "+")), timeColumn, Duration(e.Elapsed), titleOf(e))
	}
}

// Aside takes the running steps off the screen. Events are noted meanwhile, and shown after it.
func (l *live) Aside(do func()) {
	l.show(true)
	l.draw(time.Now())
	l.drawing.Lock()
	defer l.drawing.Unlock()
	do()
	l.show(false)
}

func (l *live) show(aside bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aside = aside
}

// Close draws what has ended, takes the running steps off the screen and leaves the cursor on an empty line.
func (l *live) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed, l.steps = true, nil
	l.mu.Unlock()
	close(l.stop)
	<-l.stopped
	l.draw(time.Now())
}

// The control sequences of ECMA-48 and DEC that a frame is made of.
const (
	clearRight = "\x1b[K"
	clearBelow = "\x1b[J"
	wrapOff    = "\x1b[?7l"
	wrapOn     = "\x1b[?7h"
)

// draw writes one frame in one write, so that no half frame is ever seen.
func (l *live) draw(now time.Time) {
	l.drawing.Lock()
	defer l.drawing.Unlock()
	width, height := l.size()

	l.mu.Lock()
	above := l.above.String()
	l.above.Reset()
	rows := l.rows(now, width, height)
	if l.aside {
		rows = nil
	}
	l.mu.Unlock()

	if above == "" && len(rows) == 0 && len(l.drawn) == 0 {
		return
	}
	var frame strings.Builder
	if n := rowsOnScreen(l.drawn, width); n > 0 {
		fmt.Fprintf(&frame, "\r\x1b[%dA", n)
	}
	if above != "" {
		// Lines of any length follow: clearing to the right of one that ends in the last column would take its end.
		frame.WriteString(clearBelow + above)
	}
	l.drawn = l.drawn[:0]
	if len(rows) > 0 {
		// The rows were cut for a width that may change before they arrive.
		frame.WriteString(wrapOff)
		for _, r := range rows {
			l.drawn = append(l.drawn, runewidth.StringWidth(r.text))
			text := r.text
			if r.dim {
				text = l.style.dim(text)
			}
			frame.WriteString(text + clearRight + "\n")
		}
		frame.WriteString(wrapOn)
	}
	frame.WriteString(clearBelow)
	l.frame++
	_, _ = io.WriteString(l.out, frame.String()) // as in jsonLines
}

// rowsOnScreen says how many rows the last frame takes after the terminal has wrapped its rows anew for this width.
func rowsOnScreen(drawn []int, width int) int {
	n := 0
	for _, columns := range drawn {
		n += max(1, (columns+width-1)/width)
	}
	return n
}

type row struct {
	text string
	dim  bool
}

// rows lays out the running steps. Where there is no room for all, log lines go first, then the youngest steps.
func (l *live) rows(now time.Time, width, height int) []row {
	room := max(1, height-2) // one for the cursor, one so that what scrolls is seen
	logs := 2*len(l.steps) <= room
	steps, hidden := l.steps, 0
	if len(steps) > room {
		steps, hidden = steps[:room-1], len(steps)-room+1
	}
	var rows []row
	add := func(text string, dim bool) {
		rows = append(rows, row{runewidth.Truncate(text, max(1, width-1), l.style.pick("…", "~")), dim})
	}
	for _, r := range steps {
		head := fmt.Sprintf("%s %*s  %s", l.style.spinner(l.frame), timeColumn, Duration(now.Sub(r.begun)), r.title)
		add(strings.Join(nonEmpty(head, amount(r.amount)), "  "), false)
		if last := r.lastLine(); logs && last != "" {
			add(strings.Repeat(" ", timeColumn+4)+last, true)
		}
	}
	if hidden > 0 {
		add(fmt.Sprintf("  %*s  and %d more", timeColumn, "", hidden), false)
	}
	return rows
}

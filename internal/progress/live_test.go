package progress

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// screen is a terminal of one line feed discipline (LF goes to column 0, as a
// tty's ONLCR makes it), wide characters left out. It knows the sequences that
// live uses and fails the test on others.
type screen struct {
	t             *testing.T
	width, height int
	rows          [][]rune
	top           int // first row that is visible; those above have scrolled away
	y, x          int
	nowrap        bool
}

var sequence = regexp.MustCompile(`^\x1b\[\??(\d*)([A-Za-z])`)

func (s *screen) Write(p []byte) (int, error) {
	for b := p; len(b) > 0; {
		for len(s.rows) <= s.y {
			s.rows = append(s.rows, nil)
		}
		s.top = max(s.top, len(s.rows)-s.height)
		if m := sequence.FindSubmatch(b); m != nil {
			n, _ := strconv.Atoi(string(m[1]))
			switch string(m[2]) {
			case "A":
				if s.y-n < s.top {
					s.t.Errorf("cursor up by %d from row %d, out of a screen that begins at %d", n, s.y, s.top)
				}
				s.y = max(s.y-n, s.top)
			case "K":
				s.rows[s.y] = s.rows[s.y][:min(s.x, len(s.rows[s.y]))]
			case "J":
				s.rows[s.y] = s.rows[s.y][:min(s.x, len(s.rows[s.y]))]
				s.rows = s.rows[:s.y+1]
			case "h", "l":
				s.nowrap = string(m[2]) == "l"
			case "m":
			default:
				s.t.Errorf("unknown sequence %q", m[0])
			}
			b = b[len(m[0]):]
			continue
		}
		r, size := utf8.DecodeRune(b)
		b = b[size:]
		switch {
		case r == '\n':
			s.y, s.x = s.y+1, 0
			continue
		case r == '\r':
			s.x = 0
			continue
		case s.x >= s.width && s.nowrap:
			s.x = s.width - 1
		case s.x >= s.width:
			s.y, s.x = s.y+1, 0
			b = append([]byte(string(r)), b...)
			continue
		}
		for len(s.rows[s.y]) <= s.x {
			s.rows[s.y] = append(s.rows[s.y], ' ')
		}
		s.rows[s.y][s.x] = r
		s.x++
	}
	return len(p), nil
}

// narrow reflows all rows for a smaller width, as terminals do.
func (s *screen) narrow(width int) {
	var rows [][]rune
	y := 0
	for i, r := range s.rows {
		if i == s.y {
			y = len(rows)
		}
		for len(r) > width {
			rows, r = append(rows, r[:width:width]), r[width:]
		}
		rows = append(rows, r)
	}
	s.rows, s.y, s.width = rows, max(y, s.y), width
	s.top = max(0, len(s.rows)-s.height)
}

func (s *screen) String() string {
	var b strings.Builder
	for _, r := range s.rows {
		b.WriteString(strings.TrimRight(string(r), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func newScreen(t *testing.T, width, height int) (*screen, *live) {
	s := &screen{t: t, width: width, height: height}
	return s, newLive(s, func() (int, int) { return s.width, s.height }, style{unicode: true}, 0)
}

// TestLive draws a frame after every event but the log lines and keeps those
// that differ.
func TestLive(t *testing.T) {
	s, l := newScreen(t, 50, 12)
	var film strings.Builder
	events := build()
	for i, e := range events {
		l.Emit(e)
		if e.Kind == Log && i+1 < len(events) && events[i+1].Kind == Log {
			continue
		}
		l.frame = 0
		l.draw(e.Time)
		fmt.Fprintf(&film, "--- %s %s\n%s", e.Kind, e.Step, s)
	}
	l.Close()
	fmt.Fprintf(&film, "--- closed\n%s", s)
	golden(t, "live.txt", film.String())
}

func TestLiveOnALowScreen(t *testing.T) {
	s, l := newScreen(t, 40, 5)
	for i := range 6 {
		l.Emit(Event{Kind: Started, Time: at(0), Step: fmt.Sprint(i), Title: fmt.Sprintf("Step %d", i)})
		l.Emit(Event{Kind: Log, Time: at(0), Step: fmt.Sprint(i), Text: "log"})
		l.frame = 0
		l.draw(at(1))
	}
	want := "⠋   1.0s  Step 0\n⠋   1.0s  Step 1\n          and 4 more\n"
	if got := s.String(); got != want {
		t.Errorf("screen is\n%swant\n%s", got, want)
	}
}

func TestLiveFollowsTheWidth(t *testing.T) {
	s, l := newScreen(t, 60, 20)
	l.Emit(Event{Kind: Notice, Time: at(0), Text: "above"})
	l.Emit(Event{Kind: Started, Time: at(0), Step: "k", Title: "Kernel with a rather long title"})
	l.Emit(Event{Kind: Log, Time: at(0), Step: "k", Text: strings.Repeat("long ", 20)})
	l.draw(at(1))
	for _, width := range []int{25, 13, 5, 1} {
		s.narrow(width)
		l.frame = 0
		l.draw(at(1))
		lines := strings.Split(strings.TrimSpace(s.String()), "\n")
		if n := len(lines); n != 3+(len("above")-1)/width {
			t.Errorf("at width %d the screen is\n%s", width, s)
		}
	}
	l.Close()
	if got := strings.ReplaceAll(s.String(), "\n", ""); got != "above" {
		t.Errorf("after Close the screen has %q", got)
	}
}

func TestLiveDrawsByItself(t *testing.T) {
	r, w := io.Pipe()
	got := make(chan string)
	go func() { b, _ := io.ReadAll(r); got <- string(b) }()
	l := newLive(w, func() (int, int) { return 80, 24 }, style{}, time.Millisecond)
	l.Emit(Event{Kind: Started, Time: time.Now(), Step: "k", Title: "Kernel"})
	time.Sleep(20 * time.Millisecond)
	l.Emit(Event{Kind: Ended, Time: time.Now(), Step: "k", Title: "Kernel", Elapsed: time.Second})
	l.Close()
	l.Close()
	l.Emit(Event{Kind: Notice, Text: "too late"})
	w.Close()
	out := <-got
	if !strings.Contains(out, "+   1.0s  Kernel\n") || strings.Contains(out, "too late") {
		t.Errorf("output is %q", out)
	}
}

func TestStyle(t *testing.T) {
	for _, k := range []string{"LC_ALL", "LC_CTYPE", "NO_COLOR"} {
		t.Setenv(k, "")
	}
	t.Setenv("LANG", "en_GB.UTF-8")
	if got := localStyle(); got != (style{colour: true, unicode: true}) {
		t.Errorf("UTF-8 locale: %+v", got)
	}
	t.Setenv("NO_COLOR", "1")
	t.Setenv("LC_ALL", "C")
	if got := localStyle(); got != (style{}) {
		t.Errorf("NO_COLOR in the C locale: %+v", got)
	}
	if got := (style{}).red("x"); got != "x" {
		t.Errorf("no colour paints %q", got)
	}
	if got := (style{colour: true}).red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("colour paints %q", got)
	}
}

// While something else has the terminal nothing is drawn on it, and events are not held up.
func TestLiveAside(t *testing.T) {
	s := &screen{t: t, width: 60, height: 10}
	l := newLive(s, func() (int, int) { return 60, 10 }, style{unicode: true}, 0)
	l.Emit(Event{Kind: Started, Step: "a", Title: "compile", Time: time.Unix(0, 0)})
	l.draw(time.Unix(1, 0))
	l.Aside(func() {
		if got := s.String(); strings.Contains(got, "compile") {
			t.Errorf("the running steps are there still: %q", got)
		}
		io.WriteString(s, "Go on? [y/N] y\n")
		l.Emit(Event{Kind: Warning, Text: "meanwhile"})
		if l.drawing.TryLock() {
			t.Error("a frame may be drawn over the question")
		}
	})
	l.draw(time.Unix(2, 0))
	got := s.String()
	if !strings.Contains(got, "Go on? [y/N] y\nwarning: meanwhile\n") || !strings.Contains(got, "compile") {
		t.Errorf("%q", got)
	}
}

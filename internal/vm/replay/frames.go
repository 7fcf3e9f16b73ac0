package replay

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// frames takes a recorded command's output apart, as [guest.Recorded] has it.
type frames struct {
	stdout, stderr io.Writer
	to             io.Writer // of the frame that is being read
	left           int       // of it
	line           []byte
	status         int    // of the command; -1: it has not ended
	reads          func() // the command reads the console from now on; may be nil
}

func newFrames(stdout, stderr io.Writer) *frames {
	return &frames{stdout: cmp.Or(stdout, io.Discard), stderr: cmp.Or(stderr, io.Discard), status: -1}
}

// The bounds of a frame's line and of a frame, in bytes.
const (
	maxFrameLine = 16
	maxFrame     = 64 << 10
)

func (f *frames) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			if _, err := f.to.Write(p[:n]); err != nil {
				return 0, fmt.Errorf("write the command's output: %w", err)
			}
			f.left, p = f.left-n, p[n:]
			continue
		}
		at := bytes.IndexByte(p, '\n')
		if at < 0 {
			at = len(p)
		}
		f.line = append(f.line, p[:at]...)
		if len(f.line) > maxFrameLine {
			return 0, broken(f.line)
		}
		if at == len(p) {
			break
		}
		p = p[at+1:]
		if err := f.begin(string(f.line)); err != nil {
			return 0, err
		}
		f.line = f.line[:0]
	}
	return all, nil
}

func (f *frames) begin(line string) error {
	kind, number, _ := strings.Cut(line, " ")
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return broken([]byte(line))
	}
	switch {
	case kind == "o" && n <= maxFrame:
		f.to, f.left = f.stdout, int(n)
	case kind == "e" && n <= maxFrame:
		f.to, f.left = f.stderr, int(n)
	case kind == "x" && n <= 255:
		f.status = int(n)
	case kind == "l" && n == 0:
		if f.reads != nil {
			f.reads()
			f.reads = nil
		}
	default:
		return broken([]byte(line))
	}
	return nil
}

func broken(line []byte) error {
	return fmt.Errorf("read the command's output: the guest said %.40q", line)
}

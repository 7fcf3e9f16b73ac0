package reading

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// LongLineError says that a line is longer than it may be.
type LongLineError struct{ Limit int } // bytes

func (e *LongLineError) Error() string { return fmt.Sprintf("a line has more than %d bytes", e.Limit) }

// Lines yields r's lines without their ends, the last one also where it has none. A line of more than limit bytes
// is skipped: a *LongLineError stands for it. Any other error is r's, and the last that is yielded.
func Lines(r io.Reader, limit int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := bufio.NewReader(r)
		var line []byte
		for {
			piece, err := in.ReadSlice('\n')
			if len(line) <= limit {
				line = append(line, piece...)
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			ended := err != nil
			switch text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")); {
			case len(text) > limit:
				if !yield("", &LongLineError{limit}) {
					return
				}
			case len(line) > 0:
				if !yield(string(text), nil) {
					return
				}
			}
			if ended {
				if !errors.Is(err, io.EOF) {
					yield("", err)
				}
				return
			}
			line = line[:0]
		}
	}
}

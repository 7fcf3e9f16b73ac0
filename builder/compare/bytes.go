package compare

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/kimg/kimg/internal/sparse"
)

type span struct{ from, to int64 }

// changes are the spans of two blobs up to the end of the shorter one.
type changes struct {
	spans []span
	bytes int64 // in the spans
}

const (
	chunk    = 256 << 10
	unit     = 4096    // bytes that are compared before single ones are
	gap      = 8       // equal bytes that do not end a span
	maxSpans = 1 << 20 // after these the last one grows
)

// differ finds where two blobs differ. Holes of two files are not read.
func differ(ctx context.Context, a, b blob) (changes, error) {
	var c changes
	size := min(a.size, b.size)
	x, y := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		from, to, err := data(a, b, at, size)
		if err != nil {
			return c, err
		}
		for at = from; at < to; {
			n := min(chunk, to-at)
			if err := errors.Join(readFull(a, x[:n], at), readFull(b, y[:n], at)); err != nil {
				return c, err
			}
			if !bytes.Equal(x[:n], y[:n]) {
				c.scan(x[:n], y[:n], at)
			}
			if at += n; ctx.Err() != nil {
				return c, ctx.Err()
			}
		}
	}
	return c, nil
}

func readFull(b blob, p []byte, at int64) error {
	n, err := b.r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// data is the next range that is not a hole in both. A blob that is not a whole file is all data.
func data(a, b blob, at, size int64) (from, to int64, err error) {
	if a.f == nil || b.f == nil {
		return at, size, nil
	}
	af, at1, err := sparse.Data(a.f, at, size)
	if err != nil {
		return 0, 0, err
	}
	bf, bt1, err := sparse.Data(b.f, at, size)
	if err != nil {
		return 0, 0, err
	}
	switch {
	case af < bf:
		return af, min(at1, max(bf, af+1)), nil
	case bf < af:
		return bf, min(bt1, max(af, bf+1)), nil
	}
	return af, min(at1, bt1), nil
}

func (c *changes) scan(x, y []byte, at int64) {
	for u := 0; u < len(x); u += unit {
		end := min(u+unit, len(x))
		if bytes.Equal(x[u:end], y[u:end]) {
			continue
		}
		for i := u; i < end; i++ {
			if x[i] != y[i] {
				c.add(at + int64(i))
			}
		}
	}
}

func (c *changes) add(at int64) {
	c.bytes++
	if k := len(c.spans); k > 0 && (at <= c.spans[k-1].to+gap || k >= maxSpans) {
		c.spans[k-1].to = at + 1
		return
	}
	c.spans = append(c.spans, span{at, at + 1})
}

// maxShown is how many places of a binary are reported one by one.
const maxShown = 8

// binary reports where the bytes of two blobs differ: the last resort.
func (r *Report) binary(t thing, a, b blob, s changes) {
	if a.size != b.size {
		r.report(t, "size", strconv.FormatInt(a.size, 10), strconv.FormatInt(b.size, 10), "")
	}
	for i, sp := range s.spans {
		if i == maxShown {
			r.report(t, "more bytes", fmt.Sprintf("%d ranges, %d bytes in all", len(s.spans), s.bytes), "", "")
			return
		}
		r.add(r.place(t, fmt.Sprintf("byte %#x", sp.from), a, b, sp))
	}
}

// place is the difference of two blobs at a span: in text if the span is in one.
func (r *Report) place(t thing, where string, a, b blob, sp span) Difference {
	d := Difference{Artifact: t.artifact, Where: t.at(where)}
	if x, y := textAround(a, sp), textAround(b, sp); x != "" && y != "" {
		d.A, d.B = strconv.Quote(x), strconv.Quote(y)
		d.Cause = first(causesOf(x, y))
		return d
	}
	x, y := window(a, sp), window(b, sp)
	d.A, d.B = hex.EncodeToString(x), hex.EncodeToString(y)
	if !pointer(a, sp) || !pointer(b, sp) {
		d.Cause = binaryCause(x, y)
	}
	return d
}

// window is up to 32 bytes from the aligned word on in which a span begins.
func window(b blob, sp span) []byte {
	from := sp.from &^ 3
	return b.part(from, min(32, max(4, (sp.to-from+3)&^3))).head(32)
}

// pointer reports whether a span begins in a word that is a kernel address: its lower half may look like a time.
func pointer(b blob, sp span) bool {
	w := b.part(sp.from&^7, 8).head(8)
	return len(w) == 8 && w[4] == 0xFF && w[5] == 0xFF && w[6] == 0xFF && w[7] == 0xFF
}

const (
	minString = 6    // bytes that make a string; strings(1) has a similar limit
	maxString = 1024 // bytes that are read on each side of a span
)

// textAround returns the printable string that a span is in, or "".
func textAround(b blob, sp span) string {
	from := max(0, sp.from-maxString)
	p := b.part(from, sp.to-from+maxString).head(2*maxString + 4096)
	at := int(sp.from - from)
	if at >= len(p) || !printable(p[at]) && (at == 0 || !printable(p[at-1])) {
		return ""
	}
	lo, hi := at, at
	for lo > 0 && printable(p[lo-1]) {
		lo--
	}
	for hi < len(p) && printable(p[hi]) {
		hi++
	}
	if hi-lo < minString || int64(hi)+from < min(sp.to, sp.from+maxString) {
		return ""
	}
	return string(p[lo:hi])
}

func printable(c byte) bool { return c >= ' ' && c < 0x7F || c == '\t' || c == '\n' }

// plausible reports whether a number may be a time from a clock: from 2000 to 2050.
func plausible(seconds int64) bool {
	return seconds >= 946_684_800 && seconds < 2_524_608_000
}

// near reports whether two times may come from the clocks of two builds. A machine's clock may be off by years.
func near(a, b int64) bool {
	d := time.Duration(a-b) * time.Second
	return a != b && d.Abs() < 10*365*24*time.Hour
}

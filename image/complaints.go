package image

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
)

// complaints passes a log on and remembers the first line in it that names an
// error, for the message that the user reads.
type complaints struct {
	w    io.Writer
	by   func(string) // gets what runs foreign programs, once emulate.sh says it; nil: it does not
	mu   sync.Mutex
	line []byte // begun and not ended
	hit  string
	end  string // the last whole line
}

// runBy begins the line of emulate.sh that says what runs foreign programs.
const runBy = "I: foreign programs are run by "

// marks begin the lines by which debootstrap, dpkg, tar and e2fsprogs complain.
var marks = [][]byte{[]byte("E: "), []byte("dpkg: error"), []byte("tar: "), []byte("mke2fs: "), []byte("e2fsck: ")}

func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range p {
		if b != '\n' {
			if len(c.line) < 400 {
				c.line = append(c.line, b)
			}
			continue
		}
		isMark := func(m []byte) bool { return bytes.HasPrefix(c.line, m) }
		if c.hit == "" && (slices.ContainsFunc(marks, isMark) || bytes.HasSuffix(c.line, []byte(noForeign))) {
			c.hit = string(c.line)
		}
		if by, ok := bytes.CutPrefix(c.line, []byte(runBy)); ok && c.by != nil {
			c.by(string(by))
		}
		if len(c.line) > 0 {
			c.end = string(c.line)
		}
		c.line = c.line[:0]
	}
	return c.w.Write(p)
}

// last is the last line, for programs that say what is wrong at their end, or nothing.
func (c *complaints) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if end := cmp.Or(string(c.line), c.end); end != "" {
		return fmt.Sprintf(" (%s)", end)
	}
	return ""
}

// first is ": line" or nothing.
func (c *complaints) first() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hit == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", c.hit)
}

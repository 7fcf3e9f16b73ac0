package image

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
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

	near   []string // the last lines
	failed *ScriptError
}

// ScriptError is a script of a package that failed.
type ScriptError struct {
	Package string
	Why     string   // as dpkg says it
	Said    []string // its last lines
	Err     error    // of debootstrap
}

func (e *ScriptError) Error() string {
	text := "set up the package " + e.Package + ": " + e.Why
	if len(e.Said) > 0 {
		text += "; the script's last lines:\n  " + strings.Join(e.Said, "\n  ")
	}
	return text
}

func (e *ScriptError) Unwrap() error { return e.Err }

// Hint says what there is for scripts.
func (e *ScriptError) Hint() string {
	return "leave " + e.Package + " out of --include, or mend its script, which runs without a network, services, " +
		"devices and mounts; what needs these is installed in the guest: kimg run --write -- apt-get install"
}

// script reads what dpkg says of scripts that fail: of the first, the others follow from it.
func (c *complaints) script(line string) {
	const most = 6
	if c.failed != nil && c.failed.Why == "" {
		c.failed.Why = strings.TrimSpace(line)
	}
	rest, ok := strings.CutPrefix(line, "dpkg: error processing package ")
	if name, _, cut := strings.Cut(rest, " ("); ok && cut && c.failed == nil {
		c.failed = &ScriptError{Package: name, Said: slices.Clone(c.near)}
	}
	if strings.HasPrefix(line, "Setting up ") || strings.HasPrefix(line, "Unpacking ") {
		c.near = nil
		return
	}
	if c.near = append(c.near, line); len(c.near) > most {
		c.near = c.near[1:]
	}
}

// because is err with the script that failed, where one did, or with the first complaint.
func (c *complaints) because(err error) error {
	c.mu.Lock()
	failed := c.failed
	c.mu.Unlock()
	if failed != nil && failed.Why != "" {
		return &ScriptError{failed.Package, failed.Why, failed.Said, err}
	}
	return fmt.Errorf("%w%s", err, c.first())
}

// runBy begins the line of emulate.sh that says what runs foreign programs.
const runBy = "I: foreign programs are run by "

// noForeign begins the line of emulate.sh that says why nothing does.
const noForeign = "E: foreign programs cannot be run: "

// noForeign is why no foreign program runs; empty: that is not what was wrong.
func (c *complaints) noForeign() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	why, _ := strings.CutPrefix(c.hit, noForeign)
	if why == c.hit {
		return ""
	}
	return why
}

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
		if c.hit == "" && slices.ContainsFunc(marks, isMark) {
			c.hit = string(c.line)
		}
		if by, ok := bytes.CutPrefix(c.line, []byte(runBy)); ok && c.by != nil {
			c.by(string(by))
		}
		if len(c.line) > 0 {
			c.end = string(c.line)
			c.script(c.end)
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

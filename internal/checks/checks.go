// Package checks is kimg's test runner: what a check is, a file of them ([ReadFile]), the verdict on what a guest
// did ([Runner]), and the reports. The Runner gets a function that boots a guest and does what the check says.
package checks

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/kimg/kimg/internal/units"
)

// Check is one test: a guest is booted for it and ended after it.
type Check struct {
	Name    string
	Break   string        // where the guest must stop; empty: nowhere
	When    When          // empty where there is no breakpoint
	By      string        // the name of the process that must stop there; empty: any
	Expect  []Expectation // what must be so where it stopped
	Print   []string      // expressions to be evaluated there
	Run     string        // a shell script that must end with status 0 in the guest; empty: none
	Timeout time.Duration // from start to end; 0: the default of whatever boots the guest
	Guest   Guest
	Splats  Policy    // on what the kernel complains of; empty: Fail
	Allow   []Allowed // what is none all the same

	lines map[string]int // where its keys are in the file; "" is the check itself
}

// When says when a breakpoint is looked for.
type When string

// A breakpoint is looked for from the first instruction on, before the script; or while the script runs.
const (
	AtBoot  When = "boot"
	WhenRun When = "run"
)

// Guest is what is special about a check's guest. A zero field has the default of whatever boots it.
type Guest struct {
	Append string // added to the kernel's command line
	Memory units.Size
	CPUs   int
	Direct bool     // boot without systemd
	Share  []string // directories that the guest sees, as kimg run --share has them
}

// minMemory is less than any kernel boots in: a smaller size was meant in another unit.
const minMemory = units.Size(32 << 20)

// CheckMemory is an error for what cannot be a guest's memory.
func CheckMemory(size units.Size) error {
	if size >= minMemory {
		return nil
	}
	text := size.String()
	if strings.Trim(text, "0123456789") == "" {
		text += " bytes"
	}
	return fmt.Errorf("%s: want at least %s, such as 512M", text, minMemory)
}

// over returns the guest with g over base; words for the kernel and shared directories are joined.
func (g Guest) over(base Guest) Guest {
	g.Append = strings.TrimSpace(base.Append + " " + g.Append)
	g.Memory, g.CPUs = cmp.Or(g.Memory, base.Memory), cmp.Or(g.CPUs, base.CPUs)
	g.Direct = g.Direct || base.Direct
	g.Share = append(append([]string(nil), base.Share...), g.Share...)
	return g
}

// Line is where in its file a key of the check is, else the check itself; 0: there is no file.
func (c *Check) Line(key string) int {
	if line, ok := c.lines[key]; ok {
		return line
	}
	return c.lines[""]
}

// problem is a reason why a check is invalid, and the key that it is about.
type problem struct {
	key string
	err error
}

// Complete fills in what follows from the rest, and is an error where the check is invalid.
func (c *Check) Complete() error {
	if p := c.complete(); p != nil {
		return p.err
	}
	return nil
}

func (c *Check) complete() *problem {
	switch {
	case c.Name == "":
		return &problem{"", fmt.Errorf("a check has no name")}
	case len(c.Name) > maxName || strings.ContainsFunc(c.Name, unicode.IsControl):
		return &problem{"name", fmt.Errorf("name a check %.40q: want one line of %d bytes at most", c.Name, maxName)}
	case c.Break == "" && c.Run == "":
		return &problem{"", fmt.Errorf("check %q has nothing to check: want break, run or both", c.Name)}
	case c.Break == "" && len(c.Expect) > 0:
		return &problem{"expect", fmt.Errorf("check %q expects a stop: it needs break", c.Name)}
	case c.Break == "" && len(c.Print) > 0:
		return &problem{"print", fmt.Errorf("check %q prints where it stops: it needs break", c.Name)}
	case c.Break == "" && c.By != "":
		return &problem{"by", fmt.Errorf("check %q says which process stops: it needs break", c.Name)}
	case len(c.By) > maxComm || strings.ContainsFunc(c.By, notPrintable):
		return &problem{"by", fmt.Errorf("check %q: %q is not the name of a process: the kernel keeps %d bytes",
			c.Name, c.By, maxComm)}
	case c.Break == "" && c.When != "":
		return &problem{"when", fmt.Errorf("check %q says when it stops: it needs break", c.Name)}
	case c.When == WhenRun && c.Run == "":
		return &problem{"when", fmt.Errorf("check %q stops while its command runs: it needs run", c.Name)}
	}
	if c.Break != "" && c.When == "" {
		if c.When = AtBoot; c.Run != "" {
			c.When = WhenRun
		}
	}
	return nil
}

// maxName bounds a check's name, in bytes: it is a file's, too.
const maxName = 200

// maxComm is TASK_COMM_LEN of Linux less the byte that ends it.
const maxComm = 15

func notPrintable(r rune) bool { return !unicode.IsPrint(r) }

// ParseWhen reads a When.
func ParseWhen(text string) (When, error) {
	switch w := When(text); w {
	case AtBoot, WhenRun:
		return w, nil
	}
	return "", fmt.Errorf("%q: want boot or run", text)
}

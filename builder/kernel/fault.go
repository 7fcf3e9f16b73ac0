package kernel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/progress"
)

// CompileError says that make failed, with the lines that say why.
type CompileError struct {
	Lines []string // the first errors, or the last lines where none looks like one
	Err   error
}

func (e *CompileError) Error() string {
	return "compile: " + e.Err.Error() + "\n  " + strings.Join(e.Lines, "\n  ")
}

func (e *CompileError) Unwrap() error { return e.Err }

// The bounds of what an error carries; the log has all.
const (
	keepErrors = 8
	keepLast   = 12
)

// faultRE is how compilers, linkers, make and scripts fail: with -j, hundreds of lines above the end.
var faultRE = regexp.MustCompile(
	`(?i)\berror\b:|: undefined reference|\*\*\* |no space left|killed signal|: not found$`)

// faults keeps the lines of a command's output that an error should show. It is safe for several goroutines.
type faults struct {
	mu     sync.Mutex
	rest   []byte
	errors []string
	last   []string
}

func (f *faults) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = eachLine(append(f.rest, p...), func(line string) {
		if faultRE.MatchString(line) && len(f.errors) < keepErrors {
			f.errors = append(f.errors, line)
		}
		if f.last = append(f.last, line); len(f.last) > keepLast {
			f.last = f.last[1:]
		}
	})
	return len(p), nil
}

func (f *faults) wrap(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if code(err) == 0 {
		return err // the engine's fault, or a cancelled build: the lines say nothing of it
	}
	lines := f.errors
	if len(lines) == 0 {
		lines = f.last
	}
	return &CompileError{Lines: lines, Err: err}
}

// eachLine calls f for each whole line that is not blank, and returns the rest, of 64 KiB at most.
func eachLine(b []byte, f func(string)) []byte {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			if len(b) > 64<<10 {
				b = b[:0]
			}
			return b
		}
		if line := strings.TrimRight(string(b[:i]), " \r\t"); line != "" {
			f(line)
		}
		b = b[i+1:]
	}
}

// objectRE is a line that kbuild prints for each object that it makes.
var objectRE = regexp.MustCompile(`^  (CC|AS|HOSTCC|LD|AR)( \[M\])? `)

type counter struct {
	task  *progress.Task
	file  string // what the last whole build counted
	fresh bool
	total int64 // 0: not known

	rest []byte
	n    int64
}

// newCounter looks up how many objects a whole build like this one had; what only changed has no known number.
func newCounter(task *progress.Task, j Job, fresh bool) *counter {
	c := &counter{task: task, fresh: fresh}
	base := j.Config.Base
	if base != VM && base != Defconfig {
		base = "file"
	}
	v := j.Tree.Version
	image, _ := j.Era.Target(j.Arch, nil) // an image always has the compiler; what else it has makes no object
	c.file = filepath.Join(j.CacheDir, "kernel", fmt.Sprintf("objects-%d.%d-%s-%s", v.Major, v.Minor, image, base))
	if fresh {
		// A file that is absent or damaged means that the number is not known.
		text, _ := os.ReadFile(c.file)
		c.total, _ = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	}
	return c
}

func (c *counter) Write(p []byte) (int, error) {
	c.rest = eachLine(append(c.rest, p...), func(line string) {
		if objectRE.MatchString(line) {
			c.n++
			c.task.Add(1, max(0, c.total), "objects")
		}
	})
	return len(p), nil
}

// remember keeps the count of a whole build; without it the next build has no percentage.
func (c *counter) remember() {
	if c.fresh && os.MkdirAll(filepath.Dir(c.file), 0o755) == nil {
		_ = renameio.WriteFile(c.file, []byte(strconv.FormatInt(c.n, 10)), 0o644)
	}
}

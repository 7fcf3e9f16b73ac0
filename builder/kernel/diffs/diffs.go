// Package diffs reads patches: which files of a tree each one changes, and how. Patches come from others, so this
// package decides which file a hunk goes to, and not the guess that GNU patch makes from the names in a patch.
//
// It does not use github.com/bluekeyes/go-gitdiff (v0.9.0). That loses without an error the lines that a hunk has
// beyond its header's count, and one of two names that differ; it knows neither -pN (it drops one directory from the
// names in git's headers, none from others, and does not say which it read) nor the lines that errors name hunks by.
// Names would be rewritten for it first, and hunks counted again.
package diffs

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Op is what becomes of a file.
type Op byte

// The operations. Each may have hunks.
const (
	Modify Op = 'm'
	Create Op = 'c'
	Delete Op = 'd'
	Rename Op = 'r' // From is gone afterwards
	Copy   Op = 'k' // From stays
)

// Mode is what a patch says of a file's mode.
type Mode byte

// The modes that git knows of a plain file.
const (
	SameMode   Mode = '-'
	Plain      Mode = 'f'
	Executable Mode = 'x'
)

// File is what a patch does to one file.
type File struct {
	Op       Op
	From, To string // paths in the tree; alike unless Op is Rename or Copy
	Mode     Mode
	Hunks    []Hunk
	Line     int // where in the patch it begins, from 1
}

// Hunk is one change within a file.
type Hunk struct {
	Header string // "@@ -1047,7 +1047,8 @@ long do_sys_open(int dfd)"
	Line   int    // of the header, in the patch, from 1
	Text   string // header and lines, each with its end
}

// Text is what GNU patch is given for the file.
func (f File) Text() string {
	var b strings.Builder
	b.WriteString("--- a\n+++ b\n")
	for _, h := range f.Hunks {
		b.WriteString(h.Text)
	}
	return b.String()
}

// Error is a patch that is refused: damaged, not one that can be applied, or one that writes outside the tree.
type Error struct {
	Patch string // its name
	Line  int    // 0: the whole
	Err   error
}

func (e *Error) Error() string {
	at := ""
	if e.Line > 0 {
		at = fmt.Sprintf(" line %d", e.Line)
	}
	return fmt.Sprintf("read patch %s%s: %v", e.Patch, at, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

const devNull = "/dev/null"

// maxName is the longest path that Linux takes, in bytes.
const maxName = 4096

// headerName takes the name out of what follows "--- " or "+++ ". A tab ends it, or a space where there is no tab:
// a time follows. absent says that the time is the one by which GNU diff says that there is no such file.
func headerName(s string) (name string, absent bool, err error) {
	if strings.HasPrefix(s, `"`) {
		name, _, err = quoted(s)
		return name, false, err
	}
	name, stamp, tab := strings.Cut(s, "\t")
	if !tab {
		name, stamp, _ = strings.Cut(strings.TrimRight(s, " "), " ")
	}
	t, err := time.Parse("2006-01-02 15:04:05.999999999 -0700", strings.TrimSpace(stamp))
	return name, err == nil && t.Unix() == 0, nil
}

// quoted reads a name as git quotes it, which is how Go does, and returns what follows it.
func quoted(s string) (name, rest string, err error) {
	q, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", fmt.Errorf("%.60q: a name with no end", s)
	}
	name, err = strconv.Unquote(q)
	if err != nil {
		return "", "", fmt.Errorf("%.60q is not a name as git quotes it", s)
	}
	return name, s[len(q):], nil
}

// gitNames is the name in "diff --git A B", which are alike less strip directories; only where no other line has it.
func gitNames(s string, strip int) (name string, err error) {
	no := errors.New("the two names in the line cannot be separated")
	if len(s) > 2*maxName {
		return "", no
	}
	if strings.HasPrefix(s, `"`) {
		first, rest, err := quoted(s)
		if err != nil {
			return "", err
		}
		second := strings.TrimPrefix(rest, " ")
		if strings.HasPrefix(second, `"`) {
			if second, _, err = quoted(second); err != nil {
				return "", err
			}
		}
		return same(first, second, strip, no)
	}
	for i := range len(s) {
		if s[i] != ' ' {
			continue
		}
		second := s[i+1:]
		if strings.HasPrefix(second, `"`) {
			if second, _, err = quoted(second); err != nil {
				return "", err
			}
		}
		if name, err := same(s[:i], second, strip, no); err == nil {
			return name, nil
		}
	}
	return "", no
}

func same(first, second string, strip int, no error) (string, error) {
	a, err1 := treePath(first, strip)
	b, err2 := treePath(second, strip)
	switch {
	case err1 != nil:
		return "", err1
	case err2 != nil:
		return "", err2
	case a != b:
		return "", no
	}
	return a, nil
}

// treePath is the path in the tree of a patch's name. It refuses what is not in the tree, git's and kimg's.
func treePath(name string, strip int) (string, error) {
	if name == "" {
		return "", errors.New("a name is missing")
	}
	if strings.HasPrefix(name, "/") {
		return "", fmt.Errorf("refused: %q is an absolute path", name)
	}
	parts := strings.Split(name, "/")
	kept := parts[:0:0]
	for _, p := range parts {
		switch {
		case p == "..":
			return "", fmt.Errorf("refused: %q leads out of the tree", name)
		case strings.EqualFold(p, ".git") || strings.HasPrefix(p, ".kimg-"):
			return "", fmt.Errorf("refused: %q is not a file of the kernel's", name)
		case p == "" || p == ".": // a//b, ./a
		default:
			kept = append(kept, p)
		}
	}
	if len(kept) <= strip {
		return "", fmt.Errorf("%q has no %s to drop: is its -p right?", name, directories(strip))
	}
	at := strings.Join(kept[strip:], "/")
	if strings.ContainsFunc(at, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("refused: %q has a control character in it", name)
	}
	if !fs.ValidPath(at) {
		return "", fmt.Errorf("refused: %q is not a path", name)
	}
	return at, nil
}

func directories(n int) string {
	if n == 1 {
		return "directory"
	}
	return fmt.Sprintf("%d directories", n)
}

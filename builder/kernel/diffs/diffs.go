// Package diffs reads patches: which files of a tree each one changes, and how. Patches come from others, so this
// package decides which file a hunk goes to, and not the guess that GNU patch makes from the names in a patch.
//
// It does not use github.com/bluekeyes/go-gitdiff (v0.9.0), which lacks three things that users have here: -pN (it
// always drops one directory from the names in git's headers, and none from others, and does not say which header a
// file had), the line numbers that errors name hunks by, and both names of a patch that names two files. Rewriting
// the names for it first, and finding the lines, takes a reader of hunks.
package diffs

import (
	"fmt"
	"strings"
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

// Error is a patch that is refused: damaged, of a kind that cannot be applied, or one
// that would write outside the tree.
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

// Package diffs reads patches: which files of a tree each one changes, and how.
// Who decides which file a hunk goes to is this package, and not the guess that
// GNU patch makes from the names in a patch: a patch is something that others
// wrote. It must not know of containers, or of the tree.
//
// go-gitdiff was looked at: it drops one directory from git's names whatever -p
// says, and takes the second name where a patch names two files.
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

// Error is a patch that is not used: damaged, of a kind that cannot be applied,
// or meant to write where it must not.
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

// Unwrap gives the reason.
func (e *Error) Unwrap() error { return e.Err }

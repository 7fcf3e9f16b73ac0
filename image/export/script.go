package export

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Script is a shell script that boots the artifacts with the QEMU command that
// kimg run uses, less what only kimg can serve.
type Script struct{}

// Export implements Format.
func (Script) Export(_ context.Context, b *Build, w io.Writer) error {
	_, err := io.WriteString(w, scriptText(&b.Guest, shellQuote(b.Dir)))
	return err
}

// scriptHere is the directory of the script itself, as a word of the shell's.
const scriptHere = `"$(dirname -- "$0")"`

// scriptText writes the script. dir is a word of the shell's.
func scriptText(g *Guest, dir string) string {
	var b strings.Builder
	b.WriteString(`#!/bin/sh
# Boots the kernel and the root filesystem in the directory below, as kimg run
# does: root's shell on this terminal, Ctrl-a x to end. What the guest writes to its
# disk is thrown away; take ",snapshot=on" out to keep it.
# More of QEMU's options may follow, and win: -m 4G -smp 4 -s -S
`)
	fmt.Fprintf(&b, "cd %s || exit 1\nexec", dir)
	for i, word := range g.Argv {
		switch {
		case i == 0:
			b.WriteString(" ")
		case strings.HasPrefix(word, "-"):
			b.WriteString(" \\\n  ") // an option begins a line
		default:
			b.WriteString(" ")
		}
		b.WriteString(shellQuote(word))
	}
	b.WriteString(" \\\n  \"$@\"\n")
	return b.String()
}

// shellQuote writes a word as a POSIX shell reads it.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, notPlain) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func notPlain(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		strings.ContainsRune("-_./,:=+@%", r))
}

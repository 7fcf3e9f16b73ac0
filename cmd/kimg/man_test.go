package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// addManPages adds the man page of cmd, and of each command below it, by its file's name in docs. They carry no date:
// it would have to be that of the last change. cobra's own generator takes the texts for Markdown, which they are not.
func addManPages(pages map[string]string, cmd *cobra.Command) {
	pages[filepath.Join("man", manName(cmd)+".1")] = manPage(cmd)
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			addManPages(pages, sub)
		}
	}
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" kimg \"User Commands\"\n", strings.ToUpper(roff(manName(cmd))))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	if cmd.Runnable() && !cmd.HasSubCommands() {
		fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fR\n", roff(cmd.UseLine()))
	}
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(".SH DESCRIPTION\n")
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if regexp.MustCompile(`(?m)^( |\S+  )`).MatchString(paragraph) { // a table
			manVerbatim(&b, paragraph)
		} else {
			fmt.Fprintf(&b, "%s\n", roff(paragraph))
		}
	}
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() {
		b.WriteString(".SH OPTIONS\n")
		manVerbatim(&b, strings.TrimRight(undent(flags.FlagUsages()), "\n"))
	}
	if cmd.HasExample() {
		b.WriteString(".SH EXAMPLES\n")
		manVerbatim(&b, undent(cmd.Example))
	}
	if !cmd.HasParent() {
		b.WriteString(".SH EXIT STATUS\n")
		for _, c := range exitCodes {
			fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", c.code, roff(strings.ReplaceAll(c.meaning, "`", "")))
		}
	}
	var see []string
	if cmd.HasParent() {
		see = append(see, manName(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			see = append(see, manName(sub))
		}
	}
	if len(see) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n\\fB%s\\fR(1)\n", roff(strings.Join(see, "\\fR(1), \\fB")))
	}
	return strings.ReplaceAll(b.String(), `\efR(1), \efB`, `\fR(1), \fB`)
}

func manVerbatim(b *strings.Builder, text string) { fmt.Fprintf(b, ".nf\n%s\n.fi\n", roff(text)) }

// roff escapes what roff(7) would take for its own.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	return regexp.MustCompile(`(?m)^([.'])`).ReplaceAllString(text, `\&$1`)
}

func TestManPagesAreWellFormed(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("no groff")
	}
	files, err := filepath.Glob("../../docs/man/*.1")
	if err != nil || len(files) == 0 {
		t.Fatalf("no man pages (%v)", err)
	}
	// Lines are long enough for the widest table.
	args := append([]string{"-man", "-ww", "-z", "-Tutf8", "-rLL=200n"}, files...)
	out, err := exec.Command(groff, args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md and docs/man anew")

// TestDocs compares docs/cli.md and docs/man with the commands as they are.
func TestDocs(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	root := (&app{stdout: os.Stdout, stderr: os.Stderr}).root()
	want := map[string]string{"cli.md": reference(root)}
	addManPages(want, root)
	found, err := filepath.Glob(filepath.Join(docs, "man", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		name, err := filepath.Rel(docs, file)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := want[name]; ok {
			continue
		}
		if *update {
			err = os.Remove(file)
		}
		if err != nil || !*update {
			t.Errorf("docs/%s is of no command (%v)", name, err)
		}
	}
	for name, text := range want {
		file := filepath.Join(docs, name)
		if *update {
			err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(string(got), text); diff != "" {
			t.Errorf("docs/%s is not what the commands say; "+
				"go test ./cmd/kimg -update writes it anew (-file +commands):\n%s", name, diff)
		}
	}
}

// reference is the whole of docs/cli.md.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# The command line of kimg\n\n")
	b.WriteString("This page and the man pages in docs/man are made from the commands themselves: " +
		"`go test ./cmd/kimg -update` writes them.\n\n")
	describe(&b, root)
	b.WriteString("## Exit statuses\n\n| status | meaning |\n|---|---|\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", c.code, c.meaning)
	}
	return b.String()
}

func describe(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "## %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "%s\n\n", text)
	if cmd.Runnable() && !cmd.HasSubCommands() {
		fmt.Fprintf(b, "```\n%s\n```\n\n", cmd.UseLine())
	}
	if cmd.HasExample() {
		fmt.Fprintf(b, "Examples:\n\n```\n%s\n```\n\n", undent(cmd.Example))
	}
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(b, "Flags:\n\n```\n%s\n```\n\n", strings.TrimRight(undent(flags.FlagUsages()), "\n"))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			describe(b, sub)
		}
	}
}

func undent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

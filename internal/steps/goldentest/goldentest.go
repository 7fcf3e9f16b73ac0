// Package goldentest holds what a step's code makes against what it made when the step's version was last raised. A
// step's key has the version and not the code, so a change of the code that changes the outputs must raise it.
package goldentest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Check compares the digest of what a step's code makes of a test's own inputs with
// the one that file has. name is the constant that has the version. With update, the
// file is written: but never to another digest under the version that it has.
func Check(t *testing.T, file, name, version, digest string, update bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	was := strings.Fields(string(text))
	switch {
	case len(was) == 2 && was[0] == version && was[1] == digest:
	case len(was) == 2 && was[0] == version:
		t.Errorf("the same inputs give %s now, and gave %s under the same version: raise %s, which is %s, "+
			"and write %s with -update; else builds take what the old code made for what this one makes",
			digest, was[1], name, version, file)
	case update:
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(version+" "+digest+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s has %q, and %s is %s: write it with -update", file, was, name, version)
	}
}

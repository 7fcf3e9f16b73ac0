package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/builder/spec"
)

func TestChangeText(t *testing.T) {
	c := &spec.Change{File: "kimg.lock", Parts: []spec.PartChange{
		{Part: "kernel", Name: "linux-source-6.12",
			Facts:    []spec.Move{{Name: "version", From: "6.12.107", To: "6.12.117"}},
			Packages: []spec.Move{{Name: "linux-source-6.12", From: "6.12.107-1", To: "6.12.117-1"}}, Total: 1},
		{Part: "suite", Name: "trixie minbase",
			Facts: []spec.Move{{Name: "archive of", From: "2026-09-12", To: "2026-11-21"}}, Packages: []spec.Move{
				{Name: "apt", From: "3.0.3", To: "3.0.2", Older: true}, {Name: "gone", From: "1"},
				{Name: "new\x1b[31m", To: "2"}}, Total: 114},
		{Part: "toolchain", Name: "imaging", Facts: []spec.Move{{Name: "image", From: "a", To: "b"}}},
	}}
	want := `kernel linux-source-6.12: 1 of 1 package moved
    version            6.12.107    ->  6.12.117
  ~ linux-source-6.12  6.12.107-1  ->  6.12.117-1

suite trixie minbase: 1 of 114 packages moved, 1 came, 1 went
    archive of  2026-09-12  ->  2026-11-21
  ~ apt         3.0.3       ->  3.0.2  (older)
  - gone        1
  + new                         2

toolchain imaging
    image  a  ->  b
`
	if diff := cmp.Diff(want, changeText(c)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := changeText(&spec.Change{}); got != "nothing moved\n" {
		t.Errorf("nothing: %q", got)
	}
}

package main

import (
	"strings"
	"testing"
)

// The list of toolchains says which of them an engine of another architecture has.
func TestListErasNamesEngines(t *testing.T) {
	var b strings.Builder
	if err := listEras(&b); err != nil {
		t.Fatal(err)
	}
	const want = "\nAn engine of arm64 has those of bullseye and trixie: they make the same kernels there. " +
		"It has none of bookworm, whose\n"
	if !strings.Contains(b.String(), want) || strings.Contains(b.String(), "engine of amd64") {
		t.Error(b.String())
	}
}

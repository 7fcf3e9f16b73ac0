package toolbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
)

func TestChoose(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	none := errors.New("no engine")
	asked := 0
	imaging := func(context.Context) (Engine, string, error) {
		if asked++; asked > 1 {
			return nil, "", none
		}
		return &fakeEngine{}, "tools", nil
	}
	choose := func(tools string) (Toolbox, error) { return Choose(t.Context(), arch.AMD64, tools, true, imaging) }
	if _, err := choose("neither"); err == nil || !strings.Contains(err.Error(), "want host or container") {
		t.Error(err)
	}
	if _, err := choose("host"); err == nil || !strings.Contains(err.Error(), arch.AMD64.QEMU) {
		t.Errorf("a machine without QEMU: %v", err)
	}
	got, err := choose("")
	if c, ok := got.(Container); err != nil || !ok || c.Image != "tools" || c.Arch != arch.AMD64 {
		t.Errorf("without tools here: %+v, %v", got, err)
	}
	if _, err := choose("container"); !errors.Is(err, none) {
		t.Errorf("without an engine: %v", err)
	}
	for _, name := range []string{arch.AMD64.QEMU, "gdb", "e2fsck"} {
		if name == "gdb" { // there is QEMU alone by now
			if _, err := choose("host"); err == nil || !strings.Contains(err.Error(), "gdb") {
				t.Errorf("a machine without gdb: %v", err)
			}
			got, err := Choose(t.Context(), arch.AMD64, "host", false, imaging)
			if err != nil || got != (Host{Arch: arch.AMD64}) {
				t.Errorf("a machine whose gdb is not wanted: %+v, %v", got, err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	asked = 0
	if got, err = choose(""); err != nil || got != (Host{Arch: arch.AMD64}) || asked > 0 {
		t.Errorf("with tools here: %+v, %v", got, err)
	}
	if got, err := (&Tools{}).FindSystem("e2fsck"); err != nil || got != filepath.Join(dir, "e2fsck") {
		t.Errorf("found %s, %v", got, err)
	}
	if got, err := (&Tools{Isolated: true}).FindSystem("e2fsck"); err != nil || got != "e2fsck" {
		t.Errorf("found %s in a container, %v", got, err)
	}
}

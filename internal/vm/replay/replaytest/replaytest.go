// Package replaytest is for tests that record real guests.
package replaytest

import (
	"context"
	"os"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// Guest is a guest of a copy of the artifacts in KIMG_TEST_OUT, with the QEMU of the image KIMG_TEST_IMAGING of
// the engine that KIMG_ENGINE names, as it does for kimg.
func Guest(t *testing.T) vm.Options {
	t.Helper()
	from := os.Getenv("KIMG_TEST_OUT")
	if from == "" {
		t.Skip("KIMG_TEST_OUT names no out directory of a build")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return GuestIn(t, dir)
}

// GuestIn is one of the artifacts in dir, of their architecture.
func GuestIn(t *testing.T, dir string) vm.Options {
	t.Helper()
	a := artifact.ArchOf(dir)
	tools, err := toolbox.Choose(t.Context(), a, "container", true,
		func(ctx context.Context) (toolbox.Engine, string, error) {
			eng, err := container.Choice{Engine: os.Getenv("KIMG_ENGINE")}.Connect(ctx)
			return eng, os.Getenv("KIMG_TEST_IMAGING"), err
		})
	if err != nil {
		t.Fatal(err)
	}
	return vm.Options{Dir: dir, Arch: a, Toolbox: tools, Direct: true, Say: func(s string) { t.Log(s) }}
}

package container_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/kimg/kimg/container"
)

// each runs a test on every engine that there is: Docker's, and the embedded one in a directory of its own, with users
// and with one. What is in that directory at the end is what the test left behind. Where there is none at all
// the test is skipped on a laptop, and fails where CI is set in the environment.
func each[T runner[T]](t T, test func(T, container.Engine)) {
	missing := 0
	for _, name := range []string{"docker", "embedded", "one"} {
		dir := ""
		if name != "docker" {
			dir = t.TempDir()
		}
		t.Run(name, func(t T) {
			e, err := open(t.Context(), strings.TrimSpace(name+" "+dir))
			if err == nil && name == "embedded" && !container.HasOwners(e) {
				t.Skip("there are no users besides this one: /etc/subuid has none")
			}
			if err != nil {
				missing++
				t.Skip(err)
			}
			t.Cleanup(func() { e.Close() })
			test(t, e)
		})
	}
	if missing == 3 && os.Getenv("CI") != "" {
		t.Error("CI is set, and there is no container engine")
	}
}

// open opens an engine of a name that nameOf gave.
func open(ctx context.Context, name string) (container.Engine, error) {
	switch kind, dir, _ := strings.Cut(name, " "); kind {
	case "embedded":
		return container.Embedded(ctx, dir)
	case "one":
		return container.EmbeddedOne(ctx, dir)
	}
	return container.Choice{Engine: container.DockerEngine}.Connect(ctx)
}

// nameOf names an engine to another process.
func nameOf(e container.Engine) string {
	switch info := e.Info(); {
	case info.Name != "embedded":
		return "docker"
	case container.HasOwners(e):
		return "embedded " + info.Host
	default:
		return "one " + info.Host
	}
}

// runner is a test or a benchmark.
type runner[T any] interface {
	testing.TB
	Run(name string, f func(T)) bool
}

package container_test

import (
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// What a container costs that does nothing, on each engine: made, run to its end and removed.
func BenchmarkRun(b *testing.B) {
	each(b, func(b *testing.B, e container.Engine) {
		ref := containertest.Image(b, e)
		for b.Loop() {
			if err := container.Run(b.Context(), e,
				&container.Cmd{Image: ref, Args: []string{containertest.Helper, "exit", "0"}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// What one more command costs that does nothing.
func BenchmarkExec(b *testing.B) {
	each(b, func(b *testing.B, e container.Engine) {
		ref := containertest.Image(b, e)
		c, err := e.Create(b.Context(), &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"}})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Remove(b.Context())
		if err := c.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := c.Exec(b.Context(),
				&container.ExecCmd{Args: []string{containertest.Helper, "exit", "0"}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

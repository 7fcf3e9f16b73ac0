package container_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// An engine that ssh leads to does all that one on a socket does.
func TestOverSSH(t *testing.T) {
	near := containertest.Engine(t)
	sock, ok := strings.CutPrefix(near.Info().Host, "unix://")
	if !ok {
		t.Skip("the engine has no socket on this machine")
	}
	ref := containertest.Image(t, near)
	container.PutSSH(t, sock, "exec $far")
	t.Setenv("DOCKER_HOST", "ssh://me@far")
	e := containertest.Engine(t)
	if e.Info().Local {
		t.Error("bind mounts would be of another machine")
	}
	in := numbers(4 << 20)
	var out bytes.Buffer
	err := container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "count"},
		Stdin: bytes.NewReader(in), Stdout: &out})
	if want := fmt.Sprintf("%d %x\n", len(in), sha256.Sum256(in)); err != nil || out.String() != want {
		t.Errorf("got %q, %v; want %q", out.String(), err, want)
	}
	c, err := e.Create(t.Context(), &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CopyIn(t.Context(), "/tmp", containertest.Tar(t, containertest.File{Name: "f", Body: in})); err != nil {
		t.Error(err)
	}
	// The engine answers before it has read it all, and takes no more.
	for range 5 {
		err := c.CopyIn(t.Context(), "/missing", endlessTar(t))
		if err == nil || !strings.Contains(err.Error(), "Could not find the file /missing") {
			t.Errorf("got %v", err)
		}
	}
	r, err := c.CopyOut(t.Context(), "/tmp/f")
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(r)
	tr.Next()
	if got, err := io.ReadAll(tr); err != nil || !bytes.Equal(got, in) {
		t.Errorf("copied out %d bytes, %v", len(got), err)
	}
	r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(ctx, &container.ExecCmd{Args: []string{containertest.Helper, "exit", "3"}}); err == nil {
		t.Error("exit status 3 is none")
	}
	cancel()
	if err := c.Wait(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.Remove(ctx); err != nil {
		t.Error(err)
	}
	nothingLeft(t, near, ref)
}

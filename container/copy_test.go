package container_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// Files go into and out of a container that has not been started, in the paths
// of its volumes too, and keep their owners.
func TestCopyThroughVolume(t *testing.T) { each(t, testCopyThroughVolume) }

func testCopyThroughVolume(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	vol, err := container.TempVolume(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.RemoveVolume(context.WithoutCancel(t.Context()), vol); err != nil {
			t.Error(err)
		}
	})
	mounts := []container.Mount{{Volume: vol, Target: "/data"}}
	create := func(args ...string) container.Container {
		t.Helper()
		c, err := e.Create(t.Context(), &container.Cmd{Image: ref,
			Args: append([]string{containertest.Helper}, args...), Mounts: mounts})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Remove(t.Context()); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	big := numbers(64 << 20)
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	io.Copy(z, containertest.Tar(t, containertest.File{Name: "sub/", Mode: 0o750, UID: 1000, GID: 1000},
		containertest.File{Name: "sub/big", Mode: 0o640, UID: 1000, GID: 33, Body: big}))
	z.Close()
	if err := create("exit", "0").CopyIn(t.Context(), "/data", &packed); err != nil {
		t.Fatal(err)
	}

	out, bad, err := run(t, e, container.Cmd{Image: ref, User: "1000:1000", Args: []string{"stat", "/data/sub/big"},
		Mounts: mounts})
	owners := container.HasOwners(e)
	if want := map[bool]string{true: "640 1000 33\n", false: "640 1000 1000\n"}[owners]; out != want || err != nil {
		t.Errorf("got %q %q %v", out, bad, err)
	}
	// A fresh volume takes the owner of the directory that it covers, so a plain user may write there.
	if _, bad, err = run(t, e, container.Cmd{Image: ref, User: "1000:1000", Args: []string{"write", "/data/new", "x"},
		Mounts: mounts}); err != nil {
		t.Errorf("write as a plain user: %q %v", bad, err)
	}

	r, err := create("exit", "0").CopyOut(t.Context(), "/data/sub")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	found := false
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "sub/big" {
			found = true
			sum := sha256.New()
			if _, err := io.Copy(sum, tr); err != nil || [32]byte(sum.Sum(nil)) != sha256.Sum256(big) ||
				owners && (h.Uid != 1000 || h.Gid != 33) {
				t.Errorf("sub/big came back changed: %d:%d %v", h.Uid, h.Gid, err)
			}
		}
	}
	if !found {
		t.Error("sub/big did not come back")
	}
}

func TestCopyErrors(t *testing.T) { each(t, testCopyErrors) }

func testCopyErrors(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	c, err := e.Create(t.Context(), &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Remove(t.Context())
	if err := c.CopyIn(t.Context(), "/missing", containertest.Tar(t)); err == nil ||
		!strings.Contains(err.Error(), "copy into /missing: ") {
		t.Errorf("got %v", err)
	}
	if _, err := c.CopyOut(t.Context(), "/missing"); !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), "copy out /missing: ") {
		t.Errorf("got %v, want one that is %v", err, fs.ErrNotExist)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.CopyOut(ended, "/missing"); !errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end of its context: %v", err)
	}
	broken := errors.New("the source broke off")
	if err := c.CopyIn(t.Context(), "/tmp", io.MultiReader(io.LimitReader(endlessTar(t), 1<<20),
		failing{broken})); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if err := c.Wait(); err == nil {
		t.Error("waited for a container that was not started")
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The engine says "not found" of a container, too.
	if _, err := c.CopyOut(t.Context(), "/missing"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("out of a container that is gone: %v", err)
	}
}

func TestBindMount(t *testing.T) { each(t, testBindMount) }

func testBindMount(t *testing.T, e container.Engine) {
	if !e.Info().Local {
		t.Skip("the engine does not see this machine's files")
	}
	ref := containertest.Image(t, e)
	dir := t.TempDir()
	_, bad, err := run(t, e, container.Cmd{Image: ref, Args: []string{"write", "/data/x", "x"},
		Mounts: []container.Mount{{Bind: dir, Target: "/data", ReadOnly: true}}})
	if err == nil || !strings.Contains(bad, "read-only") {
		t.Errorf("writing to a read-only bind: %q %v", bad, err)
	}
	_, _, err = run(t, e, container.Cmd{Image: ref, Args: []string{"net"},
		Mounts: []container.Mount{{Bind: dir + "/none", Target: "/data"}}})
	if err == nil || !strings.Contains(err.Error(), dir+"/none") {
		t.Errorf("a bind of nothing: %v", err)
	}
}

func TestVolumes(t *testing.T) { each(t, testVolumes) }

func testVolumes(t *testing.T, e container.Engine) {
	const name = "kimg-test-durable"
	ctx := t.Context()
	for range 2 { // the second time it is there
		if err := e.EnsureVolume(ctx, name, true); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := e.VolumeExists(ctx, name); !ok || err != nil {
		t.Errorf("VolumeExists: %t %v", ok, err)
	}
	for range 2 { // the second time it is not
		if err := e.RemoveVolume(ctx, name); err != nil {
			t.Error(err)
		}
	}
	if ok, err := e.VolumeExists(ctx, name); ok || err != nil {
		t.Errorf("VolumeExists: %t %v", ok, err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if name, err := container.TempVolume(gone, e); !errors.Is(err, context.Canceled) || name != "" {
		t.Errorf("TempVolume: %q %v", name, err)
	}
}

func TestNoSpace(t *testing.T) { each(t, testNoSpace) }

func testNoSpace(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	const name = "kimg-test-small"
	cmd := &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"}}
	if e.Info().Name == "embedded" { // whose copies see what is mounted, too
		cmd.Tmpfs = map[string]string{"/data": "size=1m"}
	} else {
		if err := container.SmallVolume(t.Context(), e, name); err != nil {
			t.Fatal(err)
		}
		defer e.RemoveVolume(t.Context(), name)
		cmd.Mounts = []container.Mount{{Volume: name, Target: "/data"}}
	}
	c, err := e.Create(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Remove(t.Context())
	err = c.CopyIn(t.Context(), "/data", containertest.Tar(t, containertest.File{Name: "f", Mode: 0o644,
		Body: numbers(2 << 20)}))
	if !errors.Is(err, container.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
}

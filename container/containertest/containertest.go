// Package containertest gives tests an engine, a tiny image that needs no registry, one static program, and a log that
// they may wait on.
package containertest

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
)

// Engine returns the engine that KIMG_ENGINE names, as it does for kimg, or any. Where there is none the test is
// skipped on a laptop, and fails where CI is set in the environment.
func Engine(t testing.TB) container.Engine {
	t.Helper()
	e, err := container.Choice{Engine: os.Getenv("KIMG_ENGINE")}.Connect(t.Context())
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI is set, and a container engine is missing: %v", err)
		}
		t.Skipf("a container engine is missing: %v", err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Helper is where the image that Image makes keeps its program. See the package helper for what it can do.
const Helper = "/helper"

// Image imports an image of the helper program and some empty directories, for
// this test alone, and returns its reference.
func Image(t testing.TB, e container.Engine) string {
	t.Helper()
	program, err := helper(cmp.Or(e.Info().Arch, arch.Default.OCI))
	if err != nil {
		t.Fatal(err)
	}
	ref := "kimg-test:" + strings.ToLower(rand.Text()[:10])
	if err := e.Import(t.Context(), ref, Tar(t,
		File{Name: "helper", Mode: 0o755, Body: program},
		File{Name: "tmp/", Mode: 0o1777},
		File{Name: "data/", Mode: 0o755, UID: 1000, GID: 1000},
		File{Name: "etc/passwd", Mode: 0o644, Body: []byte("root:x:0:0::/:\nkimg:x:1000:1000::/data:\n")},
	)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.RemoveImage(context.WithoutCancel(t.Context()), ref); err != nil {
			t.Error(err)
		}
	})
	return ref
}

// helpers are the helper programs that were compiled, by architecture.
var (
	compiling sync.Mutex
	helpers   = map[string][]byte{}
)

// helper compiles the helper program for the engine's side.
func helper(goarch string) ([]byte, error) {
	compiling.Lock()
	defer compiling.Unlock()
	if b := helpers[goarch]; b != nil {
		return b, nil
	}
	dir, err := os.MkdirTemp("", "kimg-helper-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "helper")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out,
		"github.com/kimg/kimg/container/containertest/helper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile helper: %w: %s", err, b)
	}
	b, err := os.ReadFile(out)
	helpers[goarch] = b
	return b, err
}

// File is an entry of a tar; a name that ends in a slash is a directory.
type File struct {
	Name     string
	Mode     int64
	UID, GID int
	Body     []byte
}

// Tar returns a tar of files.
func Tar(t testing.TB, files ...File) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Size: int64(len(f.Body)),
			Typeflag: tar.TypeReg, ModTime: time.Unix(1e9, 0)}
		if strings.HasSuffix(f.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// Watch keeps what is written to it, and calls Found once, when What has been; never, where What is "".
type Watch struct {
	What  string
	Found func()
	All   bytes.Buffer
}

func (w *Watch) Write(p []byte) (int, error) {
	w.All.Write(p)
	if w.What != "" && bytes.Contains(w.All.Bytes(), []byte(w.What)) {
		w.What = ""
		w.Found()
	}
	return len(p), nil
}

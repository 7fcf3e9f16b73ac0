package builder

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
)

// fakeEngine has DOCKER_HOST name an engine that says this of its security, and has nothing.
func fakeEngine(t *testing.T, security string) {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("API-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch filepath.Base(r.URL.Path) {
		case "version":
			w.Write([]byte(`{"Version": "20.10.24", "ApiVersion": "1.41"}`))
		case "info":
			w.Write([]byte(`{"SecurityOptions": ["name=` + security + `"]}`))
		case "volumes":
			w.Write([]byte(`{}`))
		case "json":
			w.Write([]byte(`[]`))
		}
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	t.Setenv("DOCKER_HOST", "unix://"+sock)
}

// What no engine can do is said before anything is read or fetched.
func TestEngineFirst(t *testing.T) {
	for security, useless := range map[string]bool{"seccomp": false, "rootless": true, "userns": true} {
		fakeEngine(t, security)
		s := testSession(t)
		s.privileged = true
		var refused *PrivilegedError
		if err := s.engineFirst(t.Context()); errors.As(err, &refused) != useless || !useless && err != nil {
			t.Errorf("--privileged, %s: %v", security, err)
		}
		if useless && !strings.Contains(refused.Hint(), "leave it out") {
			t.Error(refused.Hint())
		}
	}
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none")
	cache := t.TempDir()
	asked := false
	sink := sinkFunc(func(progress.Event) { asked = true })
	sp := spec.Default()
	sp.Out = filepath.Join(t.TempDir(), "out")
	_, err := Build(t.Context(), Env{Cache: cache, Host: t.TempDir(), Sink: sink}, sp)
	if !errors.Is(err, container.ErrNoEngine) || asked {
		t.Errorf("no engine: %v; something was begun: %t", err, asked)
	}
	// What was made before may be had again without one.
	s := testSession(t)
	if err := os.MkdirAll(s.actions(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.actions(), "a.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.engineFirst(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.all(t.Context(), s.plan(fixture(t)), "", nil); !errors.Is(err, container.ErrNoEngine) {
		t.Errorf("a plan that is not made: %v", err)
	}
}

type sinkFunc func(progress.Event)

func (f sinkFunc) Emit(e progress.Event) { f(e) }

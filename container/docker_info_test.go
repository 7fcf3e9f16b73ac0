package container

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// fakeAPI answers the Docker Engine API at a socket; the paths have no version. What is not in answers is not found.
func fakeAPI(t *testing.T, answers map[string]http.HandlerFunc) (host string) {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if strings.HasPrefix(path, "/v1.") {
			path = path[strings.Index(path[1:], "/")+1:]
		}
		w.Header().Set("API-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		if h := answers[path]; h != nil {
			h(w, r)
		} else if path != "/_ping" {
			http.Error(w, `{"message": "no such thing"}`, http.StatusNotFound)
		}
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return "unix://" + sock
}

// says is an answer of fixed text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) }
}

const (
	dockerVersion = `{"Version": "20.10.24", "ApiVersion": "1.41", "Arch": "arm64", "Components": [{"Name": "Engine"}]}`
	podmanVersion = `{"Version": "4.3.1", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]}`
)

// Whose rights an engine has, as Docker 20.10 and Podman 4.3 say it.
func TestRights(t *testing.T) {
	for _, test := range []struct{ name, version, info, want string }{
		{"Docker", dockerVersion, `{"SecurityOptions": ["name=seccomp,profile=default"]}`, "as root"},
		{"rootless Docker", dockerVersion, `{"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}`,
			"rootless"},
		{"userns-remap", dockerVersion, `{"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}`,
			"as root, users remapped"},
		{"Podman", podmanVersion, `{"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": false}`,
			"as root"},
		{"rootless Podman", podmanVersion, `{"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": true}`,
			"rootless"},
		{"a later rootless Podman", podmanVersion, `{"SecurityOptions": ["name=rootless"]}`, "rootless"},
	} {
		e, err := dial(t.Context(), endpoint{host: fakeAPI(t, map[string]http.HandlerFunc{
			"/version": says(test.version), "/info": says(test.info)})})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := e.Info().Rights(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if got := e.Info().Arch; got != "arm64" && test.version == dockerVersion {
			t.Errorf("%s: its machine is %q", test.name, got)
		}
		e.Close()
	}
}

// The request that Docker's client has no method for ends with its context, and its answer has a bound.
func TestPodmanRootlessIsBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for what, second := range map[string]http.HandlerFunc{
		"an answer that does not come": func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		},
		"no JSON": says("{"),
		"a refusal": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "{}", http.StatusInternalServerError)
		},
		"an answer without end": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"x": "`))
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			asked := 0
			host := fakeAPI(t, map[string]http.HandlerFunc{"/version": says(podmanVersion),
				"/info": func(w http.ResponseWriter, r *http.Request) {
					if asked++; asked > 1 {
						second(w, r)
						return
					}
					says("{}")(w, r)
				}})
			use := t.Context()
			if strings.Contains(what, "not come") {
				use = ctx
			}
			_, err := dial(use, endpoint{host: host})
			if err == nil || use == ctx && !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAddressHints has what people write for an address.
func TestAddressHints(t *testing.T) {
	for host, want := range map[string]string{
		"/var/run/docker.sock":       "write it as an address: unix:///var/run/docker.sock",
		"unix:/var/run/docker.sock":  "write it as an address: unix:///var/run/docker.sock",
		"unix://var/run/docker.sock": "write it as an address: unix:///var/run/docker.sock",
		"localhost:2375":             "write it as an address: tcp://localhost:2375",
		"podman":                     "write it as an address: unix:///SOCKET, tcp://HOST:PORT or ssh://USER@HOST",
		"unix:///run/docker.sock":    `start it ("sudo systemctl start docker"), or unset what names it`,
	} {
		if got := (Attempt{Host: host + " (DOCKER_HOST)", Err: errNoSocket}).Hint(); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	config := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(config, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	choice := Choice{Dir: "/cache"}
	hosts := func(env map[string]string) []string {
		var list []string
		found, err := choice.candidates(func(k string) string { return env[k] })
		if err != nil {
			return []string{err.Error()}
		}
		for _, at := range found {
			list = append(list, strings.Join([]string{at.host, at.from, at.tls + at.dir}, "|"))
		}
		return list
	}
	usual := []string{
		"unix:///var/run/docker.sock||", "unix:///x/docker.sock||", "unix:///home/k/.docker/run/docker.sock||",
		"unix:///x/podman/podman.sock||", "unix:///run/podman/podman.sock||", "embedded||/cache",
	}
	env := map[string]string{"HOME": "/home/k", "XDG_RUNTIME_DIR": "/x", "DOCKER_CONFIG": config}
	check := func(what string, want ...string) {
		t.Helper()
		if d := cmp.Diff(want, hosts(env)); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	check("the usual sockets", usual...)
	delete(env, "XDG_RUNTIME_DIR")
	if got := hosts(env)[1]; got != fmt.Sprintf("unix:///run/user/%d/docker.sock||", os.Getuid()) {
		t.Errorf("without XDG_RUNTIME_DIR: %s", got)
	}
	env["XDG_RUNTIME_DIR"] = "/x"
	write("config.json", `{"currentContext": "default"}`)
	check("the default context", usual...)
	write("config.json", `{"currentContext": "far"}`)
	check("a context that is not there", `docker context "far", which `+config+`/config.json names, does not exist`)
	// docker/cli names a context's folder by the sha256 of its name; this one is of "far".
	const id = "512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868"
	write("contexts/meta/"+id+"/meta.json", `{"Endpoints": {"docker": {"Host": "tcp://far:2376"}}}`)
	check("a context", "tcp://far:2376|docker context far|")
	write("contexts/tls/"+id+"/docker/ca.pem", "")
	check("a context with keys", "tcp://far:2376|docker context far|"+config+"/contexts/tls/"+id+"/docker")
	write("config.json", `{"currentContext`)
	check("a broken file", "read which docker context is in use, in "+config+
		"/config.json: it is no JSON, or cut short: unexpected end of JSON input")
	write("config.json", `{"currentContext": 5}`)
	check("a context of another type", "read which docker context is in use, in "+config+
		"/config.json: currentContext is a number there: want a text")
	write("config.json", "{}")
	choice.Engine = DockerEngine
	check("docker alone", usual[:5]...)
	choice.Engine = EmbeddedEngine
	check("embedded alone", usual[5])
	choice.Engine = "lxc"
	check("no engine", `there is no engine "lxc": want one of auto, embedded, docker`)
	choice.Engine = AutoEngine
	env["DOCKER_CONTEXT"] = "far"
	check("DOCKER_CONTEXT", "tcp://far:2376|docker context far|"+config+"/contexts/tls/"+id+"/docker")
	env["DOCKER_CONTEXT"] = "near"
	check("DOCKER_CONTEXT that is not there", `docker context "near", which DOCKER_CONTEXT names, does not exist`)
	env["DOCKER_HOST"] = "tcp://near:2375"
	check("DOCKER_HOST", "tcp://near:2375|DOCKER_HOST|")
	env["DOCKER_TLS_VERIFY"] = "1"
	check("DOCKER_HOST with keys", "tcp://near:2375|DOCKER_HOST|"+config)
}

func TestConnectFails(t *testing.T) {
	dir := t.TempDir()
	connect := func(host string) *ConnectError {
		t.Helper()
		t.Setenv("DOCKER_HOST", host)
		e, err := Connect(t.Context())
		if err == nil {
			e.Close()
			t.Fatalf("%s: an engine answered", host)
		}
		var failed *ConnectError
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), host) || failed.Hint() == "" {
			t.Fatalf("%s: %v", host, err)
		}
		return failed
	}
	for _, host := range []string{"unix://" + dir + "/none", "ssh://-there", "tcp://127.0.0.1:1", "nonsense"} {
		if err := connect(host); !errors.Is(err, ErrNoEngine) || errors.Is(err, ErrPermission) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if os.Getuid() != 0 { // root may open any socket
		l, err := net.Listen("unix", dir+"/closed")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := os.Chmod(dir+"/closed", 0); err != nil {
			t.Fatal(err)
		}
		if err := connect("unix://" + dir + "/closed"); !errors.Is(err, ErrPermission) || errors.Is(err, ErrNoEngine) {
			t.Errorf("a closed socket: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Hints name the very service that is down, and a way for those who have no sudo.
func TestHints(t *testing.T) {
	down := errors.New("no such socket")
	for host, want := range map[string]string{
		"unix:///run/user/1004/podman/podman.sock (DOCKER_HOST)": `start it ("systemctl --user start podman.socket")`,
		"unix:///run/user/1004/docker.sock (docker context r)":   `start it ("systemctl --user start docker"), or`,
		"unix:///run/podman/podman.sock (DOCKER_HOST)":           `start it ("sudo systemctl start podman.socket"), or`,
		"unix:///var/run/docker.sock (DOCKER_HOST)":              `start it ("sudo systemctl start docker"), or`,
		"unix:///srv/engine.sock (DOCKER_HOST)":                  "start it, or unset",
		"tcp://far:2375 (DOCKER_HOST)":                           "start it, or unset",
	} {
		e := &ConnectError{kind: ErrNoEngine, Tried: []Attempt{{Host: host, Err: down}}}
		if got := e.Hint(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", host, got)
		}
	}
	for kind, err := range map[error]error{ErrNoEngine: down, ErrPermission: fs.ErrPermission} {
		got := (&ConnectError{kind: kind, Tried: []Attempt{{Host: "unix:///var/run/docker.sock", Err: err},
			{Host: "unix:///run/podman/podman.sock", Err: down}}}).Hint()
		if !strings.Contains(got, "rootless Podman") || strings.Contains(got, "docker.io") != (kind == ErrNoEngine) {
			t.Errorf("%v: %s", kind, got)
		}
	}
}

func TestIsLocal(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host, name string
		want       bool
	}{
		{"unix:///var/run/docker.sock", name, true},
		{"unix:///var/run/docker.sock", "docker-desktop", false},
		{"tcp://127.0.0.1:2375", name, false},
	} {
		if got := isLocal(test.host, test.name); got != test.want {
			t.Errorf("%s %s: %t", test.host, test.name, got)
		}
	}
}

func TestFault(t *testing.T) {
	err := fault(t.Context(), "build image x", errors.New("write /var/lib/docker/tmp/1: no space left on device"))
	if !errors.Is(err, ErrNoSpace) || !strings.HasPrefix(err.Error(), "build image x: ") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if err := fault(ctx, "x", errors.New("no space left on device")); !errors.Is(err, why) ||
		!errors.Is(err, context.Canceled) || errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	if fault(ctx, "x", nil) != nil {
		t.Error("no error became one")
	}
}

// An engine that is there and does not answer is told where the embedded one takes its place; one that is not there, or
// refuses this user, is not.
func TestEmbeddedInstead(t *testing.T) {
	e := &embedded{}
	e.warnOf([]Attempt{{"unix:///a", errNoSocket}, {"unix:///b", os.ErrPermission}})
	if len(e.info.Warnings) > 0 {
		t.Errorf("%q", e.info.Warnings)
	}
	e.warnOf([]Attempt{{"unix:///c", errors.New("connection refused")}})
	want := []string{"unix:///c: connection refused: the embedded engine is used"}
	if d := cmp.Diff(want, e.info.Warnings); d != "" {
		t.Error(d)
	}
}

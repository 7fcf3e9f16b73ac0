package container

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeSSHEnv makes this test binary the far side of an ssh: standard input and output are those of the socket that it
// names.
const fakeSSHEnv = "KIMG_TEST_SSH_SOCKET"

// FakeSSH is "docker system dial-stdio".
func FakeSSH() (is bool) {
	sock := os.Getenv(fakeSSHEnv)
	if sock == "" {
		return false
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		io.WriteString(os.Stderr, err.Error()+"\n")
		os.Exit(1)
	}
	go func() {
		io.Copy(conn, os.Stdin)
		conn.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(os.Stdout, conn)
	return true
}

// PutSSH puts an ssh on PATH that runs a script. The script may call $far for the connection to the socket. It returns
// where each ssh leaves a file, named by its process, with its arguments.
func PutSSH(t *testing.T, sock, script string) (calls string) {
	t.Helper()
	dir, calls := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := "#!/bin/sh\nprintf '%s\\n' \"$@\" >" + calls + "/$$\nfar='env " + fakeSSHEnv + "=" + sock + " " + self +
		"'\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return calls
}

func TestSSHAddress(t *testing.T) {
	for host, want := range map[string]string{
		"ssh://far":                       "-- far docker system dial-stdio",
		"ssh://far/":                      "-- far docker system dial-stdio",
		"ssh://me@far":                    "-l me -- far docker system dial-stdio",
		"ssh://me@far:2222":               "-l me -p 2222 -- far docker system dial-stdio",
		"ssh://[fe80::1]:22":              "-p 22 -- fe80::1 docker system dial-stdio",
		"ssh://me@far/run/user/7/dock.er": "-l me -- far docker --host unix:///run/user/7/dock.er system dial-stdio",
	} {
		d, err := newSSHDialer(host)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if diff := cmp.Diff("-o ConnectTimeout=30 -T "+want, strings.Join(d.args, " ")); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
	calls := PutSSH(t, "", "exit 1")
	for _, host := range []string{
		"ssh://", "ssh:///run/docker.sock", "ssh://me@", "ssh://-oProxyCommand=x", "ssh://-oProxyCommand=x@far",
		"ssh://me:secret@far", "ssh://@far", "ssh://%2doX@far", "ssh://$(x)@far", "ssh://me%0a@far",
		"ssh://far:0", "ssh://far:65536", "ssh://far:-1", "ssh://far:x", "ssh://far?x", "ssh://far#x",
		"ssh://a b", "ssh://a%20b", "ssh://a%0ab", "ssh://far$(x)", "ssh://far;x", "ssh://[::1%25eth0]",
		"ssh://far/a b", "ssh://far/a;x", "ssh://far/$(x)", "ssh://far/a'b", "ssh://far/a%0ab", "ssh://far/`x`",
		"ssh://far//%5c",
		"ssh://\x01", "ssh://far%",
	} {
		_, err := dial(t.Context(), endpoint{host: host})
		if err == nil || !strings.HasPrefix(err.Error(), "invalid address: ") {
			t.Errorf("%q: %v", host, err)
		}
		failed := &ConnectError{Tried: []Attempt{{host, err}}, kind: ErrNoEngine}
		if !strings.Contains(failed.Hint(), "want ssh://") {
			t.Errorf("%q: hint %q", host, failed.Hint())
		}
	}
	if ran, _ := os.ReadDir(calls); len(ran) > 0 {
		t.Error("ssh ran for an address that is refused")
	}
}

// farEngine answers as an engine does to Connect.
func farEngine(t *testing.T) (sock string) {
	t.Helper()
	sock = filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	name, _ := os.Hostname()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/version"):
			io.WriteString(w, `{"Version": "far"}`)
		case strings.HasSuffix(r.URL.Path, "/info"):
			io.WriteString(w, `{"Name": "`+name+`", "NCPU": 3}`)
		}
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return sock
}

func TestSSH(t *testing.T) {
	calls := PutSSH(t, farEngine(t), "exec $far")
	t.Setenv("DOCKER_HOST", "ssh://me@far")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // is not asked
	e, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Info{Name: "docker", Version: "far", APIVersion: "1.41", Host: "ssh://me@far", CPUs: 3}
	if d := cmp.Diff(want, e.Info()); d != "" {
		t.Error(d) // Local, too: a name of this machine's is a coincidence
	}
	running := pids(t, calls)
	if len(running) == 0 {
		t.Error("no ssh runs for a connection that is open")
	}
	for _, pid := range running {
		// proc_pid_stat(5): field 6 is the session. Ctrl-C is sent to those of the terminal's.
		if b, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Fields(string(b))[5] != pid {
			t.Errorf("Ctrl-C in the terminal would end ssh: %s", b)
		}
	}
	e.Close()
	if left := gone(running); len(left) > 0 {
		t.Errorf("ssh processes that go on after Close: %v", left)
	}
}

// A context's endpoint may be ssh:// as well.
func TestSSHContext(t *testing.T) {
	PutSSH(t, farEngine(t), "exec $far")
	config := t.TempDir()
	meta := filepath.Join(config, "contexts/meta/512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868")
	if err := os.MkdirAll(meta, 0o755); err != nil {
		t.Fatal(err)
	}
	text := []byte(`{"Endpoints": {"docker": {"Host": "ssh://far"}}}`)
	if err := os.WriteFile(meta+"/meta.json", text, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "")
	t.Setenv("DOCKER_CONFIG", config)
	t.Setenv("DOCKER_CONTEXT", "far")
	e, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if e.Info().Version != "far" {
		t.Errorf("%+v", e.Info())
	}
}

func TestSSHFails(t *testing.T) {
	const refused = "connect to host far port 22: connection refused"
	const absent = "bash: line 1: docker: command not found"
	for name, c := range map[string]struct{ script, want string }{
		"no way in": {"echo 'me@far: Permission denied (publickey).' >&2; exit 255",
			"255: me@far: Permission denied (publickey)."},
		"refused":      {"echo '" + refused + "' >&2; exit 255", "exit status 255: " + refused},
		"no docker":    {"read x; echo '" + absent + "' >&2; exit 127", "exit status 127: " + absent},
		"no engine":    {"exec $far", "exit status 1: dial unix "},
		"says nothing": {"exit 255", "ssh me@far: exit status 255"},
		"says too much": {`printf 'Warning\n\033[31mred\033[0m\r\n' >&2; exit 255`,
			"exit status 255: Warning; [31mred[0m"},
		// As a connection does that later ones share (ControlPersist).
		"keeps its standard error": {"sleep 5 >/dev/null & echo 'mux: no' >&2; exit 255", "exit status 255: mux: no"},
	} {
		t.Run(name, func(t *testing.T) {
			PutSSH(t, filepath.Join(t.TempDir(), "none"), c.script)
			t.Setenv("DOCKER_HOST", "ssh://me@far")
			_, err := Connect(t.Context())
			var failed *ConnectError
			if !errors.As(err, &failed) || !errors.Is(err, ErrNoEngine) ||
				!strings.Contains(failed.Hint(), "ssh [USER@]HOST docker version") {
				t.Fatalf("got %v", err)
			}
			if text := failed.Tried[0].Err.Error(); !strings.HasPrefix(text, "ssh me@far: ") ||
				!strings.Contains(text, c.want) {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
	t.Run("no ssh", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		t.Setenv("DOCKER_HOST", "ssh://far")
		if _, err := Connect(t.Context()); !errors.Is(err, ErrNoEngine) ||
			!strings.Contains(err.Error(), `exec: "ssh": executable file not found`) {
			t.Errorf("got %v", err)
		}
	})
}

// pids lists the ssh processes that were started.
func pids(t *testing.T, calls string) []string {
	t.Helper()
	list, err := os.ReadDir(calls)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// gone waits for processes to end and returns those that did not.
func gone(pids []string) []string {
	for range 300 {
		pids = slices.DeleteFunc(pids, func(pid string) bool { return exec.Command("kill", "-0", pid).Run() != nil })
		if len(pids) == 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return pids
}

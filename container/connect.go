package container

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ConnectError says which engines were tried. It is ErrPermission when one of
// them was there and refused this user, and else ErrNoEngine.
type ConnectError struct {
	Tried []Attempt
	kind  error
}

// Attempt is one engine that was tried.
type Attempt struct {
	Host string // an address, and in parentheses where it comes from
	Err  error
}

func (e *ConnectError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connect to a container engine: %v", e.kind)
	for _, a := range e.Tried {
		fmt.Fprintf(&b, "\n  %s: %v", a.Host, a.Err)
	}
	return b.String()
}

func (e *ConnectError) Unwrap() error { return e.kind }

// Hint says what the user can do about it.
func (e *ConnectError) Hint() string {
	const group = `add yourself to the engine's group ("sudo usermod -aG docker $USER", then log in again), ` +
		`which equals giving yourself root, or run a rootless engine ("systemctl --user start podman.socket", ` +
		`or dockerd-rootless-setuptool.sh install)`
	const start = `start one ("sudo systemctl start docker", or "sudo service docker start"), install one ` +
		`(on Debian and Ubuntu: "sudo apt install docker.io"), or name one that runs elsewhere in DOCKER_HOST`
	if e.kind == ErrPermission {
		return group
	}
	for _, a := range e.Tried {
		if errors.Is(a.Err, errAddress) {
			return "want ssh://[USER@]HOST[:PORT][/SOCKET]"
		}
		if strings.HasPrefix(a.Host, "ssh://") {
			return `"ssh [USER@]HOST docker version" has to work without asking for a password`
		}
	}
	return start
}

// endpoint is an engine that may be there.
type endpoint struct {
	host string
	from string // what names it; empty for a usual socket
	tls  string // a directory with ca.pem, cert.pem and key.pem; empty: none
}

// Connect finds an engine: DOCKER_HOST, else the Docker context in use, else the first of the usual sockets that
// answers. An engine that was named and does not answer is not replaced by another. The error is a *ConnectError.
func Connect(ctx context.Context) (Engine, error) {
	failed := &ConnectError{kind: ErrNoEngine}
	for _, at := range endpoints(os.Getenv, dockerConfigDir(os.Getenv), fmt.Sprint("/run/user/", os.Getuid())) {
		e, err := dial(ctx, at)
		if err == nil {
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, fault(ctx, "connect to a container engine", err)
		}
		host := at.host
		if at.from != "" {
			host += " (" + at.from + ")"
		}
		failed.Tried = append(failed.Tried, Attempt{Host: host, Err: err})
		if errors.Is(err, fs.ErrPermission) {
			failed.kind = ErrPermission
		}
	}
	return nil, failed
}

// endpoints lists what to try, best first.
func endpoints(getenv func(string) string, config, runtime string) []endpoint {
	if h := getenv("DOCKER_HOST"); h != "" {
		at := endpoint{host: h, from: "DOCKER_HOST"}
		if getenv("DOCKER_TLS_VERIFY") != "" || getenv("DOCKER_TLS") != "" {
			at.tls = cmp.Or(getenv("DOCKER_CERT_PATH"), config)
		}
		return []endpoint{at}
	}
	if at, ok := contextEndpoint(getenv, config); ok {
		return []endpoint{at}
	}
	runtime = cmp.Or(getenv("XDG_RUNTIME_DIR"), runtime)
	var list []endpoint
	for _, sock := range []string{
		"/var/run/docker.sock",
		runtime + "/docker.sock",                    // rootless Docker
		getenv("HOME") + "/.docker/run/docker.sock", // Docker Desktop
		runtime + "/podman/podman.sock",             // rootless Podman
		"/run/podman/podman.sock",
	} {
		list = append(list, endpoint{host: "unix://" + sock})
	}
	return list
}

func dockerConfigDir(getenv func(string) string) string {
	return cmp.Or(getenv("DOCKER_CONFIG"), filepath.Join(getenv("HOME"), ".docker"))
}

// contextEndpoint reads the Docker command's own choice of an engine ("docker
// context use"). Source: the layout of docker/cli's cli/context/store.
func contextEndpoint(getenv func(string) string, config string) (endpoint, bool) {
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		var file struct{ CurrentContext string }
		if b, err := os.ReadFile(filepath.Join(config, "config.json")); err == nil {
			_ = json.Unmarshal(b, &file) // a broken file chooses nothing
		}
		name = file.CurrentContext
	}
	if name == "" || name == "default" {
		return endpoint{}, false
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	b, err := os.ReadFile(filepath.Join(config, "contexts", "meta", id, "meta.json"))
	if err != nil || json.Unmarshal(b, &meta) != nil || meta.Endpoints["docker"].Host == "" {
		return endpoint{}, false
	}
	at := endpoint{host: meta.Endpoints["docker"].Host, from: "docker context " + name}
	if dir := filepath.Join(config, "contexts", "tls", id, "docker"); isDir(dir) {
		at.tls = dir
	}
	return at, true
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/client"
)

// docker is the Engine that answers to the Docker Engine API.
type docker struct {
	api  *client.Client
	info Info
}

var _ Engine = (*docker)(nil)

// podman is Podman's name in an Info.
const podman = "podman"

// answerTime is how long an engine may take to say that it is there; one that a socket starts on demand takes a
// while. With ssh there may be several machines on the way.
const (
	answerTime    = 15 * time.Second
	sshAnswerTime = 60 * time.Second
)

var errNoSocket = errors.New("no such socket")

func dial(ctx context.Context, at endpoint) (*docker, error) {
	opts := []client.Opt{client.WithHost(at.host), client.WithAPIVersionNegotiation()}
	wait, far := answerTime, (*sshDialer)(nil)
	if sock, ok := strings.CutPrefix(at.host, "unix://"); ok {
		// A socket in a directory that this user may not read (root's Podman) is not an engine that refuses the user.
		if _, err := os.Stat(sock); err != nil {
			return nil, errNoSocket
		}
	}
	if strings.HasPrefix(at.host, "ssh://") {
		var err error
		if far, err = newSSHDialer(at.host); err != nil {
			return nil, err
		}
		// The address of a socket, and no URL: no proxy of the environment's gets in between.
		opts[0] = client.WithHost("unix:///ssh")
		opts = append(opts, client.WithDialContext(far.dial))
		wait = sshAnswerTime
	} else if at.tls != "" {
		file := func(name string) string { return filepath.Join(at.tls, name) }
		opts = append(opts, client.WithTLSClientConfig(file("ca.pem"), file("cert.pem"), file("key.pem")))
	}
	api, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, err
	}
	e := &docker{api: api}
	work, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := e.ask(work, at.host); err != nil {
		api.Close()
		// Without the client's request and address around it.
		switch {
		case far != nil && far.failure() != nil:
			err = far.failure()
		case ctx.Err() == nil && work.Err() != nil:
			err = fmt.Errorf("no answer within %v", wait)
		case errors.Is(err, fs.ErrPermission):
			err = fs.ErrPermission
		case client.IsErrConnectionFailed(err):
			err = errors.New("nothing answers there")
		}
		return nil, err
	}
	return e, nil
}

func (e *docker) Info() Info { return e.info }

func (e *docker) Close() error { return e.api.Close() }

// ask fills in info; an engine that does not answer at host is an error.
func (e *docker) ask(ctx context.Context, host string) error {
	version, err := e.api.ServerVersion(ctx)
	if err != nil {
		return err
	}
	about, err := e.api.Info(ctx)
	if err != nil {
		return err
	}
	e.info = Info{
		Name:       "docker",
		Version:    version.Version,
		Arch:       version.Arch,
		APIVersion: e.api.ClientVersion(),
		Host:       host,
		Local:      isLocal(host, about.Name),
		CPUs:       about.NCPU,
		Memory:     about.MemTotal,
		Warnings:   about.Warnings,
	}
	for _, c := range version.Components {
		if strings.HasPrefix(c.Name, "Podman") {
			e.info.Name = podman
		}
	}
	// With more fields after a comma in some versions.
	secured := func(by string) bool {
		return slices.ContainsFunc(about.SecurityOptions, func(o string) bool {
			return slices.Contains(strings.Split(o, ","), by)
		})
	}
	e.info.Rootless, e.info.Remapped = secured("name=rootless"), secured("name=userns")
	if e.info.Name == podman && !e.info.Rootless {
		e.info.Rootless, err = e.podmanRootless(ctx)
	}
	return err
}

// maxInfo bounds an engine's answer, in bytes.
const maxInfo = 1 << 20

// podmanRootless asks for what Podman 4.3 says in a field of its own, which Docker's client drops.
func (e *docker) podmanRootless(ctx context.Context) (bool, error) {
	dial := e.api.Dialer()
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/v"+e.api.ClientVersion()+"/info", nil)
	if err != nil {
		return false, err
	}
	resp, err := h.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %s", req.URL.Path, resp.Status)
	}
	var more struct{ Rootless bool }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxInfo)).Decode(&more); err != nil {
		return false, fmt.Errorf("%s: %w", req.URL.Path, err)
	}
	return more.Rootless, nil
}

// isLocal reports whether the engine at host, which calls itself name, runs on this machine. A socket alone is no
// proof: Docker Desktop, Colima and the like answer on one and run in a virtual machine with another name, and the
// socket of a host's engine may have been passed into a container.
func isLocal(host, name string) bool {
	mine, err := os.Hostname()
	return err == nil && strings.HasPrefix(host, "unix://") && name == mine
}

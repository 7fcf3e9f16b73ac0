//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// engine asks the container engine without kimg's own client: what kimg left
// behind is not for kimg to tell.
type engine struct {
	http *http.Client
	dir  string // the embedded engine's; empty: it is asked by http
}

// findEngine takes the address from "kimg engine". A missing engine fails the test.
func findEngine(t *testing.T, k kimg) engine {
	t.Helper()
	r := k.run(t, "", "engine")
	if r.code != 0 {
		t.Fatalf("this test needs a container engine:\n%s", r.stderr)
	}
	used, _, _ := strings.Cut(r.stdout, "\n")
	_, path, ok := strings.Cut(used, " at unix://")
	if _, dir, embedded := strings.Cut(used, " at /"); embedded {
		return engine{dir: "/" + dir}
	}
	if !ok {
		t.Fatalf("this test needs an engine on a Unix socket, not %s", r.stdout)
	}
	return engine{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}}}}
}

func (e engine) get(t *testing.T, path string, into any) {
	t.Helper()
	filters := url.QueryEscape(`{"label":["kimg=1"]}`)
	resp, err := e.http.Get("http://engine" + path + "filters=" + filters)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// leftovers names the containers and volumes that processes of k own. Durable
// volumes, which are caches, have no owner.
func (e engine) leftovers(t *testing.T, k kimg) []string {
	t.Helper()
	if e.dir != "" {
		return e.embedded(t)
	}
	var containers []struct {
		ID     string `json:"Id"`
		Labels map[string]string
	}
	e.get(t, "/containers/json?all=true&", &containers)
	var volumes struct {
		Volumes []struct {
			Name   string
			Labels map[string]string
		}
	}
	e.get(t, "/volumes?", &volumes)

	var left []string
	for _, c := range containers {
		if k.owns(c.Labels) {
			left = append(left, "container "+c.ID)
		}
	}
	for _, v := range volumes.Volumes {
		if k.owns(v.Labels) {
			left = append(left, "volume "+v.Name)
		}
	}
	return left
}

// embedded is leftovers of the engine that is in kimg: directories of its own.
func (e engine) embedded(t *testing.T) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(e.dir, "*", "containers", "*"))
	if err != nil {
		t.Fatal(err)
	}
	volumes, err := filepath.Glob(filepath.Join(e.dir, "*", "volumes", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range volumes {
		var meta struct{ Durable bool }
		b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
		if err == nil {
			err = json.Unmarshal(b, &meta)
		}
		if err != nil || !meta.Durable {
			left = append(left, fmt.Sprintf("%s (%v)", dir, err))
		}
	}
	return left
}

// dropNewVolumes removes, at the end of the test, the durable volumes that it
// made: they are the caches of a cache directory that ends with it.
func (e engine) dropNewVolumes(t *testing.T) {
	t.Helper()
	if e.dir != "" {
		return // they are in the cache directory
	}
	before := e.volumes(t)
	t.Cleanup(func() {
		for _, name := range e.volumes(t) {
			if slices.Contains(before, name) || name == "kimg-ccache" {
				continue
			}
			req, err := http.NewRequest(http.MethodDelete, "http://engine/volumes/"+url.PathEscape(name), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := e.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotFound {
				t.Errorf("remove volume %s: %s", name, resp.Status)
			}
		}
	})
}

// volumes names kimg's volumes.
func (e engine) volumes(t *testing.T) []string {
	t.Helper()
	var list struct{ Volumes []struct{ Name string } }
	e.get(t, "/volumes?", &list)
	var names []string
	for _, v := range list.Volumes {
		names = append(names, v.Name)
	}
	return names
}

// owns reads the label of container/owner.go: host:boot:space:pid:start.
func (k kimg) owns(labels map[string]string) bool {
	f := strings.Split(labels["kimg.owner"], ":")
	if len(f) != 5 {
		return false
	}
	pid, err := strconv.Atoi(f[3])
	return err == nil && slices.Contains(*k.pids, pid)
}

// mounts names the mounts and loop devices of this machine that have to do with dir.
func mounts(t *testing.T, dirs ...string) []string {
	t.Helper()
	var found []string
	about := func(s string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return strings.Contains(s, d) })
	}
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if about(line) {
			found = append(found, "mount "+line)
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range loops {
		if b, err := os.ReadFile(name); err == nil && about(string(b)) {
			found = append(found, fmt.Sprintf("loop device of %s", b))
		}
	}
	return found
}

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
)

// faultyEngine is the fixture's engine with copies out of a container given to out.
func (f *fixture) faultyEngine(t *testing.T, out http.HandlerFunc) container.Engine {
	t.Helper()
	sock, ok := strings.CutPrefix(f.eng.Info().Host, "unix://")
	if !ok {
		t.Skip("the engine has no socket on this machine")
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}}
	proxy.FlushInterval = -1
	at := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/archive") {
			out(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	t.Setenv("DOCKER_HOST", "unix://"+at)
	eng, err := container.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

// TestDeliverFailsEarly holds that a build that ends before it wrote to a source's
// volumes leaves them as they were.
func TestDeliverFailsEarly(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	j := f.job(f.pin(dir))
	if _, _, err := f.build(j); err != nil {
		t.Fatal(err)
	}
	f.volume(j, "touch "+objDir+"/witness")
	interrupted := errors.New("interrupted")
	for name, c := range map[string]struct {
		out  func(cancel context.CancelCauseFunc, w http.ResponseWriter, r *http.Request)
		want string
	}{
		"the engine fails": {func(_ context.CancelCauseFunc, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"message":"device is sick"}`, http.StatusInternalServerError)
		}, "device is sick"},
		"Ctrl-C": {func(cancel context.CancelCauseFunc, _ http.ResponseWriter, r *http.Request) {
			cancel(interrupted)
			<-r.Context().Done()
		}, interrupted.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			eng := f.faultyEngine(t, func(w http.ResponseWriter, r *http.Request) { c.out(cancel, w, r) })
			task := progress.Start(nil, "kernel", "compile")
			put := func(_ string, _ fs.FileMode, _ int64, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			}
			if err := Build(ctx, eng, j, task, put); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if got := f.volume(j, "ls "+objDir+"/witness "+srcDir+"/"+sourceMark); strings.Count(got, "\n") != 2 {
				t.Errorf("the volumes have %q", got)
			}
			fresh := f.job(f.pin(fakeTree(t)))
			if err := Build(ctx, eng, fresh, task, put); err == nil {
				t.Error("no error")
			}
			for _, v := range []string{fresh.SourceVolume(), fresh.ObjectVolume()} {
				if ok, err := f.eng.VolumeExists(t.Context(), v); ok || err != nil {
					t.Errorf("the empty volume %s is left: %v, %v", v, ok, err)
				}
			}
		})
	}
	_, said, err := f.build(j)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range said.log {
		if strings.Contains(line, "send ") || strings.Contains(line, "  CC ") {
			t.Errorf("after builds that ended early: %q", line)
		}
	}
}

// TestUnpackError holds that only a tarball's own faults are told as such.
func TestUnpackError(t *testing.T) {
	for name, c := range map[string]struct {
		messages string
		status   int
		want     string
		tarball  bool // it is a SourceError
	}{
		"good": {"", 0, "", false},
		"damaged": {"xz: (stdin): Unexpected end of input\ntar: Error\n", 2,
			"cut short or damaged: xz: (stdin): Unexpected end", true},
		"refused": {"tar: Removing leading `/' from member names\n", 0, "points out of the tree", true},
		"full disk": {"tar: l/a: Cannot write: No space left on device\ntar: Exiting\n", 2,
			"no space left: tar: l/a: Cannot write", false},
		"killed": {"", 137, "exit status 137", false},
	} {
		var err error
		if c.status != 0 {
			err = &container.ExitError{Code: c.status}
		}
		err = unpackError("l.tar", c.messages, err)
		var fault *SourceError
		switch {
		case c.want == "" && err == nil:
		case err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &fault) != c.tarball:
			t.Errorf("%s: %v, want %q, of the tarball: %v", name, err, c.want, c.tarball)
		}
		if errors.Is(err, container.ErrNoSpace) != (name == "full disk") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVolumeNames holds that two sources have two volumes even where the first
// digits of their digests are the same.
func TestVolumeNames(t *testing.T) {
	names := map[string]bool{}
	j := Job{Tree: &Tree{Kind: Tarball, SHA256: "a"}, CacheDir: "/c"}
	for _, name := range []string{j.SourceVolume(), j.ObjectVolume()} {
		_, digest, _ := strings.Cut(strings.TrimPrefix(name, "kimg-"), "-")
		if len(digest) != 64 {
			t.Errorf("volume %s is named by %d digits of a digest, not by all", name, len(digest))
		}
		names[name] = true
	}
	for _, other := range []Job{
		{Tree: &Tree{Kind: Tarball, SHA256: "b"}, CacheDir: "/c"},
		{Tree: &Tree{Kind: Release, SHA256: "a"}, CacheDir: "/c"},
		{Tree: &Tree{Kind: Tarball, SHA256: "a"}, CacheDir: "/d"},
	} {
		if names[other.SourceVolume()] || names[other.ObjectVolume()] {
			t.Errorf("%+v has another's volume", other)
		}
	}
	j.ImageID = "sha256:1"
	if names[j.ObjectVolume()] || !names[j.SourceVolume()] {
		t.Error("another compiler needs objects of its own, and no other source")
	}
}

// Without its volume a source is unpacked again, without the patches that the objects were made of: their files must
// be newer than those.
func TestObjectsOfASourceThatWasRemoved(t *testing.T) {
	f := newFixture(t)
	archive := filepath.Join(t.TempDir(), "linux-6.12.1.tar.gz")
	text := tarGz(t, [2]string{"l/Makefile", fakeMakefile}, [2]string{"l/fs/open.c", "open 1\n"},
		[2]string{"l/scripts/gdb/one.py", "one\n"},
		[2]string{"l/Kconfig", fmt.Sprintf("config A\n\tbool \"a\"\n# %s\n", f.cache)}) // a source of its own
	if err := os.WriteFile(archive, text, 0o644); err != nil {
		t.Fatal(err)
	}
	tree := f.pin(archive)
	got, _, err := f.patched(tree, mine("two", edit("fs/open.c", "open 1", "open 2")))
	if err != nil || !strings.Contains(got, "open 2") {
		t.Fatalf("patched: %q, %v", got, err)
	}
	if err := f.eng.RemoveVolume(t.Context(), f.job(tree).SourceVolume()); err != nil {
		t.Fatal(err)
	}
	if got, _, err = f.patched(tree); err != nil || !strings.Contains(got, "open 1") {
		t.Errorf("without the patch: %q, %v", got, err)
	}
}

// TestBesides has somebody who only asks, while another kimg has the source.
func TestBesides(t *testing.T) {
	j := Job{CacheDir: t.TempDir(), Tree: &Tree{Kind: Tarball, SHA256: "x"}, Beside: true}
	said := &lines{}
	task := progress.Start(said, "config", "ask")
	if got := j.besides(task); got.copied || got.SourceVolume() != j.SourceVolume() || len(said.log) > 1 {
		t.Errorf("nobody has it: a copy %v, told %q", got.copied, said.log)
	}
	file := filepath.Join(j.CacheDir, "locks", "kernel-"+j.identity())
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := filelock.Try(file, os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := j.besides(task)
	if !got.copied || got.SourceVolume() == j.SourceVolume() || got.ObjectVolume() == j.ObjectVolume() {
		t.Errorf("another has it, and a copy is %v", got.copied)
	}
	unlock, err := lockTree(t.Context(), got, task)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

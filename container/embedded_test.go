package container_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// embeddeds runs a test on the embedded engine in a directory of its own, with users, where this user has them, and
// with one.
func embeddeds(t *testing.T, test func(*testing.T, container.Engine)) {
	each(t, func(t *testing.T, e container.Engine) {
		if e.Info().Name == "embedded" {
			test(t, e)
		}
	})
}

// left are the entries that an engine has, by kind.
func left(t *testing.T, e container.Engine, kinds ...string) (all []string) {
	t.Helper()
	for _, kind := range kinds {
		found, err := filepath.Glob(filepath.Join(escapeGlob(e.Info().Host), "*", kind, "*"))
		dots, _ := filepath.Glob(filepath.Join(escapeGlob(e.Info().Host), "*", kind, ".*"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, found...), dots...)
	}
	return all
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "[", `\[`, "?", `\?`).Replace(s)
}

// Overlays and mounts have a syntax of their own, and a path may be anything.
func TestOddPath(t *testing.T) {
	base := filepath.Join(t.TempDir(), strings.Repeat(`a b:c,d=e\f"'`+"\n*", 14))
	for _, name := range []string{"embedded", "one"} {
		e, err := open(t.Context(), name+" "+base)
		if err != nil {
			t.Skip(err)
		}
		ref := containertest.Image(t, e)
		vol, err := container.TempVolume(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		out, bad, err := run(t, e, container.Cmd{Image: ref, Args: []string{"write", "/tmp/x", "x"},
			Mounts: []container.Mount{{Volume: vol, Target: "/data"}, {Bind: base, Target: "/bind", ReadOnly: true}}})
		if err != nil {
			t.Errorf("%s %s %v", out, bad, err)
		}
		if err := e.Build(t.Context(), container.BuildSpec{Tag: "odd:1",
			Context: dockerfile(t, "FROM "+ref+"\nRUN [\"/helper\", \"write\", \"/tmp/y\", \"y\"]\n")}); err != nil {
			t.Error(err)
		}
		if err := errors.Join(e.RemoveImage(t.Context(), "odd:1"), e.RemoveVolume(t.Context(), vol)); err != nil {
			t.Error(err)
		}
		if l := left(t, e, "containers", "volumes"); len(l) > 0 {
			t.Errorf("%v are left", l)
		}
	}
}

// Trees whose directories this user cannot read or write to are removed all the same.
func TestRemoveAnyTree(t *testing.T) {
	embeddeds(t, func(t *testing.T, e container.Engine) {
		tar := func() io.Reader {
			return containertest.Tar(t, containertest.File{Name: "closed/", Mode: 0, UID: 1000, GID: 1000},
				containertest.File{Name: "closed/deep/", Mode: 0o500, UID: 1000, GID: 1000},
				containertest.File{Name: "closed/deep/file", Mode: 0, UID: 33, GID: 33},
				containertest.File{Name: "tmp/", Mode: 0o755}, containertest.File{Name: "helper", Mode: 0o755})
		}
		if err := errors.Join(e.Import(t.Context(), "any", tar()),
			e.EnsureVolume(t.Context(), "any", true)); err != nil {
			t.Fatal(err)
		}
		c, err := e.Create(t.Context(), &container.Cmd{Image: "any", Args: []string{"/helper"},
			Mounts: []container.Mount{{Volume: "any", Target: "/vol"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.CopyIn(t.Context(), "/vol", tar()), c.CopyIn(t.Context(), "/tmp", tar())); err != nil {
			t.Fatal(err)
		}
		for what, remove := range map[string]func(context.Context, string) error{
			"a volume": e.RemoveVolume, "an image": e.RemoveImage,
		} {
			if err := remove(t.Context(), "any"); err == nil || !strings.Contains(err.Error(), "a container uses it") {
				t.Errorf("remove %s that a container has: %v", what, err)
			}
		}
		kept, err := e.Kept(t.Context())
		if err != nil || len(kept) != 2 || !kept[0].InUse || !kept[1].InUse || kept[0].Size <= 0 || kept[1].Size <= 0 {
			t.Errorf("kept: %+v, %v", kept, err)
		}
		if err := errors.Join(c.Remove(t.Context()), e.RemoveVolume(t.Context(), "any"),
			e.RemoveImage(t.Context(), "any")); err != nil {
			t.Error(err)
		}
		if l := left(t, e, "containers", "volumes", "images", "refs"); len(l) > 0 {
			t.Errorf("%v are left", l)
		}
	})
}

// An image stays until its last name goes.
func TestNamesOfImages(t *testing.T) {
	embeddeds(t, func(t *testing.T, e container.Engine) {
		tar := func() io.Reader { return containertest.Tar(t, containertest.File{Name: "f", Mode: 0o644}) }
		for _, ref := range []string{"a", "host:5000/b/c", "a:latest", "a:other"} {
			if err := e.Import(t.Context(), ref, tar()); err != nil {
				t.Fatal(err)
			}
		}
		id, _, err := e.ImageID(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		there := func(ref string, want bool) {
			t.Helper()
			if got, ok, err := e.ImageID(t.Context(), ref); ok != want || ok && got != id || err != nil {
				t.Errorf("%s: %s %t %v", ref, got, ok, err)
			}
		}
		if err := e.RemoveImage(t.Context(), "a:latest"); err != nil {
			t.Error(err)
		}
		there("a", false)
		there("host:5000/b/c", true)
		there(id, true)
		if err := e.RemoveImage(t.Context(), id); err != nil {
			t.Error(err)
		}
		there("a:other", false)
		there(id, false)
		if l := left(t, e, "images", "refs"); len(l) > 0 {
			t.Errorf("%v are left", l)
		}
		for _, name := range []string{"../x", ".x", "", "a/b"} {
			if err := e.EnsureVolume(t.Context(), name, true); err == nil {
				t.Errorf("a volume %q", name)
			}
		}
	})
}

// killedEnv makes this test binary a process that TestKilled and TestBuildTwice start: what it does, its image and the
// engine.
const killedEnv = "KIMG_TEST_KILLED"

// busy does for ever what a killed process may have been at. Its images are the same each time.
func busy(ctx context.Context, e container.Engine, ref string) error {
	build := func(n int) io.Reader {
		text := fmt.Sprintf("FROM %s\nRUN [\"/helper\", \"write\", \"/tmp/f\", \"%d\"]\n", ref, n)
		return bytes.NewReader(tarOf(text))
	}
	for n := 0; ; n++ {
		vol, err := container.TempVolume(ctx, e)
		if err != nil {
			return err
		}
		tag := fmt.Sprint("built:", n%3)
		c, err := e.Create(ctx, &container.Cmd{Image: ref, Args: []string{"/helper", "sleep"},
			Mounts: []container.Mount{{Volume: vol, Target: "/data"}, {Volume: "durable", Target: "/durable"}}})
		if err != nil {
			return err
		}
		if err := errors.Join(e.EnsureVolume(ctx, "durable", true), c.Start(ctx),
			c.CopyIn(ctx, "/data", bytes.NewReader(tarOf(strings.Repeat("x", 1<<20)))),
			e.Import(ctx, "imported", bytes.NewReader(tarOf("x"))),
			e.Build(ctx, container.BuildSpec{Tag: tag, Context: build(n % 3)}),
			c.Remove(ctx), e.RemoveVolume(ctx, vol), e.RemoveImage(ctx, tag)); err != nil {
			return err
		}
	}
}

func tarOf(dockerfile string) []byte {
	var b bytes.Buffer // which takes everything
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(dockerfile))})
	_, _ = io.WriteString(w, dockerfile)
	_ = w.Close()
	return b.Bytes()
}

// Whenever a process is killed, the next one finds nothing that is not whole, and leaves nothing of the dead.
func TestKilled(t *testing.T) {
	embeddeds(t, func(t *testing.T, e container.Engine) {
		ref := containertest.Image(t, e)
		defer func() {
			if err := e.RemoveVolume(t.Context(), "durable"); err != nil {
				t.Error(err)
			}
		}()
		remains := 0
		for range 20 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), killedEnv+"="+ref+" "+nameOf(e))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			after := rand.N(600 * time.Millisecond)
			time.Sleep(after)
			cmd.Process.Kill()
			cmd.Wait()
			if out.Len() > 0 {
				t.Fatalf("before it was killed: %s", &out)
			}
			remains += len(left(t, e, "containers"))
			// A child that was forked and has yet to execute something has the locks of the dead for a moment more.
			for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if err := e.Sweep(t.Context()); err != nil {
					t.Fatalf("killed after %v: %v", after, err)
				}
				remain := slices.DeleteFunc(left(t, e, "containers", "volumes", "images"), func(entry string) bool {
					name := filepath.Base(entry)
					return !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "kimg-")
				})
				if len(remain) == 0 {
					break
				}
				if time.Now().After(until) {
					t.Fatalf("killed after %v: %v are left", after, remain)
				}
			}
			for n := range 3 {
				tag := fmt.Sprint("built:", n)
				if _, ok, err := e.ImageID(t.Context(), tag); !ok || err != nil {
					continue
				}
				out, _, err := run(t, e, container.Cmd{Image: tag, Args: []string{"stat", "/tmp/f"}})
				if err != nil || out != "644 0 0\n" {
					t.Errorf("killed after %v: %s is not whole: %q, %v", after, tag, out, err)
				}
			}
		}
		if remains == 0 {
			t.Error("nothing was left at any time: the test proves nothing")
		}
		for _, tag := range []string{"built:0", "built:1", "built:2", "imported"} {
			if err := e.RemoveImage(t.Context(), tag); err != nil {
				t.Error(err)
			}
		}
	})
}

// Of two processes that build the same image at once, one does.
func TestBuildTwice(t *testing.T) {
	embeddeds(t, func(t *testing.T, e container.Engine) {
		ref := containertest.Image(t, e)
		var logs [2]bytes.Buffer
		var procs [2]*exec.Cmd
		for i := range procs {
			procs[i] = exec.Command(os.Args[0])
			procs[i].Env = append(os.Environ(), killedEnv+"=build "+ref+" "+nameOf(e))
			procs[i].Stdout, procs[i].Stderr = &logs[i], &logs[i]
			if err := procs[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		ran := 0
		for i, p := range procs {
			if err := p.Wait(); err != nil || !strings.Contains(logs[i].String(), "\nok\n") {
				t.Errorf("%v\n%s", err, &logs[i])
			}
			ran += strings.Count(logs[i].String(), "Step 2/2")
		}
		if ran != 1 {
			t.Errorf("it was built %d times:\n%s\n%s", ran, &logs[0], &logs[1])
		}
		if err := e.RemoveImage(t.Context(), "twice"); err != nil {
			t.Error(err)
		}
	})
}

// killed is the process that the tests kill, or that builds.
func killed(ctx context.Context, arg string) error {
	arg, build := strings.CutPrefix(arg, "build ")
	ref, engine, _ := strings.Cut(arg, " ")
	e, err := open(ctx, engine)
	if err != nil {
		return err
	}
	if !build {
		return busy(ctx, e, ref)
	}
	err = e.Build(ctx, container.BuildSpec{Tag: "twice", Log: os.Stdout,
		Context: bytes.NewReader(tarOf("FROM " + ref + "\nRUN [\"/helper\", \"flood\", \"20000\"]\n"))})
	if err == nil {
		fmt.Println("\nok")
	}
	return err
}

package container_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// run runs the helper with args and returns what it wrote.
func run(t *testing.T, e container.Engine, cmd container.Cmd) (stdout, stderr string, err error) {
	t.Helper()
	var out, bad bytes.Buffer
	cmd.Args = append([]string{containertest.Helper}, cmd.Args...)
	cmd.Stdout, cmd.Stderr = &out, &bad
	err = container.Run(t.Context(), e, &cmd)
	return out.String(), bad.String(), err
}

func TestRunStreamsAndStatus(t *testing.T) { each(t, testRunStreamsAndStatus) }

func testRunStreamsAndStatus(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	t.Run("stdout", func(t *testing.T) {
		out, bad, err := run(t, e, container.Cmd{Image: ref, Args: []string{"echo", "hello"}})
		if out != "hello\n" || bad != "" || err != nil {
			t.Errorf("got %q, %q, %v", out, bad, err)
		}
	})
	t.Run("stderr", func(t *testing.T) {
		out, bad, err := run(t, e, container.Cmd{Image: ref, Args: []string{"err", "hello"}})
		if out != "" || bad != "hello\n" || err != nil {
			t.Errorf("got %q, %q, %v", out, bad, err)
		}
	})
	t.Run("status", func(t *testing.T) {
		_, _, err := run(t, e, container.Cmd{Image: ref, Args: []string{"exit", "7"}})
		var exit *container.ExitError
		if !errors.As(err, &exit) || exit.Code != 7 || exit.OOMKilled {
			t.Errorf("got %v, want exit status 7", err)
		}
	})
	t.Run("no streams", func(t *testing.T) {
		if err := container.Run(t.Context(), e, &container.Cmd{Image: ref,
			Args: []string{containertest.Helper, "echo", "x"}}); err != nil {
			t.Error(err)
		}
	})
	t.Run("environment", func(t *testing.T) {
		out, _, err := run(t, e, container.Cmd{Image: ref, Args: []string{"env"}, Env: []string{"A=b c"}})
		if err != nil || !strings.Contains(out, "A=b c\n") {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("names of hosts", func(t *testing.T) {
		for file, want := range map[string]string{"/etc/hostname": "box\n", "/etc/hosts": "localhost"} {
			out, _, err := run(t, e, container.Cmd{Image: ref, Hostname: "box", Args: []string{"cat", file}})
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s has %q, %v; want %q", file, out, err, want)
			}
		}
	})
	t.Run("no such program", func(t *testing.T) {
		err := container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{"/missing"}})
		if err == nil || !strings.Contains(err.Error(), "start /missing") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no such image", func(t *testing.T) {
		err := container.Run(t.Context(), e, &container.Cmd{Image: "kimg-test:none", Args: []string{"x"}})
		if err == nil || !strings.Contains(err.Error(), "kimg-test:none") {
			t.Errorf("got %v", err)
		}
	})
	nothingLeft(t, e, ref)
}

func TestRunLeastPrivilege(t *testing.T) { each(t, testRunLeastPrivilege) }

func testRunLeastPrivilege(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	status := func(cmd container.Cmd) map[string]string {
		t.Helper()
		cmd.Image, cmd.Args = ref, []string{"status"}
		out, _, err := run(t, e, cmd)
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]string{}
		for line := range strings.Lines(out) {
			k, v, _ := strings.Cut(line, ":")
			fields[k] = strings.Join(strings.Fields(v), " ")
		}
		return fields
	}
	const none = "0000000000000000"
	plain := status(container.Cmd{})
	if plain["CapBnd"] != none || plain["CapEff"] != none || plain["NoNewPrivs"] != "1" {
		t.Errorf("a plain command has CapBnd %s CapEff %s NoNewPrivs %s", plain["CapBnd"], plain["CapEff"],
			plain["NoNewPrivs"])
	}
	// CHOWN is 0 and MKNOD is 27: capabilities(7), linux/capability.h.
	some := status(container.Cmd{Caps: []string{"MKNOD", "CAP_CHOWN"}})
	if want := fmt.Sprintf("%016x", 1<<0|1<<27); some["CapEff"] != want || some["CapBnd"] != want {
		t.Errorf("CapEff %s CapBnd %s, want %s", some["CapEff"], some["CapBnd"], want)
	}
	_, bad, err := run(t, e, container.Cmd{Image: ref, Caps: []string{"CHOWN"}, Args: []string{"null", "/null"}})
	if err == nil || !strings.Contains(bad, "not permitted") {
		t.Errorf("a device without MKNOD: %q, %v", bad, err)
	}
	user := status(container.Cmd{User: "1000:1000"})
	if !strings.HasPrefix(user["Uid"], "1000 1000") || user["CapEff"] != none {
		t.Errorf("Uid %s CapEff %s", user["Uid"], user["CapEff"])
	}
	out, _, err := run(t, e, container.Cmd{Image: ref, Args: []string{"net"}})
	if strings.TrimSpace(out) != "lo" || err != nil {
		t.Errorf("interfaces %q, %v; want lo alone", out, err)
	}
	_, bad, err = run(t, e, container.Cmd{Image: ref, ReadOnly: true, Args: []string{"write", "/tmp/x", "x"}})
	if err == nil || !strings.Contains(bad, "read-only") {
		t.Errorf("writing to a read-only container: %q, %v", bad, err)
	}
	if _, bad, err = run(t, e, container.Cmd{Image: ref, ReadOnly: true, Tmpfs: map[string]string{"/tmp": "size=1m"},
		Args: []string{"write", "/tmp/x", "x"}}); err != nil {
		t.Errorf("writing to a tmpfs: %q, %v", bad, err)
	}
}

func TestRunStdin(t *testing.T) { each(t, testRunStdin) }

func testRunStdin(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	// Not a multiple of anything, and not compressible to a pattern that hides a shift.
	in := numbers(64 << 20)[:64<<20-3]
	var out bytes.Buffer
	err := container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "count"},
		Stdin: bytes.NewReader(in), Stdout: &out})
	if want := fmt.Sprintf("%d %x\n", len(in), sha256.Sum256(in)); err != nil || out.String() != want {
		t.Errorf("got %q, %v; want %q", out.String(), err, want)
	}

	// A command that does not read its input ends all the same.
	out.Reset()
	err = container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "echo", "x"},
		Stdin: bytes.NewReader(in), Stdout: &out})
	if err != nil || out.String() != "x\n" {
		t.Errorf("unread input: got %q, %v", out.String(), err)
	}

	// Input that breaks off must not look complete to the process.
	broken := errors.New("the source broke off")
	err = container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "count"},
		Stdin: io.MultiReader(strings.NewReader("part"), failing{broken}), Stdout: io.Discard})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	nothingLeft(t, e, ref)
}

func TestRunStdout(t *testing.T) { each(t, testRunStdout) }

func testRunStdout(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	const mib = 300
	sum := sha256.New()
	err := container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "flood",
		fmt.Sprint(mib << 10)}, Stdout: sum})
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.New()
	want.Write(numbers(mib << 20))
	if !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Error("300 MiB of output arrived changed")
	}

	// A writer that fails ends the command.
	full := errors.New("the disk is full")
	begun := time.Now()
	err = container.Run(t.Context(), e, &container.Cmd{Image: ref,
		Args: []string{containertest.Helper, "flood", "4000000"}, Stdout: failing{full}})
	if !errors.Is(err, full) || time.Since(begun) > 10*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
	nothingLeft(t, e, ref)
}

// A reader that stalls while the last of a command's output is on its way still
// gets all of it: Docker drops what is not taken within two seconds of the end.
func TestRunSlowReader(t *testing.T) { each(t, testRunSlowReader) }

func testRunSlowReader(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	for _, kib := range []int{1280, 1300, 1320, 1340, 1360, 1400} {
		t.Run(fmt.Sprint(kib), func(t *testing.T) {
			t.Parallel()
			slow := &stalling{after: 1, wait: 6 * time.Second}
			err := container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{containertest.Helper,
				"flood", fmt.Sprint(kib)}, Stdout: slow})
			if err != nil || slow.n != kib<<10 {
				t.Errorf("%d of %d bytes arrived, %v", slow.n, kib<<10, err)
			}
		})
	}
}

// numbers is what the helper's flood writes.
func numbers(n int) []byte {
	b := make([]byte, 0, n)
	for i := range uint64(n / 8) {
		b = binary.LittleEndian.AppendUint64(b, i)
	}
	return b
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// stalling waits once, after so many writes.
type stalling struct {
	after int
	wait  time.Duration
	n     int
}

func (s *stalling) Write(p []byte) (int, error) {
	if s.after--; s.after == 0 {
		time.Sleep(s.wait)
	}
	s.n += len(p)
	return len(p), nil
}

// nothingLeft fails if a container of image ref is there.
func nothingLeft(t *testing.T, e container.Engine, ref string) {
	t.Helper()
	ids, err := container.ContainersOf(context.WithoutCancel(t.Context()), e, ref)
	if err != nil || len(ids) > 0 {
		t.Errorf("containers left: %v %v", ids, err)
	}
}

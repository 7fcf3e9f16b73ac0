package container_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// victimEnv makes this test binary a process that TestSweep kills. It names the image and, after a blank, what engine
// names of the engine.
const victimEnv = "KIMG_TEST_VICTIM_IMAGE"

func TestMain(m *testing.M) {
	if container.FakeSSH() {
		return
	}
	if ref, engine, ok := strings.Cut(os.Getenv(victimEnv), " "); ok {
		fmt.Println(victim(context.Background(), ref, engine))
		return
	}
	if arg := os.Getenv(killedEnv); arg != "" {
		if err := killed(context.Background(), arg); err != nil {
			fmt.Println(err)
		}
		return
	}
	os.Exit(m.Run())
}

// victim leaves a running container, a stopped one and two volumes, names them
// on standard output and waits to be killed.
func victim(ctx context.Context, ref, engine string) error {
	e, err := open(ctx, engine)
	if err != nil {
		return err
	}
	temp, err := container.TempVolume(ctx, e)
	if err != nil {
		return err
	}
	durable := temp + "-durable"
	if err := e.EnsureVolume(ctx, durable, true); err != nil {
		return err
	}
	for range 2 {
		c, err := e.Create(ctx, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"},
			Mounts: []container.Mount{{Volume: temp, Target: "/data"}}})
		if err != nil {
			return err
		}
		if err := c.Start(ctx); err != nil {
			return err
		}
	}
	fmt.Println("made", temp, durable)
	select {}
}

func TestSweep(t *testing.T) { each(t, testSweep) }

func testSweep(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+ref+" "+nameOf(e))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "made" {
		t.Fatalf("the victim said %q", line)
	}
	ctx, temp, durable := t.Context(), f[1], f[2]
	defer e.RemoveVolume(ctx, durable)
	mine, err := container.TempVolume(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	defer e.RemoveVolume(ctx, mine)
	exists := func(name string, want bool) {
		t.Helper()
		if ok, err := e.VolumeExists(ctx, name); ok != want || err != nil {
			t.Errorf("volume %s: there %t, want %t; %v", name, ok, want, err)
		}
	}

	if err := e.Sweep(ctx); err != nil {
		t.Error(err)
	}
	exists(temp, true)
	if ids, err := container.ContainersOf(ctx, e, ref); err != nil || len(ids) != 2 {
		t.Errorf("while its owner runs: %v %v", ids, err)
	}

	cmd.Process.Kill()
	cmd.Wait()
	if err := e.Sweep(ctx); err != nil {
		t.Error(err)
	}
	nothingLeft(t, e, ref)
	exists(temp, false)
	exists(durable, true)
	exists(mine, true)
}

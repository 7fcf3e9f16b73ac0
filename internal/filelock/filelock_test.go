package filelock

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// holdEnv names the file that the test binary locks, as another process, until its
// stdin ends.
const holdEnv = "KIMG_TEST_HOLD"

func TestMain(m *testing.M) {
	if file := os.Getenv(holdEnv); file != "" {
		if _, err := Take(context.Background(), file, func() {}); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("held\n")
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// elsewhere has another process lock the file.
func elsewhere(t *testing.T, file string) (unlock func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	}
}

func TestOneAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "locks", "thing")
	unlock := elsewhere(t, file)
	waited := 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Take(ctx, file, func() { waited++ }); !errors.Is(err, context.DeadlineExceeded) || waited != 1 {
		t.Errorf("a lock that another process holds: %v, waiting was called %d times", err, waited)
	}
	unlock()
	again, err := Take(t.Context(), file, func() { t.Error("it waited for a lock that nobody holds") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// Two goroutines of one process exclude each other too, and neither takes the other
// for another process.
func TestWithinOneProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "thing")
	waiting := func() { t.Error("a goroutine of this process is taken for another process") }
	unlock, err := Take(t.Context(), file, waiting)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Take(ctx, file, waiting); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that this process holds: %v", err)
	}
	second := make(chan error)
	go func() {
		unlock, err := Take(t.Context(), file, waiting)
		if err == nil {
			unlock()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("two goroutines hold one lock: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if len(here) != 0 {
		t.Errorf("what nobody holds is still known: %v", here)
	}
}

package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// settled waits for the number of goroutines to come back to what it was.
func settled(t *testing.T, e container.Engine, before int) {
	t.Helper()
	var now int
	for range 100 {
		e.Close() // idle connections have goroutines of their own
		if now = runtime.NumGoroutine(); now <= before {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines, %d before:\n%s", now, before, buf[:runtime.Stack(buf, true)])
}

// The end of a context at any moment of Run leaves no container, no goroutine
// and no connection, and Run says why it ended.
func TestCancelRun(t *testing.T) { each(t, testCancelRun) }

func testCancelRun(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	e.Close()
	before := runtime.NumGoroutine()
	why := errors.New("the person pressed Ctrl-C")
	for _, cmd := range []container.Cmd{
		{Args: []string{"sleep"}},
		{Args: []string{"cat"}, Stdin: endless{}},
		{Args: []string{"cat"}, Stdin: endless{}, TTY: true},
		{Args: []string{"sleep"}, Init: true},
	} {
		for _, after := range []time.Duration{0, 5, 50, 150, 300, 1000} {
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := time.AfterFunc(after*time.Millisecond, func() { cancel(why) })
			c := cmd
			c.Image, c.Args, c.Stdout = ref, append([]string{containertest.Helper}, cmd.Args...), io.Discard
			err := container.Run(ctx, e, &c)
			stop.Stop()
			cancel(nil)
			if !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s after %d ms: got %v, want %v", cmd.Args, after, err, why)
			}
			nothingLeft(t, e, ref)
		}
	}
	settled(t, e, before)
}

// A caller's reader or writer that blocks for ever does not hold Run up.
func TestCancelBlocked(t *testing.T) { each(t, testCancelBlocked) }

func testCancelBlocked(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	in, hold := io.Pipe()
	defer hold.Close()
	out, drop := io.Pipe()
	defer out.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	begun := time.Now()
	err := container.Run(ctx, e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "flood", "100000"},
		Stdin: in, Stdout: drop})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 20*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
	nothingLeft(t, e, ref)
}

func TestCancelImport(t *testing.T) { each(t, testCancelImport) }

func testCancelImport(t *testing.T, e container.Engine) {
	e.Close()
	before := runtime.NumGoroutine()
	const ref = "kimg-test:cancelled-import"
	for _, after := range []time.Duration{1, 50, 500} {
		ctx, cancel := context.WithTimeout(t.Context(), after*time.Millisecond)
		err := e.Import(ctx, ref, endlessTar(t))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %d ms: %v", after, err)
		}
		if _, ok, err := e.ImageID(t.Context(), ref); ok || err != nil {
			t.Errorf("after %d ms there is an image: %v", after, err)
		}
	}
	broken := errors.New("the source broke off")
	err := e.Import(t.Context(), ref, io.MultiReader(io.LimitReader(endlessTar(t), 1<<20), failing{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if _, ok, _ := e.ImageID(t.Context(), ref); ok {
		t.Error("a broken tar made an image")
	}
	settled(t, e, before)
}

func TestCancelCopyIn(t *testing.T) { each(t, testCancelCopyIn) }

func testCancelCopyIn(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	c, err := e.Create(t.Context(), &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.CopyIn(ctx, "/tmp", endlessTar(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := c.Remove(ctx); err != nil { // after the end of its context
		t.Error(err)
	}
	if err := c.Remove(ctx); err != nil {
		t.Errorf("a second Remove: %v", err)
	}
	nothingLeft(t, e, ref)
}

// A build that is cancelled, while its context is sent or while a step runs,
// leaves no container once Build has returned.
func TestCancelBuild(t *testing.T) { each(t, testCancelBuild) }

func testCancelBuild(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	e.Close()
	before := runtime.NumGoroutine()
	for _, after := range []time.Duration{1, 30, 100, 200, 300, 400, 500, 700, 900, 1200, 2000, 5000} {
		ctx, cancel := context.WithTimeout(t.Context(), after*time.Millisecond)
		defer cancel()
		var seen atomic.Bool
		time.AfterFunc((after-300)*time.Millisecond, func() {
			ids, _ := container.ContainersOf(ctx, e, ref)
			seen.Store(len(ids) > 0)
		})
		var log bytes.Buffer
		err := e.Build(ctx, container.BuildSpec{
			Tag: "kimg-test:cancelled-build",
			Log: &log,
			Context: containertest.Tar(t, containertest.File{Name: "Dockerfile", Mode: 0o644, Body: []byte(fmt.Sprintf(
				"FROM %s\nRUN [%q, \"echo\", \"%d\"]\nRUN [%q, "+
					"\"sleep\"]\n", ref, containertest.Helper, after, containertest.Helper))}),
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %d ms: %v", after, err)
		}
		nothingLeft(t, e, ref)
		if after == 5000 && !seen.Load() {
			t.Error("no container was seen while a step ran: the test proves nothing")
		}
		if t.Failed() {
			t.Logf("after %d ms:\n%s", after, &log)
		}
	}
	settled(t, e, before)
}

// Removing a container ends a Wait for it.
func TestRemoveWhileRunning(t *testing.T) { each(t, testRemoveWhileRunning) }

func testRemoveWhileRunning(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	e.Close()
	before := runtime.NumGoroutine()
	c, err := e.Create(t.Context(), &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- c.Wait() }()
	if err := c.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-waited; err == nil || strings.Contains(err.Error(), "exit status 0") {
		t.Errorf("Wait for a removed container: %v", err)
	}
	settled(t, e, before)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("x\n"), (len(p)+1)/2)), nil
}

// endlessTar is the start of a tar with a file of a terabyte.
func endlessTar(t *testing.T) io.Reader {
	head := make([]byte, 512)
	if _, err := io.ReadFull(containertest.Tar(t, containertest.File{Name: "big", Mode: 0o644}), head); err != nil {
		t.Fatal(err)
	}
	// ustar: size is 12 octal digits at 124, the checksum 6 at 148 (POSIX pax, "ustar Interchange Format").
	copy(head[124:], "777777777777")
	copy(head[148:], "        ")
	sum := 0
	for _, b := range head {
		sum += int(b)
	}
	copy(head[148:], fmt.Sprintf("%06o\x00 ", sum))
	return io.MultiReader(bytes.NewReader(head), endless{})
}

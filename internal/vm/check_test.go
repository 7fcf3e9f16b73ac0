package vm

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The script's own line is not the command's, wherever the guest cuts its words.
func TestBarrier(t *testing.T) {
	for _, said := range [][]string{{"312\n", "one\ntwo\n"}, {"312\none\ntwo\n"}, {"", "31", "2\none\n", "two\n"}} {
		var out bytes.Buffer
		g := newBarrier(strings.NewReader("input"), &out)
		for _, s := range said {
			if n, err := g.out.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatalf("%q: %d, %v", s, n, err)
			}
		}
		<-g.reached
		if out.String() != "one\ntwo\n" || g.out.pid != 312 {
			t.Errorf("%q became %q of process %d", said, out.String(), g.out.pid)
		}
		read := make(chan string)
		go func() {
			b, _ := io.ReadAll(g)
			read <- string(b)
		}()
		select {
		case early := <-read:
			t.Fatalf("%q came through a barrier that is shut", early)
		case <-time.After(10 * time.Millisecond):
		}
		g.open()
		if got := <-read; got != "\ninput" {
			t.Errorf("the script reads %q", got)
		}
	}
}

func TestBarrierThatStaysShut(t *testing.T) {
	g := newBarrier(nil, nil)
	g.close()
	g.close()
	if b, err := io.ReadAll(g); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestBarrierOfAHostileGuest(t *testing.T) {
	g := newBarrier(nil, nil)
	for range 1000 {
		if _, err := g.out.Write(bytes.Repeat([]byte("9"), 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.out.Write([]byte("\n")); err != nil || g.out.pid != 0 {
		t.Errorf("process %d, %v", g.out.pid, err)
	}
}

// The barrier is the script's own: it is tried with this machine's shell.
func TestScriptBehindBarrier(t *testing.T) {
	var out, errs bytes.Buffer
	g := newBarrier(strings.NewReader("input"), &out)
	cmd := exec.Command("sh", "-c", behindBarrier([]string{"sh", "-ec", "cat; echo \"it's $0\" >&2; exit 3", "me"}))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = g, &g.out, &errs
	if err := cmd.Start(); err != nil {
		t.Skip("no shell here")
	}
	<-g.reached
	if g.out.pid != cmd.Process.Pid {
		t.Errorf("it says it is process %d, not %d", g.out.pid, cmd.Process.Pid)
	}
	g.open()
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 3 || out.String() != "input" || errs.String() != "it's me\n" {
		t.Errorf("%v, stdout %q, stderr %q", err, out.String(), errs.String())
	}
}

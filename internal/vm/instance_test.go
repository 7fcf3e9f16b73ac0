package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/toolbox"
)

func TestTail(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"lines", "one\r\ntwo\n\n  three", []string{"one", "two", "three"}},
		{"escapes", "\x1b[0;1;31m*\x1b[0m] red\x1b]\x07\n\x1bcx\x1b[", []string{"*] red", "x"}},
		{"a title", "\x1b]0;evil\aone\r\n\x1b]0;evil\x1b\\two", []string{"one", "two"}},
		{"not text", "a\x00b\x7f\u009bc\n", []string{"abc"}},
		{"a long line", strings.Repeat("x", tailLine+1) + "\n", []string{strings.Repeat("x", tailLine), "x"}},
	} {
		var also bytes.Buffer
		w := &tail{also: &also}
		for i := range len(c.in) {
			w.Write([]byte{c.in[i]})
		}
		got := w.lines()
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.name, diff)
		}
		if also.String() != c.in {
			t.Errorf("%s: %q was passed on", c.name, also.String())
		}
	}
	w := &tail{}
	for i := range 3 * tailLines {
		fmt.Fprintf(w, "%d\n", i)
	}
	if got := w.lines(); len(got) != tailLines || got[0] != fmt.Sprint(2*tailLines) {
		t.Errorf("kept %d lines from %s", len(got), got[0])
	}
}

// waitsForInput runs programs that end when their input does, and not before.
type waitsForInput struct{}

func (waitsForInput) Start(ctx context.Context, p toolbox.Program) (func() error, error) {
	input := make(chan struct{})
	go func() {
		defer close(input)
		io.Copy(io.Discard, p.Stdin)
	}()
	return func() error {
		<-ctx.Done()
		<-input
		return context.Cause(ctx)
	}, nil
}

func (waitsForInput) Local(context.Context, string) (string, error) { return "", errors.New("none") }
func (waitsForInput) Kill(context.Context) error                    { return nil }
func (waitsForInput) Close(context.Context) error                   { return nil }

// fails runs programs that say something and end with status 1.
type fails struct {
	waitsForInput
	stdout, stderr string
}

func (f fails) Start(_ context.Context, p toolbox.Program) (func() error, error) {
	io.WriteString(p.Stdout, f.stdout)
	io.WriteString(p.Stderr, f.stderr)
	return func() error { return &container.ExitError{Code: 1} }, nil
}

// A QEMU that does not start the guest is no fault of the guest's.
func TestEndError(t *testing.T) {
	const denied = "-drive file=/out/rootfs.img: Could not open '/out/rootfs.img': Permission denied"
	for _, tt := range []struct {
		name  string
		qemu  fails
		guest bool
		hint  bool
	}{
		{"a file that may not be opened", fails{stderr: arch.Default.QEMU + ": " + denied + "\n"}, false, true},
		{"another fault", fails{stderr: arch.Default.QEMU + ": no such device\n"}, false, false},
		{"a guest that spoke", fails{stdout: "Linux version 6\n", stderr: "error: kvm run failed\n"}, true, false},
	} {
		vm := &instance{machine: Machine{Arch: arch.Default}, o: &Options{}, link: &link{},
			tools: &toolbox.Tools{Runner: tt.qemu}}
		if err := vm.boot(t.Context(), guestIO{}); err != nil {
			t.Fatal(err)
		}
		err := vm.endError(t.Context())
		var guest *GuestError
		var start *StartError
		if errors.As(err, &guest) != tt.guest || errors.As(err, &start) == tt.guest {
			t.Errorf("%s: %T %v", tt.name, err, err)
		}
		if start != nil && (start.Hint() != "") != tt.hint {
			t.Errorf("%s: hint %q", tt.name, start.Hint())
		}
		if tt.hint && !strings.HasSuffix(err.Error(), "QEMU ended: exit status 1: "+denied) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// notes writes down what is run: programs end with their context, e2fsck at once.
type notes struct {
	waitsForInput
	did *[]string
}

func (n notes) Start(ctx context.Context, p toolbox.Program) (func() error, error) {
	if p.Args[0] != "e2fsck" {
		return func() error { <-ctx.Done(); return context.Cause(ctx) }, nil
	}
	*n.did = append(*n.did, "e2fsck "+p.Args[1])
	return ctx.Err, nil
}

func (n notes) Kill(ctx context.Context) error {
	*n.did = append(*n.did, "end")
	return ctx.Err()
}

// However a run ended, the disk that it wrote to is checked, and not before QEMU is gone.
func TestSettle(t *testing.T) {
	fault := errors.New("fault")
	for _, tt := range []struct {
		name      string
		o         Options
		err       error
		clean     bool
		cancelled bool
		did       string
	}{
		{name: "nothing is kept", err: fault},
		{name: "a fault", o: Options{Write: true}, err: fault, did: "end,e2fsck -fp"},
		{name: "a snapshot, interrupted", o: Options{Snapshot: "s"}, err: ErrInterrupted, did: "end,e2fsck -fp"},
		{name: "a signal", o: Options{Write: true}, err: context.Canceled, cancelled: true, did: "end,e2fsck -fp"},
		{name: "the plug was pulled", o: Options{Write: true}, did: "end,e2fsck -fp"},
		{name: "shut down", o: Options{Write: true}, clean: true, did: "e2fsck -fn"},
		{name: "shut down after a fault", o: Options{Write: true}, err: fault, clean: true, did: "e2fsck -fn"},
	} {
		var did []string
		ctx, cancel := context.WithCancel(t.Context())
		vm := &instance{machine: Machine{Arch: arch.Default}, o: &tt.o, link: &link{},
			tools: &toolbox.Tools{Isolated: true, Runner: notes{did: &did}}}
		if err := vm.boot(ctx, guestIO{}); err != nil {
			t.Fatal(err)
		}
		if vm.clean = tt.clean; tt.cancelled {
			cancel()
		}
		if err := vm.settle(ctx, tt.err); !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := strings.Join(did, ","); got != tt.did {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.did)
		}
		cancel()
	}
}

// A console without input must not hold up the end of the guest.
func TestQuitEndsTheInput(t *testing.T) {
	typed, keys := io.Pipe()
	defer keys.Close()
	vm := &instance{machine: Machine{Arch: arch.Default}, o: &Options{}, link: &link{},
		tools: &toolbox.Tools{Runner: waitsForInput{}}}
	if err := vm.boot(t.Context(), guestIO{stdin: typed, mute: func() { typed.Close() }}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		vm.quit()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("quit waits for somebody to type")
	}
}

// What reads a console hears all of it, a recorded guest's too, and a panic is told with its reason.
func TestConsoleTail(t *testing.T) {
	var console, watch bytes.Buffer
	o := Options{Console: &console, Watch: &watch}
	tail := o.ConsoleTail()
	if err := tail.Panic(); err != nil {
		t.Error(err)
	}
	const said = "[    1.0] Kernel panic - not syncing: sysrq\r\n"
	if _, err := io.WriteString(tail, said); err != nil || console.String() != said || watch.String() != said {
		t.Errorf("%q, %q, %v", console.String(), watch.String(), err)
	}
	err := tail.Panic()
	if err == nil || err.What != "the guest's kernel panicked: sysrq" || len(err.Console) != 1 {
		t.Errorf("%+v", err)
	}
	if lines := (&Options{}).ConsoleTail().Lines(); len(lines) != 0 {
		t.Error(lines)
	}
}

package vm_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// A batch of the user's own: gdb stops at the breakpoint, and the kernel's
// scripts work there.
func TestDebugSession(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // others may have guests, too
	o := realGuest(t)
	var out bytes.Buffer
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader(""), &out, &out
	attached := false
	err := vm.Debug(t.Context(), o, vm.Debugging{
		Breaks: []string{"do_sys_open"}, Batch: true,
		Commands: []string{"backtrace 2", "lx-ps", "lx-dmesg", "lx-symbols", "print $lx_current().comm"},
		Attached: func(guest string) func() {
			attached = guest != ""
			return func() {}
		},
	})
	tell(t, err)
	// The first of them: gdb found the guest where it was run to before.
	for _, want := range []string{"0x0000000001000000 in", "breakpoint 1", "#0  do_sys_open", "kthreadd",
		"Linux version", "loading vmlinux", "$1 = "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("gdb did not say %q", want)
		}
	}
	if t.Failed() || !attached {
		t.Errorf("attached: %v\n%s", attached, out.String())
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "kimg-vm-*", "guest.json")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Commands that come through a pipe are gdb's too; meanwhile somebody looks at the console.
func TestDebugFromAPipe(t *testing.T) {
	o := realGuest(t)
	var out bytes.Buffer
	r, w := io.Pipe()
	o.Stdin, o.Stdout, o.Stderr = r, &out, &out
	console := make(chan string, 1)
	err := vm.Debug(t.Context(), o, vm.Debugging{
		Breaks: []string{"start_kernel", "do_sys_open"},
		Attached: func(name string) func() {
			go func() {
				var said bytes.Buffer
				for _, g := range vm.RunningGuests() {
					if g.Name == name {
						_ = vm.Attach(t.Context(), g, strings.NewReader(""), &said)
					}
				}
				console <- said.String()
			}()
			go io.WriteString(w, "info registers rip\ncontinue\nprint 6*7\nquit\n")
			return func() {}
		},
	})
	tell(t, err)
	if said := out.String(); !strings.Contains(said, "$1 = 42") || !strings.Contains(said, "<start_kernel") {
		t.Errorf("gdb said\n%s", said)
	}
	if said := <-console; !strings.Contains(said, "Linux version") {
		t.Errorf("the console said\n%s", said)
	}
}

func TestDebugWithoutSuchAPlace(t *testing.T) {
	for _, at := range []string{"do_sys_opem", "fs/open.c:99999", "fs/opem.c:1"} {
		err := vm.Debug(t.Context(), realGuest(t), vm.Debugging{Breaks: []string{at}, Batch: true})
		var unknown *gdb.NoBreakError
		if !errors.As(err, &unknown) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestDebugOfAQEMUThatDoesNotStart(t *testing.T) {
	o := realGuest(t)
	o.QEMU = []string{"-nonsense"}
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader(""), io.Discard, io.Discard
	err := vm.Debug(t.Context(), o, vm.Debugging{})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("%v", err)
	}
}

// A first session makes gdb's index of vmlinux, and a second one uses it.
func TestDebugIndex(t *testing.T) {
	o := realGuest(t)
	box, ok := o.Toolbox.(toolbox.Container)
	if !ok {
		t.Skip("this machine's gdb obeys its user's settings")
	}
	box.Indexes = t.TempDir()
	o.Toolbox = box
	r, w := io.Pipe()
	go func() {
		defer io.WriteString(w, "quit\n")
		for range 600 {
			if made, _ := filepath.Glob(filepath.Join(box.Indexes, "*", "*.gdb-index")); len(made) > 0 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	o.Stdin, o.Stdout, o.Stderr = r, io.Discard, io.Discard
	tell(t, vm.Debug(t.Context(), o, vm.Debugging{}))

	var out bytes.Buffer
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader(""), &out, &out
	tell(t, vm.Debug(t.Context(), o, vm.Debugging{Batch: true,
		Commands: []string{"info line do_sys_open", "show index-cache stats"}}))
	if said := out.String(); !strings.Contains(said, "hits (this session): 1") || !strings.Contains(said, "fs/open.c") {
		t.Errorf("gdb said\n%s", said)
	}
}

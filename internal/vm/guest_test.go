package vm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// realGuest is a guest of the artifacts in KIMG_TEST_OUT, booted with the tools of
// this machine or of the image KIMG_TEST_IMAGING. Both come from a build, so this
// runs where one was made: in the end-to-end test.
func realGuest(t *testing.T) vm.Options {
	t.Helper()
	dir := os.Getenv("KIMG_TEST_OUT")
	if dir == "" {
		t.Skip("KIMG_TEST_OUT names no out directory of a build")
	}
	imaging := func(ctx context.Context) (toolbox.Engine, string, error) {
		image := os.Getenv("KIMG_TEST_IMAGING")
		if image == "" {
			return nil, "", errors.New("no QEMU and gdb here, and KIMG_TEST_IMAGING names no image that has them")
		}
		eng, err := container.Connect(ctx)
		return eng, image, err
	}
	tools, err := toolbox.Choose(t.Context(), arch.Default, os.Getenv("KIMG_TOOLS"), true, imaging)
	if err != nil {
		t.Fatal(err)
	}
	return vm.Options{Dir: dir, Toolbox: tools, User: vm.User{BootLimit: 20 * time.Minute},
		Say: func(s string) { t.Log(s) }}
}

// tell fails the test with the guest's last words.
func tell(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var guest *vm.GuestError
	if errors.As(err, &guest) {
		t.Fatalf("%v\n%s", err, strings.Join(guest.Console, "\n"))
	}
	t.Fatal(err)
}

func TestGuestRunsACommand(t *testing.T) {
	o := realGuest(t)
	var stdout, stderr bytes.Buffer
	input := strings.Repeat("\x00\xff\n", 10000)
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader(input), &stdout, &stderr
	status, err := vm.Exec(t.Context(), o, []string{"sh", "-c", "cat; pwd >&2; exit 42"})
	tell(t, err)
	if status != 42 || stdout.String() != input || stderr.String() != "/root\n" {
		t.Errorf("status %d, %d bytes out, err %q", status, stdout.Len(), stderr.String())
	}
}

func TestGuestStopsAtABreakpoint(t *testing.T) {
	o := realGuest(t)
	var stdout bytes.Buffer
	o.Stdout = &stdout
	result, err := vm.RunCheck(t.Context(), o, vm.Check{Break: "do_sys_open", Command: []string{"uname", "-s"}})
	tell(t, err)
	if !result.Hit || result.Frames[0].File != "fs/open.c" || len(result.Backtrace) == 0 {
		t.Errorf("%+v", result)
	}
	if !result.Ran || result.Status != 0 || stdout.String() != "Linux\n" {
		t.Errorf("after it: %v, status %d, %q", result.Ran, result.Status, stdout.String())
	}
}

func TestNoSuchBreakpoint(t *testing.T) {
	_, err := vm.RunCheck(t.Context(), realGuest(t), vm.Check{Break: "do_sys_opem"})
	var unknown *gdb.NoBreakError
	if !errors.As(err, &unknown) || !strings.Contains(unknown.Hint(), "do_sys_open") {
		t.Errorf("%v", err)
	}
}

// Piped input reaches the login shell on the serial console, and its end ends the guest.
func TestGuestConsole(t *testing.T) {
	o := realGuest(t)
	var stdout bytes.Buffer
	o.Stdin, o.Stdout = strings.NewReader("echo $((6 * 7))-is-it; exit 3\n"), &stdout
	status, err := vm.Run(t.Context(), o)
	tell(t, err)
	if status != 3 || !strings.Contains(stdout.String(), "42-is-it") {
		t.Errorf("status %d\n%s", status, stdout.String())
	}
}

func TestGuestPanics(t *testing.T) {
	o := realGuest(t)
	o.Append = "root=/dev/nothing"
	_, err := vm.Exec(t.Context(), o, []string{"true"})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || !strings.Contains(guest.What, "panicked") || len(guest.Console) == 0 {
		t.Errorf("%v", err)
	}
}

func TestGuestIsLate(t *testing.T) {
	o := realGuest(t)
	o.BootLimit = time.Second
	_, err := vm.Exec(t.Context(), o, []string{"true"})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(o.BootLimit)) {
		t.Errorf("%v", err)
	}
}

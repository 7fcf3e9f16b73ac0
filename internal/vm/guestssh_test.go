package vm_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/vm"
)

// sshGuest is a real guest whose image has openssh-server.
func sshGuest(t *testing.T) vm.Options {
	t.Helper()
	o := realGuest(t)
	if lock, err := os.ReadFile(filepath.Join(o.Dir, "kimg.lock")); err != nil ||
		!strings.Contains(string(lock), "openssh-server") {
		t.Skip("KIMG_TEST_OUT was built without --include openssh-server")
	}
	var err error
	if o.Keys, err = vm.LoadKeys(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return o
}

// Two log in to one guest, which is the first one's: by its keys, with systemd and without.
func TestGuestSSH(t *testing.T) {
	for _, direct := range []bool{false, true} {
		o := sshGuest(t)
		o.Direct = direct
		r, w := io.Pipe()
		var first, second bytes.Buffer
		o.Stdin, o.Stdout, o.Stderr = r, &first, &first
		other := vm.User{Stdin: strings.NewReader("in"), Stdout: &second, Stderr: &second}
		attached := make(chan error, 1)
		var otherStatus int
		status, err := vm.SSH(t.Context(), o, vm.Login{Command: []string{"sh", "-c", "cat; exit 3"}, Connected: func() {
			go func() {
				defer w.Close()
				err := errors.New("the guest is not among the running ones")
				for _, g := range vm.RunningGuests() {
					if g.PID == os.Getpid() && g.Keyed {
						otherStatus, err = vm.SSHTo(t.Context(), g, o.Keys, other,
							vm.Login{Command: []string{"sh", "-c", "cat; id -u; exit 4"}})
					}
				}
				attached <- err
				io.WriteString(w, "done")
			}()
		}})
		tell(t, err)
		tell(t, <-attached)
		if status != 3 || first.String() != "done" || otherStatus != 4 || second.String() != "in0\n" {
			t.Errorf("direct %v: %d, %q; the other %d, %q", direct, status, first.String(), otherStatus,
				second.String())
		}
	}
}

// A panic in the middle of a session is reported, with the console's last lines.
func TestGuestSSHPanics(t *testing.T) {
	o := sshGuest(t)
	o.Direct = true
	_, err := vm.SSH(t.Context(), o, vm.Login{Command: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || !strings.Contains(guest.What, "panicked") {
		t.Errorf("%v", err)
	}
}

func TestGuestSSHWithoutANetwork(t *testing.T) {
	o := realGuest(t)
	o.Network.Mode = vm.NoNet
	if _, err := vm.SSH(t.Context(), o, vm.Login{}); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("%v", err)
	}
}

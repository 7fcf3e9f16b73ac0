package vm_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/vm"
)

// A guest is kept by the first command, and later ones go on from it: with the right time, and with nothing that two
// guests must not share. One with a flipped byte is not used, and made anew by a later command.
func TestGuestsGoOn(t *testing.T) {
	for name, direct := range map[string]bool{"systemd": false, "without systemd": true} {
		t.Run(name, func(t *testing.T) { goOn(t, direct) })
	}
}

func goOn(t *testing.T, direct bool) {
	o := realGuest(t)
	if qemu.ProbeKVM(arch.Default) == nil {
		t.Skip("guests are kept where they are emulated")
	}
	o.Direct, o.KeepItself, o.Kept = direct, true, filepath.Join(t.TempDir(), "guests")
	var said []string
	o.Say = func(text string) { said = append(said, text); t.Log(text) }
	kept := func() []string {
		list, err := filepath.Glob(filepath.Join(o.Kept, strings.Repeat("[0-9a-f]", 64)))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	const script = `head -c 16 /dev/urandom | od -An -tx1
		cat /etc/machine-id; cat /proc/sys/kernel/hostname; date +%s; dmesg | grep -c 'kimg: this guest' || true
		! test -d /run/systemd/system || journalctl --boot --dmesg | grep -q 'Linux version' || echo no journal`
	seen := map[string]bool{}
	var host string
	run := func() {
		t.Helper()
		var stdout bytes.Buffer
		o.Stdout = &stdout
		said = nil
		status, err := vm.Exec(t.Context(), o, []string{"sh", "-c", script})
		tell(t, err)
		lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
		if status != 0 || len(lines) < 4 {
			t.Fatalf("status %d, %q", status, lines)
		}
		t.Logf("%q", lines)
		at := len(lines) - 3
		for _, own := range lines[:at] {
			if seen[own] && own != "" { // without systemd there is no machine id
				t.Errorf("%s was another guest's", own)
			}
			seen[own] = true
		}
		if host == "" {
			host = lines[at]
		}
		if lines[at] != host {
			t.Errorf("it is called %s, and was called %s", lines[at], host)
		}
		date, err := strconv.ParseInt(lines[at+1], 10, 64)
		if off := time.Since(time.Unix(date, 0)); err != nil || off < -2*time.Second || off > 30*time.Second {
			t.Errorf("the guest's clock is off by %v, %v", off, err)
		}
		if lines[at+2] != "1" {
			t.Errorf("dmesg tells %s times that it was kept", lines[at+2])
		}
		if strings.Contains(strings.Join(said, "\n"), "cannot be used") {
			t.Errorf("said: %q", said)
		}
	}
	run()
	if len(kept()) != 1 {
		t.Fatalf("kept: %q", kept())
	}
	run()
	run()
	// A bit of it that is another one: it is seen whatever QEMU makes of it (package kept tests each file).
	name := filepath.Join(kept()[0], "devices")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x40
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	o.Stdout, said = &stdout, nil
	status, err := vm.Exec(t.Context(), o, []string{"echo", "well"})
	tell(t, err)
	if status != 0 || stdout.String() != "well\n" || !strings.Contains(strings.Join(said, "\n"), "cannot be used") {
		t.Errorf("a damaged one: status %d, %q, said %q", status, stdout.String(), said)
	}
	if len(kept()) != 0 {
		t.Errorf("the damaged one is still kept")
	}
}

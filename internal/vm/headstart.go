package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/qemu"
)

// headSocket is where QEMU's gdb stub listens first, for kimg. gdb's is made after that.
const headSocket = "head"

// headLimit is how long the firmware and the kernel's unpacking may take. After it gdb
// gets the guest wherever it is.
func headLimit(a qemu.Accel) time.Duration {
	if a == qemu.TCG {
		return 30 * time.Second
	}
	return 5 * time.Second
}

// headStart is the physical address that the guest may run to before gdb has come, or 0
// where it may not: the kernel's first instruction, with the kernel unpacked and no
// page of it mapped yet, so that it is before every place that gdb knows by a name. An
// address that is asked for may be anywhere.
func (s *symbols) headStart(breaks []string) uint64 {
	if len(breaks) == 0 || slices.ContainsFunc(breaks, func(at string) bool { return strings.HasPrefix(at, "*") }) {
		return 0
	}
	return s.entry
}

// stub is the stub of a guest that is to stop in breaks, and where its head start ends;
// a guest that runs at once has none.
func (s *symbols) stub(site *Site, breaks []string, running bool) (stub qemu.GDBStub, entry uint64) {
	if !running {
		entry = s.headStart(breaks)
	}
	if entry != 0 {
		return qemu.GDBStub{Socket: site.Socket(headSocket)}, entry
	}
	return qemu.GDBStub{Socket: site.Socket(gdbSocket), Running: running}, 0
}

// awaitGDB lets the halted guest run to entry, unless that is 0, and has gdb's socket
// listen. gdb reads the symbols meanwhile, as long as the firmware takes and longer.
func (m *machine) awaitGDB(ctx context.Context, entry uint64) error {
	if entry == 0 {
		_, err := m.order(ctx, "query-status", nil) // that QEMU is there
		return err
	}
	head, cancel := context.WithTimeout(ctx, headLimit(m.site.Accel))
	defer cancel()
	// A guest that does not come that far is gdb's to look at.
	_ = m.runTo(head, entry)
	if ctx.Err() != nil || m.ended() {
		return nil // that has been told, or is
	}
	return m.moveStub(ctx)
}

// runTo sets a hardware breakpoint, lets the guest run, and returns when it has stopped
// there. It speaks GDB's remote serial protocol with QEMU; the breakpoint goes when gdb
// connects. (https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html)
func (m *machine) runTo(ctx context.Context, address uint64) error {
	conn, err := m.connect(ctx, headSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return runStub(conn, address)
}

// runStub is runTo's side of the conversation.
func runStub(conn io.ReadWriter, address uint64) error {
	from := bufio.NewReader(conn)
	ask := func(packet string) (string, error) {
		sum := byte(0)
		for _, b := range []byte(packet) {
			sum += b
		}
		if _, err := fmt.Fprintf(conn, "$%s#%02x", packet, sum); err != nil {
			return "", err
		}
		if _, err := from.ReadString('$'); err != nil { // an acknowledgement comes first
			return "", err
		}
		answer, err := from.ReadString('#')
		if err != nil {
			return "", err
		}
		if _, err := io.CopyN(io.Discard, from, 2); err != nil { // its sum: nothing is lost on a socket
			return "", err
		}
		_, err = io.WriteString(conn, "+")
		return strings.TrimSuffix(answer, "#"), err
	}
	set := fmt.Sprintf("Z1,%x,1", address)
	if answer, err := ask(set); err != nil || answer != "OK" {
		return errors.Join(err, fmt.Errorf("QEMU's answer to %s is %q", set, answer))
	}
	stopped, err := ask("c")
	if err == nil && !strings.HasPrefix(stopped, "T05") {
		err = fmt.Errorf("QEMU's answer to c is %q", stopped)
	}
	return err
}

// moveStub has QEMU's gdb stub listen at gdb's socket, and nowhere else.
func (m *machine) moveStub(ctx context.Context) error {
	type named = map[string]any
	_, err := m.order(ctx, "chardev-add", named{"id": "debugger", "backend": named{"type": "socket", "data": named{
		"addr":   named{"type": "unix", "data": named{"path": m.site.Socket(gdbSocket)}},
		"server": true, "wait": false,
	}}})
	if err != nil {
		return err
	}
	// QMP itself has no command for it.
	said, err := m.order(ctx, "human-monitor-command", named{"command-line": "gdbserver chardev:debugger"})
	var answer string
	if err == nil && json.Unmarshal(said, &answer) == nil && strings.Contains(answer, "ould not") {
		err = fmt.Errorf("have QEMU wait for gdb: %s", strings.TrimSpace(answer))
	}
	return err
}

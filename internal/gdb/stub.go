package gdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// RunStub sets a hardware breakpoint, lets the guest run, and returns when it has stopped there. conn is a
// connection to QEMU's gdb stub; the breakpoint goes when gdb connects to the stub. It speaks GDB's remote serial
// protocol: https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html
func RunStub(conn io.ReadWriter, address uint64) error {
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
		if _, err := io.CopyN(io.Discard, from, 2); err != nil { // its checksum: nothing is lost on a socket
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

package gdb

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// playQEMU plays QEMU's side: it wants each of the packets in turn, and answers it.
func playQEMU(t *testing.T, conn io.ReadWriter, packets ...string) {
	from := bufio.NewReader(conn)
	for i := 0; i+1 < len(packets); i += 2 {
		got := make([]byte, len(packets[i]))
		if _, err := io.ReadFull(from, got); err != nil || string(got) != packets[i] {
			t.Errorf("got %q (%v), want %q", got, err, packets[i])
			return
		}
		io.WriteString(conn, packets[i+1])
	}
}

func TestRunStub(t *testing.T) {
	for _, tt := range []struct {
		name    string
		packets []string
		err     string // empty: none
	}{
		{"stops", []string{"$Z1,1000000,1#65", "+$OK#9a", "+$c#63", "+$T05thread:01;#07", "+", ""}, ""},
		{"has no such breakpoints", []string{"$Z1,1000000,1#65", "+$#00", "+", ""}, `answer to Z1,1000000,1 is ""`},
		{"stops elsewhere", []string{"$Z1,1000000,1#65", "+$OK#9a", "+$c#63", "+$T0bthread:01;#35", "+", ""},
			`answer to c is "T0b`},
		{"ends", []string{"$Z1,1000000,1#65", "+$OK#9a", "+$c#63", "+"}, "EOF"},
	} {
		here, there := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer there.Close()
			playQEMU(t, there, tt.packets...)
		}()
		err := RunStub(here, 0x1000000)
		here.Close()
		<-ended
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
	}
}

package vm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/tap/taptest"
	"github.com/kimg/kimg/internal/vm"
)

// Shared directories, without systemd: what is read-only, and what is not.
func TestGuestShares(t *testing.T) {
	o := realGuest(t)
	ro, rw := filepath.Join(t.TempDir(), "read, only"), t.TempDir()
	if err := os.MkdirAll(ro, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ro, "file"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{ro, rw + ":/work/here:rw"} {
		share, err := vm.ParseShare(text)
		if err != nil {
			t.Fatal(err)
		}
		o.Shares = append(o.Shares, share)
	}
	var stdout bytes.Buffer
	o.Direct, o.Stdout = true, &stdout
	status, err := vm.Exec(t.Context(), o, []string{"sh", "-c",
		`cat "/mnt/read, only/file"; touch "/mnt/read, only/new" && exit 9; echo made >/work/here/new`})
	tell(t, err)
	if got, err := os.ReadFile(filepath.Join(rw, "new")); status != 0 || stdout.String() != "hello\n" ||
		string(got) != "made\n" {
		t.Errorf("status %d, %q; on this machine %q, %v", status, stdout.String(), got, err)
	}
	if left, _ := os.ReadDir(ro); len(left) != 1 {
		t.Errorf("the guest wrote where it may not: %v", left)
	}
}

// The login shell's place is taken by a command, without systemd.
func TestGuestDirectSession(t *testing.T) {
	o := realGuest(t)
	var stdout bytes.Buffer
	o.Direct, o.Session, o.Stdin, o.Stdout = true, "sh", strings.NewReader("echo $((6 * 7))-on-$(tty); exit 3\n"),
		&stdout
	status, err := vm.Run(t.Context(), o)
	tell(t, err)
	if status != 3 || !strings.Contains(stdout.String(), "42-on-/dev/ttyS0") {
		t.Errorf("status %d\n%s", status, stdout.String())
	}
}

// What is written to a snapshot is there for the next guest, and e2fsck content.
func TestGuestSnapshot(t *testing.T) {
	o := realGuest(t)
	name := fmt.Sprintf("test-%d", os.Getpid())
	t.Cleanup(func() {
		if err := vm.DropSnapshot(o.Dir, name); err != nil {
			t.Error(err)
		}
	})
	o.Direct, o.Snapshot = true, name
	var said []string
	o.Say = func(line string) { said = append(said, line) }
	var stdout bytes.Buffer
	o.Stdout = &stdout
	_, err := vm.Exec(t.Context(), o, []string{"sh", "-c", "echo kept >/root/kept"})
	tell(t, err)
	if last := said[len(said)-1]; !strings.Contains(last, "is sound (e2fsck -fn)") {
		t.Errorf("said at the end: %q", last)
	}
	_, err = vm.Exec(t.Context(), o, []string{"cat", "/root/kept"})
	tell(t, err)
	if stdout.String() != "kept\n" {
		t.Errorf("the next guest found %q", stdout.String())
	}
}

// A guest that ends against the plan leaves a disk that was checked, too: after its time
// was up and a second Ctrl-C shut down, after a panic and a signal repaired.
func TestGuestSnapshotAfterAFault(t *testing.T) {
	name := fmt.Sprintf("test-fault-%d", os.Getpid())
	for _, tt := range []struct{ how, script, says string }{
		{"time", "echo up; sleep 600", "is sound (e2fsck -fn)"},
		{"interrupts", "trap '' INT; echo up; sleep 600", "is sound (e2fsck -fn)"},
		{"panic", "echo up; echo c >/proc/sysrq-trigger", "(e2fsck -fp)"},
		{"signal", "echo up; sleep 600", "(e2fsck -fp)"},
	} {
		o := realGuest(t)
		o.Direct, o.Snapshot = true, name
		var said []string
		o.Say = func(line string) { said = append(said, line) }
		up := &watch{word: "up\n", seen: make(chan struct{})}
		o.Stdout = up
		interrupt := make(chan os.Signal)
		o.Interrupt = interrupt
		ctx, cancel := context.WithCancel(t.Context())
		switch tt.how {
		case "time":
			o.RunLimit = 5 * time.Second
		case "interrupts":
			go func() {
				<-up.seen
				interrupt <- os.Interrupt
				interrupt <- os.Interrupt
			}()
		case "signal":
			go func() {
				<-up.seen
				cancel()
			}()
		}
		_, err := vm.Exec(ctx, o, []string{"sh", "-c", tt.script})
		cancel()
		if last := said[len(said)-1]; err == nil || !strings.Contains(last, tt.says) {
			t.Errorf("%s: said at the end: %q, %v", tt.how, last, err)
		}
	}
	if err := vm.DropSnapshot(realGuest(t).Dir, name); err != nil {
		t.Error(err)
	}
}

// A connection reaches the guest through the place where QEMU runs, and back.
func TestGuestForward(t *testing.T) { forward(t, directGuest(t)) }

func forward(t *testing.T, o vm.Options) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	o.Network = vm.Network{Mode: vm.UserNet, Forwards: []qemu.Forward{{Host: uint16(port), Guest: 80}}}
	up := &firstLine{seen: make(chan struct{})}
	o.Stdout = up
	const server = `use IO::Socket::INET; $| = 1; my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 1) or die;
print "up\n"; my $c = $s->accept; my $n = 0; $n += length while <$c>; print $c "got $n\n"; close $c`
	answer := make(chan string, 1)
	go func() {
		<-up.seen
		conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer conn.Close()
		io.WriteString(conn, strings.Repeat("x", 1<<20))
		conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(conn)
		answer <- string(all)
	}()
	_, err = vm.Exec(t.Context(), o, []string{"perl", "-e", server})
	tell(t, err)
	if got := <-answer; got != fmt.Sprintf("got %d\n", 1<<20) {
		t.Errorf("%q", got)
	}
}

// firstLine tells when something has been written to it.
type firstLine struct {
	once sync.Once
	seen chan struct{}
}

func (f *firstLine) Write(p []byte) (int, error) {
	f.once.Do(func() { close(f.seen) })
	return len(p), nil
}

// The guest answers on a TAP at the address that the user is shown, and that
// systemd-networkd has given it.
func TestGuestOnTAP(t *testing.T) {
	o := realGuest(t)
	taptest.OwnNetwork(t)
	taptest.IP(t, "tuntap add dev tap0 mode tap")
	taptest.IP(t, "link set dev tap0 up")
	ping, err := net.ListenPacket("ip6:ipv6-icmp", "::") // in this thread's network
	if err != nil {
		t.Fatal(err)
	}
	defer ping.Close()
	tap, err := net.InterfaceByName("tap0")
	if err != nil {
		t.Fatal(err)
	}
	var address string
	o.Say = func(line string) {
		if _, rest, ok := strings.Cut(line, "ping "); ok {
			address, _, _ = strings.Cut(rest, "%")
		}
	}
	o.Network = vm.Network{Mode: vm.TAPNet, TAP: "tap0"}
	wait, pinged := io.Pipe()
	o.Stdin = wait
	up := &firstLine{seen: make(chan struct{})}
	o.Stdout = up
	answered := make(chan error, 1)
	go func() {
		defer pinged.Close()
		<-up.seen
		answered <- echo(ping, &net.IPAddr{IP: net.ParseIP(address), Zone: fmt.Sprint(tap.Index)})
	}()
	_, err = vm.Exec(t.Context(), o, []string{"sh", "-c", "echo up; cat"})
	tell(t, err)
	if err := <-answered; err != nil {
		t.Errorf("ping %s: %v", address, err)
	}
}

// echo sends ICMPv6 echo requests (RFC 4443; the kernel fills in the checksum)
// until one is answered.
func echo(conn net.PacketConn, to *net.IPAddr) error {
	request := []byte{128, 0, 0, 0, 0x6b, 0x69, 0, 1, 'k', 'i', 'm', 'g'}
	var err error
	for range 60 {
		if _, err = conn.WriteTo(request, to); err != nil {
			time.Sleep(time.Second) // no route until the address is there
			continue
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			var n int
			var from net.Addr
			buf := make([]byte, 1500)
			if n, from, err = conn.ReadFrom(buf); err != nil {
				break
			}
			if ip := from.(*net.IPAddr).IP; n == len(request) && buf[0] == 129 && ip.Equal(to.IP) {
				return nil
			}
		}
	}
	return err
}

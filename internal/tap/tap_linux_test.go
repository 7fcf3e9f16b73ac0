package tap

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/tap/taptest"
)

// packetPair returns two ends that keep what is written apart, as a TAP does.
func packetPair(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "tap"), os.NewFile(uintptr(fds[1]), "wire")
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

func TestOpen(t *testing.T) {
	taptest.OwnNetwork(t)
	refused := func(name, why, way string) {
		t.Helper()
		f, err := Open(name)
		if err == nil {
			f.Close()
		}
		var tap *Error
		if !errors.As(err, &tap) || !strings.Contains(err.Error(), why) || !strings.Contains(tap.Hint(), way) {
			t.Errorf("%s: %v, %+v", name, err, tap)
		}
	}
	refused("tap0", "there is none", "ip tuntap add dev tap0 mode tap user")
	if _, err := net.InterfaceByName("tap0"); err == nil {
		t.Error("looking for the interface made it")
	}
	taptest.IP(t, "tuntap add dev tap0 mode tap")
	refused("tap0", "it is down", "ip link set dev tap0 up")
	taptest.IP(t, "link set dev tap0 up")
	refused("lo", "it is not a TAP", "")
	taptest.IP(t, "tuntap add dev tun0 mode tun")
	refused("tun0", "it is not a TAP", "")
	taptest.IP(t, "tuntap add dev many0 mode tap multi_queue")
	taptest.IP(t, "link set dev many0 up")
	for _, name := range []string{"tap0", "many0"} {
		f, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "tap0" {
			refused(name, "another program has it", "of its own")
		}
		// A host's first words on an interface are for its IPv6 neighbours.
		buf := make([]byte, 2000)
		if n, err := f.Read(buf); err != nil || n < 14 {
			t.Errorf("read %d bytes of a frame: %v", n, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := refusal("tap0", syscall.EPERM); !strings.Contains(err.Error(), "not made for this user") {
		t.Error(err)
	}
}

// The relay keeps frames apart in both directions, and ends with either side.
func TestRelay(t *testing.T) {
	tap, wire := packetPair(t)
	stream, qemu := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- Relay(t.Context(), tap, stream) }()
	for _, data := range []string{"first", "second"} {
		if _, err := wire.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
		got, err := readFrame(qemu, make([]byte, maxFrame))
		if err != nil || string(got) != data {
			t.Errorf("QEMU got %q, %v", got, err)
		}
	}
	if _, err := io.WriteString(qemu, frame(3, "abc")+frame(2, "de")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"abc", "de"} {
		buf := make([]byte, 100)
		n, err := wire.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("the interface got %q, %v", buf[:n], err)
		}
	}
	qemu.Close()
	if err := <-done; err != nil {
		t.Errorf("after QEMU's end: %v", err)
	}
	tap, _ = packetPair(t)
	stream, qemu = net.Pipe()
	go func() { done <- Relay(t.Context(), tap, stream) }()
	io.WriteString(qemu, frame(0, ""))
	if err := <-done; !errors.Is(err, errFrame) {
		t.Errorf("what is no frame: %v", err)
	}
}

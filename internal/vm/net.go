package vm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/kimg/kimg/internal/qemu"
)

// NetMode is what a guest's network is made of.
type NetMode string

// The networks.
const (
	UserNet NetMode = "user" // QEMU's own: DHCP, and out to where QEMU's machine or container reaches
	TAPNet  NetMode = "tap"  // an interface of this machine
	NoNet   NetMode = "none"
)

// Network is a guest's network. The zero value is UserNet where the kernel has a driver for a card, else none.
type Network struct {
	Mode     NetMode
	TAP      string         // the interface
	Forwards []qemu.Forward // with UserNet
}

// ParseNetwork reads none, user or tap:INTERFACE.
func ParseNetwork(text string) (Network, error) {
	switch mode, tap, _ := strings.Cut(text, ":"); {
	case text == string(UserNet), text == string(NoNet):
		return Network{Mode: NetMode(text)}, nil
	case mode == string(TAPNet) && isInterface(tap):
		return Network{Mode: TAPNet, TAP: tap}, nil
	}
	return Network{}, fmt.Errorf("%q: want none, user or tap:INTERFACE, such as tap:tap0", text)
}

// isInterface says whether it is a valid name of an interface (dev_valid_name of Linux) that is safe in a shell.
func isInterface(name string) bool {
	return name != "" && len(name) < 16 && name != "." && name != ".." && name[0] != '-' &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
				strings.ContainsRune("-_.@", r))
		})
}

// ParseForward reads HOST:GUEST, two TCP ports.
func ParseForward(text string) (qemu.Forward, error) {
	host, guest, _ := strings.Cut(text, ":")
	h, err1 := strconv.ParseUint(host, 10, 16)
	g, err2 := strconv.ParseUint(guest, 10, 16)
	if err1 != nil || err2 != nil || h == 0 || g == 0 {
		return qemu.Forward{}, fmt.Errorf("%q: want HOST:GUEST, two ports such as 2222:22", text)
	}
	return qemu.Forward{Host: uint16(h), Guest: uint16(g)}, nil
}

// card is QEMU's name for a network card that the kernel has a driver for, or empty.
// A TAP gets an e1000 where that is built in.
func (c Config) card(mode NetMode) string {
	virtio, e1000 := c.builtIn("VIRTIO_PCI", "VIRTIO_NET"), c.builtIn("E1000")
	switch {
	case e1000 && (mode == TAPNet || !virtio):
		return "e1000"
	case virtio:
		return "virtio-net-pci"
	}
	return ""
}

// check is an error where the kernel has no driver for a card of the requested network.
func (n Network) check(c Config) error {
	if n.Mode == NoNet || n.Mode == "" && len(n.Forwards) == 0 || c.card(n.Mode) != "" {
		return nil
	}
	return c.need("use a network card", "VIRTIO_PCI", "VIRTIO_NET")
}

// macOf is the address of a card: the same whenever the guest of an out directory
// is on the interface, and another for another guest. 52:54:00 is QEMU's.
func macOf(dir, tap string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(dir + "\x00" + tap))
	return append(net.HardwareAddr{0x52, 0x54, 0x00}, sum[:3]...)
}

// linkLocal is the address that an interface with the MAC gives itself: RFC 4291,
// appendix A, which Linux and systemd-networkd follow where nothing else is set.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// PortTakenError says that a port of this machine cannot be forwarded.
type PortTakenError struct {
	Forward qemu.Forward
	Err     error
}

func (e *PortTakenError) Error() string {
	return fmt.Sprintf("forward port %d of this machine to the guest's %d: %v", e.Forward.Host, e.Forward.Guest, e.Err)
}

func (e *PortTakenError) Unwrap() error { return e.Err }

func (e *PortTakenError) Hint() string {
	port := int(e.Forward.Host) + 10000
	if port > 65535 {
		port = int(e.Forward.Host) - 10000
	}
	if errors.Is(e.Err, syscall.EACCES) {
		return fmt.Sprintf("a port below 1024 needs root: use another, as in --forward %d:%d",
			max(port, 1024), e.Forward.Guest)
	}
	return fmt.Sprintf("ss -ltnp 'sport = :%d' shows what has it; or use another, as in --forward %d:%d",
		e.Forward.Host, port, e.Forward.Guest)
}

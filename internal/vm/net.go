package vm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/tap"
	"github.com/kimg/kimg/internal/toolbox"
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

// card is QEMU's name for a card that the kernel has a driver for, or empty. A TAP gets an e1000 where it can.
func (c Config) card(mode NetMode) string {
	const virtio, e1000 = 0, 1 // the sets of needs.Card
	met := needs.Card.Met(c.get)
	switch {
	case met == e1000 || met == virtio && mode == TAPNet && c["E1000"] == "y":
		return "e1000"
	case met == virtio:
		return "virtio-net-pci"
	}
	return ""
}

// check is an error where the kernel has no driver for a card of the requested network.
func (n Network) check(c Config) error {
	if n.Mode == NoNet || n.Mode == "" && len(n.Forwards) == 0 || c.card(n.Mode) != "" {
		return nil
	}
	return c.need(needs.Card)
}

// macOf is the same whenever the guest of an out directory is on the interface. 52:54:00 is QEMU's.
func macOf(dir, tap string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(dir + "\x00" + tap))
	return append(net.HardwareAddr{0x52, 0x54, 0x00}, sum[:3]...)
}

// linkLocal is the address that an interface with the MAC gives itself: RFC 4291, appendix A.
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

// sshPort is where a guest's sshd listens.
const sshPort = 22

// link is the host's side of a guest's network, from before QEMU starts until the guest is closed.
type link struct {
	network   Network
	listeners []net.Listener // of the forwards, in their order
	tap       io.ReadWriteCloser
	mac       net.HardwareAddr
	ssh       *sshForward // nil: none
}

// open takes the ports and the interface, so that what is in use already is reported before anything is started.
func (n Network) open(dir string) (_ *link, err error) {
	l := &link{network: n}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, f := range n.Forwards {
		listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", f.Host))
		if err != nil {
			var reason syscall.Errno
			if errors.As(err, &reason) {
				err = reason
			}
			return nil, &PortTakenError{Forward: f, Err: err}
		}
		l.listeners = append(l.listeners, listener)
	}
	if n.Mode == TAPNet {
		l.mac = macOf(dir, n.TAP)
		if l.tap, err = tap.Open(n.TAP); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// close releases everything. It may be called again.
func (l *link) close() {
	for _, listener := range l.listeners {
		listener.Close()
	}
	if l.tap != nil {
		l.tap.Close()
	}
	if l.ssh != nil && l.ssh.listener != nil {
		l.ssh.listener.Close()
	}
}

// isolatedPort is where forwards begin in a container, which has all ports to itself.
const isolatedPort = 20000

// device is the guest's card, if any. A QEMU with this machine's network takes over the ports and the interface.
func (l *link) device(config Config, tools *toolbox.Tools) qemu.Device {
	card := qemu.Card{Model: config.card(l.network.Mode)}
	if card.Model == "" || l.network.Mode == NoNet {
		return nil
	}
	if l.network.Mode == TAPNet {
		card.MAC = l.mac.String()
		if tools.Isolated {
			return qemu.FrameNet{Card: card, Socket: tools.Socket(tapSocket)}
		}
		l.close()
		return qemu.HostTAP{Card: card, Name: l.network.TAP}
	}
	var forwards []qemu.Forward
	for n, f := range l.network.Forwards {
		if tools.Isolated {
			f.Host = uint16(isolatedPort + n)
		}
		forwards = append(forwards, f)
	}
	if l.ssh != nil {
		forwards = append(forwards, l.ssh.forward)
	}
	if !tools.Isolated {
		l.close()
	}
	return qemu.UserNet{Card: card, Forwards: forwards}
}

// tapSocket is where QEMU takes the frames of a TAP.
const tapSocket = "tap"

// serve relays for a guest at isolated tools until ctx ends.
func (l *link) serve(ctx context.Context, tools *toolbox.Tools) error {
	if !tools.Isolated {
		return nil
	}
	var relays sync.WaitGroup
	defer relays.Wait()
	defer l.close() // what is not begun yet of the next line is not done
	defer context.AfterFunc(ctx, l.close)()
	for n, listener := range l.listeners {
		relays.Go(func() { relayPort(ctx, tools, listener, isolatedPort+n) })
	}
	if l.ssh != nil && l.ssh.listener != nil {
		relays.Go(func() { relayPort(ctx, tools, l.ssh.listener, int(l.ssh.forward.Host)) })
	}
	if l.tap == nil {
		<-ctx.Done()
		return nil
	}
	conn, err := tools.Dial(ctx, tapSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return tap.Relay(ctx, l.tap, conn)
}

// relayPort connects each connection with a port where QEMU is, by a socat there.
func relayPort(ctx context.Context, tools *toolbox.Tools, listener net.Listener, port int) {
	var relays sync.WaitGroup
	defer relays.Wait()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		relays.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			argv := []string{"socat", "-t86400", "-", fmt.Sprintf("TCP4:127.0.0.1:%d", port)}
			// Errors show in the end of the connection.
			if wait, err := tools.Start(ctx, toolbox.Program{Args: argv, Stdin: conn, Stdout: conn}); err == nil {
				_ = wait()
			}
		})
	}
}

// sshForward is how the guest's sshd is reached.
type sshForward struct {
	address  Address
	listener net.Listener // at isolated tools: connections are relayed
	forward  qemu.Forward // QEMU's; none on a TAP, where the guest has an address
}

// sshSocket is in the run directory of a guest at isolated tools.
const sshSocket = "ssh"

// openSSH forwards the guest's sshd: on a TAP from its own address; where QEMU has this machine's network from a
// free port of 127.0.0.1; else from a Unix socket of this user's, which is relayed.
func (l *link) openSSH(tools *toolbox.Tools) error {
	if l.network.Mode == TAPNet {
		host := fmt.Sprintf("%s%%%s", linkLocal(l.mac), l.network.TAP)
		l.ssh = &sshForward{address: Address{Network: "tcp6", Address: net.JoinHostPort(host, fmt.Sprint(sshPort))}}
		return nil
	}
	network, address := "tcp4", "127.0.0.1:0"
	if tools.Isolated {
		network, address = "unix", filepath.Join(tools.RunDir, sshSocket)
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return fmt.Errorf("forward the guest's sshd: %w", err)
	}
	l.ssh = &sshForward{
		address: Address{Network: network, Address: listener.Addr().String()}, listener: listener,
		forward: qemu.Forward{Host: uint16(isolatedPort + len(l.network.Forwards)), Guest: sshPort},
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok {
		l.ssh.forward.Host = uint16(at.Port)
	}
	return nil
}

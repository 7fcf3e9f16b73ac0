package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/tap"
	"github.com/kimg/kimg/internal/toolbox"
)

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

// device is the guest's card; nil: it has none. A QEMU with this machine's network takes
// over the ports and the interface: it serves them itself.
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

package vm

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"

	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/reading"
)

// sshPort is where a guest's sshd listens.
const sshPort = 22

// door is the way to a guest's sshd.
type door struct {
	address  Address
	listener net.Listener // at an isolated site: whoever connects is relayed
	forward  qemu.Forward // QEMU's; none on a TAP, where the guest has an address
}

// doorSocket is in the run directory of a guest at an isolated site.
const doorSocket = "ssh"

// openDoor finds a way to the guest's sshd: on a TAP its own address; where QEMU has
// this machine's network a port of 127.0.0.1 that is free; else a Unix socket of this
// user's, which is relayed.
func (l *link) openDoor(site *Site) error {
	if l.network.Mode == TAPNet {
		host := fmt.Sprintf("%s%%%s", linkLocal(l.mac), l.network.TAP)
		l.door = &door{address: Address{Network: "tcp6", Address: net.JoinHostPort(host, fmt.Sprint(sshPort))}}
		return nil
	}
	network, address := "tcp4", "127.0.0.1:0"
	if site.Isolated {
		network, address = "unix", filepath.Join(site.here, doorSocket)
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return fmt.Errorf("open a way to the guest's sshd: %w", err)
	}
	l.door = &door{
		address: Address{Network: network, Address: listener.Addr().String()}, listener: listener,
		forward: qemu.Forward{Host: uint16(isolatedPort + len(l.network.Forwards)), Guest: sshPort},
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok {
		l.door.forward.Host = uint16(at.Port)
	}
	return nil
}

// ssh says whether guests of these options are given keys for their sshd: not where
// the kernel has no way to take them, or none to be reached.
func (o *Options) ssh(c Config) bool {
	return o.Keys != nil && o.Network.Mode != NoNet && c.agent() == nil && c.card(o.Network.Mode) != ""
}

// ports are virtio-serial ports of the names, with that for the keys where the guest
// is given any.
func (o *Options) ports(site *Site, names ...string) []qemu.Device {
	if site.link.door != nil {
		names = append(names, guest.Keys)
	}
	if len(names) == 0 {
		return nil
	}
	return []qemu.Device{portsOf(site, names...)}
}

// agentPorts are those that the guest's agent waits for though no command is to come
// by them: where it is init it would end without, and take the kernel with it.
func (o *Options) agentPorts() []string {
	if !o.Direct {
		return nil
	}
	return []string{guest.Control, guest.Login}
}

// listen lets go what the guest says on ports that nobody is at, until the machine or
// ctx ends: the shell there waits until it was heard.
func (m *machine) listen(ctx context.Context, names ...string) {
	for _, name := range names {
		go func() {
			alive, stop := m.whileUp(ctx)
			defer stop()
			conn, err := m.connect(alive, name)
			if err != nil {
				return // the guest has ended, which is told elsewhere
			}
			defer conn.Close()
			defer context.AfterFunc(alive, func() { conn.Close() })()
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

// giveKeys gives the guest its keys once it asks for them. Others are told that its
// sshd comes, and then that it is about to start. The end of the guest ends it.
func (m *machine) giveKeys(ctx context.Context, keys *Keys) {
	m.site.guest.SSH = &m.site.link.door.address
	_ = m.site.guest.tell() // else nobody finds the guest, which says enough
	conn, err := m.connect(ctx, guest.Keys)
	if err != nil {
		return // the guest has ended, which is told elsewhere
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if keys.give(conn) != nil {
		return
	}
	for line, err := range reading.Lines(conn, maxLine) {
		if err == nil && line == "taken" {
			m.site.guest.Keyed = true
			_ = m.site.guest.tell()
			close(m.keyed)
			return
		}
	}
}

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
	"github.com/kimg/kimg/internal/toolbox"
)

// sshPort is where a guest's sshd listens.
const sshPort = 22

// sshForward is how the guest's sshd is reached.
type sshForward struct {
	address  Address
	listener net.Listener // at isolated tools: connections are relayed
	forward  qemu.Forward // QEMU's; none on a TAP, where the guest has an address
}

// sshSocket is in the run directory of a guest at isolated tools.
const sshSocket = "ssh"

// openSSH forwards the guest's sshd: on a TAP from its own address; where QEMU has this
// machine's network from a free port of 127.0.0.1; else from a Unix socket of this
// user's, which is relayed.
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

// ssh says whether guests of these options get keys for their sshd: not where the kernel
// cannot take them, or has no network.
func (o *Options) ssh(c Config) bool {
	return o.Keys != nil && o.Network.Mode != NoNet && c.agent() == nil && c.card(o.Network.Mode) != ""
}

// agentPorts are those that the guest's agent waits for though no command will come by
// them: where it is init it would end without them, and the kernel would panic.
func (o *Options) agentPorts() []string {
	if !o.Direct {
		return nil
	}
	return []string{guest.Control, guest.Login}
}

// listen drops what the guest says on ports that nothing else reads, until the guest or
// ctx ends: the shell there waits until it was heard.
func (vm *instance) listen(ctx context.Context, names ...string) {
	for _, name := range names {
		go func() {
			alive, stop := vm.whileUp(ctx)
			defer stop()
			conn, err := vm.connect(alive, name)
			if err != nil {
				return // the guest has ended, which is reported elsewhere
			}
			defer conn.Close()
			defer context.AfterFunc(alive, func() { conn.Close() })()
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

// giveKeys gives the guest its keys once it asks for them. Its entry first says that its
// sshd will come, and then that it is about to start. The end of the guest ends it.
func (vm *instance) giveKeys(ctx context.Context) {
	vm.entry.SSH = &vm.link.ssh.address
	_ = vm.entry.write() // else no other kimg finds the guest
	conn, err := vm.connect(ctx, guest.Keys)
	if err != nil {
		return // the guest has ended, which is reported elsewhere
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if vm.o.Keys.give(conn) != nil {
		return
	}
	for line, err := range reading.Lines(conn, maxLine) {
		if err == nil && line == "taken" {
			vm.entry.Keyed = true
			_ = vm.entry.write()
			close(vm.keyed)
			return
		}
	}
}

package qemu

import "fmt"

// Forward lets a port of 127.0.0.1 reach a TCP port of the guest.
type Forward struct{ Host, Guest uint16 }

// Card is the guest's network card.
type Card struct {
	Model string // QEMU's name for it
	MAC   string // empty: QEMU's choice
}

// args connect the card. Nothing boots from it, so it needs no ROM (romfile=), which
// distributions keep in a package of its own.
func (c Card) args(netdev string) []string {
	device := c.Model + ",netdev=net,romfile="
	if c.MAC != "" {
		device += ",mac=" + c.MAC
	}
	return []string{"-netdev", netdev, "-device", device}
}

// UserNet is a card on QEMU's own network. The Host of a Forward is a port where QEMU runs.
type UserNet struct {
	Card
	Forwards []Forward
}

// Args implements Device.
func (n UserNet) Args() []string {
	netdev := "user,id=net"
	for _, f := range n.Forwards {
		netdev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	return n.args(netdev)
}

// HostTAP is a card on an interface that QEMU opens.
type HostTAP struct {
	Card
	Name string
}

// Args implements Device.
func (n HostTAP) Args() []string {
	return n.args("tap,id=net,ifname=" + n.Name + ",script=no,downscript=no")
}

// FrameNet is a card whose frames go over a Unix socket of QEMU's (QEMU 7.2).
type FrameNet struct {
	Card
	Socket string
}

// Args implements Device.
func (n FrameNet) Args() []string {
	return n.args("stream,id=net,server=on,addr.type=unix,addr.path=" + quote(n.Socket))
}

package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
)

func TestParseNetwork(t *testing.T) {
	for text, want := range map[string]Network{
		"none":                 {Mode: NoNet},
		"user":                 {Mode: UserNet},
		"tap:tap0":             {Mode: TAPNet, TAP: "tap0"},
		"tap:br-1.100@x":       {Mode: TAPNet, TAP: "br-1.100@x"},
		"":                     {},
		"tap":                  {},
		"tap:":                 {},
		"tap:..":               {},
		"tap:-x":               {},
		"tap:a/b":              {},
		"tap:tap0,fd=3":        {},
		"tap:a;id":             {},
		"tap:sixteen-letters-": {},
		"bridge":               {},
		"user:x":               {},
	} {
		got, err := ParseNetwork(text)
		if diff := cmp.Diff(want, got); diff != "" || (err != nil) != (want.Mode == "") {
			t.Errorf("%q: %v -want +got\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]qemu.Forward{
		"2222:22": {Host: 2222, Guest: 22}, "65535:1": {Host: 65535, Guest: 1}, "0:22": {}, "22": {}, "1:65536": {},
		":1": {}, "-1:1": {}, "a:b": {}, "1:2:3": {},
	} {
		if got, err := ParseForward(text); got != want || (err != nil) != (want == qemu.Forward{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// The example of RFC 4291's appendix A is 34-56-78-9A-BC-DE of a universal address.
func TestLinkLocal(t *testing.T) {
	mac := net.HardwareAddr{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}
	if got := linkLocal(mac).String(); got != "fe80::3656:78ff:fe9a:bcde" {
		t.Error(got)
	}
	one, other := macOf("/a", "tap0"), macOf("/a", "tap1")
	if one.String() == other.String() || one.String() != macOf("/a", "tap0").String() || one[0]&3 != 2 {
		t.Errorf("%v, %v", one, other)
	}
}

func TestLinkDevice(t *testing.T) {
	all := Config{"VIRTIO_PCI": "y", "VIRTIO_NET": "y", "E1000": "y"}
	here, there := &toolbox.Tools{Sockets: "/run"}, &toolbox.Tools{Sockets: "/run", Isolated: true}
	forwards := []qemu.Forward{{Host: 2222, Guest: 22}, {Host: 8080, Guest: 80}}
	tap := Network{Mode: TAPNet, TAP: "tap0"}
	mac := net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	card := qemu.Card{Model: "e1000", MAC: mac.String()}
	for _, c := range []struct {
		name    string
		network Network
		config  Config
		tools   *toolbox.Tools
		want    qemu.Device
	}{
		{"default", Network{}, all, here, qemu.UserNet{Card: qemu.Card{Model: "virtio-net-pci"}}},
		{"default without a driver", Network{}, Config{}, here, nil},
		{"none", Network{Mode: NoNet}, all, here, nil},
		{"forwards here", Network{Mode: UserNet, Forwards: forwards}, all, here,
			qemu.UserNet{Card: qemu.Card{Model: "virtio-net-pci"}, Forwards: forwards}},
		{"forwards there", Network{Mode: UserNet, Forwards: forwards}, all, there,
			qemu.UserNet{Card: qemu.Card{Model: "virtio-net-pci"},
				Forwards: []qemu.Forward{{Host: 20000, Guest: 22}, {Host: 20001, Guest: 80}}}},
		{"tap here", tap, all, here, qemu.HostTAP{Card: card, Name: "tap0"}},
		{"tap there", tap, all, there, qemu.FrameNet{Card: card, Socket: "/run/tap"}},
		{"tap by virtio", tap, Config{"VIRTIO_PCI": "y", "VIRTIO_NET": "y"}, there,
			qemu.FrameNet{Card: qemu.Card{Model: "virtio-net-pci", MAC: mac.String()}, Socket: "/run/tap"}},
	} {
		l := &link{network: c.network, mac: mac}
		got := l.device(c.config, c.tools)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.name, diff)
		}
	}
	if err := tap.check(Config{}); err == nil {
		t.Error("a kernel without a card has a TAP")
	}
	if err := (Network{}).check(Config{}); err != nil {
		t.Errorf("nothing was asked for: %v", err)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := qemu.Forward{Host: uint16(l.Addr().(*net.TCPAddr).Port), Guest: 22}
	_, err = Network{Mode: UserNet, Forwards: []qemu.Forward{f}}.open("/out")
	var taken *PortTakenError
	if !errors.As(err, &taken) || !strings.Contains(err.Error(), fmt.Sprintf("port %d", f.Host)) ||
		!strings.Contains(taken.Hint(), ":22") {
		t.Fatalf("%v", err)
	}
	l.Close()
	// Its first port is let go when the second one is taken.
	held, err := Network{Mode: UserNet, Forwards: []qemu.Forward{f}}.open("/out")
	if err != nil {
		t.Fatal(err)
	}
	held.close()
	held.close()
	if _, err = (Network{Mode: UserNet, Forwards: []qemu.Forward{f, f}}).open("/out"); err == nil {
		t.Fatal("one port twice")
	}
	if held, err = (Network{Mode: UserNet, Forwards: []qemu.Forward{f}}).open("/out"); err != nil {
		t.Errorf("what was not opened is still held: %v", err)
	} else {
		held.close()
	}
}

// The end of a guest ends its relays, however close together that and the end of the context are.
func TestServeEnds(t *testing.T) {
	for range 2000 {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := &link{ssh: &sshForward{listener: listener}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = l.serve(ctx, &toolbox.Tools{Isolated: true})
		}()
		runtime.Gosched()
		cancel()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on")
		}
	}
}

package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
)

func testKeys(t *testing.T) *Keys {
	t.Helper()
	keys, err := LoadKeys(t.Context(), filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestKeysStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	load := func() *Keys {
		t.Helper()
		k, err := LoadKeys(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	one, two := load(), load()
	same := func(a, b ssh.Signer) bool { return bytes.Equal(a.PublicKey().Marshal(), b.PublicKey().Marshal()) }
	if !same(one.User, two.User) || !same(one.Host, two.Host) || same(one.User, one.Host) {
		t.Error("the keys changed, or are one")
	}
	for _, name := range []string{userKeyFile, hostKeyFile, knownHostsFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	known, err := os.ReadFile(one.KnownHostsFile())
	if want := "kimg " + string(ssh.MarshalAuthorizedKey(one.Host.PublicKey())); err != nil || string(known) != want {
		t.Errorf("known hosts are %q, %v, want %q", known, err, want)
	}
	if err := os.WriteFile(one.UserKeyFile(), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	var broken *KeyError
	if _, err := LoadKeys(t.Context(), dir); !errors.As(err, &broken) || broken.File != one.UserKeyFile() {
		t.Errorf("a broken key: %v", err)
	}
}

// sshd is a guest's sshd without a guest. It takes a connection and drops it, as
// QEMU's does before there is anybody, and then serves them.
type sshd struct {
	t       *testing.T
	config  *ssh.ServerConfig
	address Address
	asked   chan string // the requests of the sessions
	run     serving
}

// serving is what a command does, to its status.
type serving func(ch ssh.Channel, line string, signals <-chan string) uint32

func startSSHD(t *testing.T, keys *Keys, run serving) *sshd {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sshd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &sshd{t: t, address: Address{"unix", l.Addr().String()}, asked: make(chan string, 100), run: run}
	d.config = &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions,
		error) {
		if c.User() != "root" || !bytes.Equal(key.Marshal(), keys.User.PublicKey().Marshal()) {
			return nil, errors.New("nobody known")
		}
		return nil, nil
	}}
	d.config.AddHostKey(keys.Host)
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if n == 0 {
				conn.Close()
				continue
			}
			go d.serve(conn)
		}
	}()
	return d
}

func (d *sshd) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, d.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		ch, requests, err := c.Accept()
		if err != nil {
			return
		}
		signals := make(chan string, 10)
		go func() {
			for r := range requests {
				d.asked <- r.Type
				r.Reply(true, nil)
				switch r.Type {
				case "signal":
					var s struct{ Name string }
					ssh.Unmarshal(r.Payload, &s)
					signals <- s.Name
				case "exec", "shell":
					var c struct{ Line string }
					ssh.Unmarshal(r.Payload, &c)
					go func() {
						status := d.run(ch, c.Line, signals)
						if status == lost {
							conn.Close()
							return
						}
						ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
						ch.Close()
					}()
				}
			}
		}()
	}
}

// lost is no status: the connection ends.
const lost = 1 << 16

// login logs in to d.
func (d *sshd) login(ctx context.Context, keys *Keys, u User, argv ...string) (int, error) {
	return u.session(ctx, d.address, keys, 10*time.Second, Login{Command: argv})
}

func TestSSHSession(t *testing.T) {
	keys := testKeys(t)
	d := startSSHD(t, keys, func(ch ssh.Channel, line string, _ <-chan string) uint32 {
		in, _ := io.ReadAll(ch)
		fmt.Fprintf(ch, "%s|%s", line, in)
		io.WriteString(ch.Stderr(), "complaint")
		return 7
	})
	var stdout, stderr bytes.Buffer
	u := User{Stdin: strings.NewReader("input"), Stdout: &stdout, Stderr: &stderr}
	status, err := d.login(t.Context(), keys, u, "echo", "it's", "$HOME")
	if err != nil || status != 7 {
		t.Errorf("status %d, %v", status, err)
	}
	if want := `exec 'echo' 'it'\''s' '$HOME'|input`; stdout.String() != want || stderr.String() != "complaint" {
		t.Errorf("stdout %q, want %q; stderr %q", stdout.String(), want, stderr.String())
	}
	if asked := <-d.asked; asked != "exec" {
		t.Errorf("asked for %s: a terminal where there is none?", asked)
	}
}

func TestSSHKnowsTheGuest(t *testing.T) {
	keys, others := testKeys(t), testKeys(t)
	mixed := &Keys{User: keys.User, Host: others.Host}
	d := startSSHD(t, keys, func(ssh.Channel, string, <-chan string) uint32 { return 0 })
	if _, err := d.login(t.Context(), mixed, User{}, "true"); err == nil ||
		!strings.Contains(err.Error(), "host key mismatch") {
		t.Errorf("another host key: %v", err)
	}
	mixed = &Keys{User: others.User, Host: keys.Host}
	if _, err := d.login(t.Context(), mixed, User{}, "true"); err == nil ||
		!strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("another user's key: %v", err)
	}
}

func TestSSHInterrupt(t *testing.T) {
	keys := testKeys(t)
	interrupt := make(chan os.Signal, 1)
	d := startSSHD(t, keys, func(ch ssh.Channel, _ string, signals <-chan string) uint32 {
		interrupt <- os.Interrupt
		return 100 + uint32(len(<-signals))
	})
	if status, err := d.login(t.Context(), keys, User{Interrupt: interrupt}, "sleep"); err != nil || status != 103 {
		t.Errorf("status %d, %v", status, err)
	}
	d = startSSHD(t, keys, func(ch ssh.Channel, _ string, signals <-chan string) uint32 {
		interrupt <- os.Interrupt
		<-signals // not heeded
		interrupt <- os.Interrupt
		<-t.Context().Done()
		return 0
	})
	if _, err := d.login(t.Context(), keys, User{Interrupt: interrupt}, "sleep"); !errors.Is(err, ErrInterrupted) {
		t.Errorf("the second one: %v", err)
	}
	interrupt <- os.Interrupt
	nobody := User{Interrupt: interrupt}
	_, err := nobody.session(t.Context(), Address{"unix", "/nobody"}, keys, time.Minute, Login{})
	if !errors.Is(err, ErrInterrupted) {
		t.Errorf("before there is an sshd: %v", err)
	}
}

func TestSSHEnds(t *testing.T) {
	keys := testKeys(t)
	d := startSSHD(t, keys, func(ssh.Channel, string, <-chan string) uint32 { return lost })
	if _, err := d.login(t.Context(), keys, User{}, "true"); !errors.Is(err, errLost) {
		t.Errorf("a connection that was lost: %v", err)
	}
	running, gone := context.WithCancelCause(t.Context())
	d = startSSHD(t, keys, func(ssh.Channel, string, <-chan string) uint32 {
		gone(errGone)
		<-t.Context().Done()
		return 0
	})
	if _, err := d.login(running, keys, User{}, "true"); !errors.Is(err, errGone) {
		t.Errorf("a guest that is gone: %v", err)
	}
	d = startSSHD(t, keys, func(ch ssh.Channel, _ string, _ <-chan string) uint32 {
		for {
			if _, err := ch.Write(make([]byte, 1<<10)); err != nil {
				return 0
			}
		}
	})
	closed, w := io.Pipe()
	closed.Close()
	if _, err := d.login(t.Context(), keys, User{Stdout: w}, "yes"); err == nil ||
		!strings.Contains(err.Error(), "write the command's output") {
		t.Errorf("a reader that went away: %v", err)
	}
	u := User{}
	if _, err := u.session(t.Context(), Address{"unix", "/nobody"}, keys, 10*time.Millisecond,
		Login{}); !errors.Is(err, errSlow) {
		t.Errorf("no sshd: %v", err)
	}
}

// Another client speaks through kimg, and ends its half first.
func TestSSHRelay(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sshd"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "SSH-2.0-test\n")
		said, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "heard %s", said)
	}()
	var out bytes.Buffer
	u := User{Stdin: strings.NewReader("hello"), Stdout: &out}
	if _, err := u.session(t.Context(), Address{"unix", l.Addr().String()}, nil, time.Minute,
		Login{Relay: true}); err != nil {
		t.Error(err)
	}
	if out.String() != "SSH-2.0-test\nheard hello" {
		t.Errorf("%q", out.String())
	}
}

func TestTilde(t *testing.T) {
	for _, tt := range []struct {
		typed, sent string
		detached    bool
	}{
		{"ls\r", "ls\r", false},
		{"~.", "", true},
		{"ls\r~.more", "ls\r", true},
		{"ls ~.\r", "ls ~.\r", false},
		{"~~.\r", "~.\r", false},
		{"~a~.", "~a~.", false},
		{"~\r~.", "~\r", true},
		{"a\n~", "a\n", false},
	} {
		for name, from := range map[string]io.Reader{
			"at once": strings.NewReader(tt.typed), "key by key": iotest.OneByteReader(strings.NewReader(tt.typed)),
		} {
			got, err := io.ReadAll(bufio.NewReader(&tilde{from: from, newLine: true}))
			if errors.Is(err, errDetached) != tt.detached || !strings.HasPrefix(tt.sent, string(got)) ||
				!tt.detached && string(got) != tt.sent {
				t.Errorf("%s: %q: %q, %v", name, tt.typed, got, err)
			}
		}
	}
}

// The guest gets its keys when it asks for them, and only then its entry says that it takes
// logins.
func TestGiveKeys(t *testing.T) {
	keys := testKeys(t)
	vm := &instance{
		o: &Options{Keys: keys}, tools: hostTools(t), link: &link{}, done: make(chan struct{}),
		keyed: make(chan struct{}),
	}
	vm.entry = newEntry(vm.tools, "/out")
	if err := vm.link.openSSH(vm.tools); err != nil {
		t.Fatal(err)
	}
	defer vm.link.close()
	port, err := net.Listen("unix", filepath.Join(vm.tools.RunDir, "kimg.keys"))
	if err != nil {
		t.Fatal(err)
	}
	given := make(chan struct{})
	go func() {
		vm.giveKeys(t.Context())
		close(given)
	}()
	conn, err := port.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), " ")
		if names = append(names, name); name == "end" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "host_key authorized_keys end" {
		t.Errorf("the guest got %q", got)
	}
	of := func() RunningGuest {
		g, ok := readGuest(vm.tools.RunDir)
		if !ok || g.SSH == nil || g.SSH.Network != "tcp4" {
			t.Fatalf("%+v", g)
		}
		return g
	}
	if of().Keyed {
		t.Error("the guest has not taken them yet")
	}
	io.WriteString(conn, "taken\n")
	<-given
	<-vm.keyed
	if !of().Keyed {
		t.Error("the entry does not say so")
	}
}

// The way to sshd is one more of QEMU's forwards, but on a TAP, where the guest has an
// address; a kernel that cannot take keys, or be reached, has none.
func TestSSHForward(t *testing.T) {
	config := Config{"VIRTIO_PCI": "y", "VIRTIO_NET": "y", "VIRTIO_CONSOLE": "y"}
	mac := macOf("/out", "tap0")
	for _, tt := range []struct {
		name     string
		network  Network
		isolated bool
		address  string // of package net, the port left out
		forwards string
	}{
		{"here", Network{Mode: UserNet, Forwards: []qemu.Forward{{Host: 8080, Guest: 80}}}, false, "tcp4 127.0.0.1",
			"8080:80 free:22"},
		{"by default", Network{}, false, "tcp4 127.0.0.1", "free:22"},
		{"there", Network{Mode: UserNet, Forwards: []qemu.Forward{{Host: 8080, Guest: 80}}}, true, "unix ssh",
			"20000:80 20001:22"},
		{"on a TAP", Network{Mode: TAPNet, TAP: "tap0"}, true, "tcp6 [" + linkLocal(mac).String() + "%tap0]", ""},
	} {
		tools := &toolbox.Tools{Isolated: tt.isolated, RunDir: t.TempDir(), Sockets: "/run"}
		l := &link{network: tt.network, mac: mac}
		if err := l.openSSH(tools); err != nil {
			t.Fatal(err)
		}
		at := l.ssh.address
		got := at.Network + " " + filepath.Base(at.Address)
		port := at.Address[strings.LastIndex(at.Address, ":")+1:]
		if got = strings.TrimSuffix(got, ":"+port); got != tt.address {
			t.Errorf("%s: the address is %q, want %q", tt.name, got, tt.address)
		}
		var forwards []string
		device := l.device(config, tools)
		if user, ok := device.(qemu.UserNet); ok {
			for _, f := range user.Forwards {
				at := fmt.Sprint(f.Host)
				if !tt.isolated && f.Guest == sshPort {
					at = "free"
				}
				forwards = append(forwards, fmt.Sprintf("%s:%d", at, f.Guest))
			}
		}
		if got := strings.Join(forwards, " "); got != tt.forwards {
			t.Errorf("%s: forwards are %q, want %q", tt.name, got, tt.forwards)
		}
		l.close()
	}
	for _, tt := range []struct {
		name    string
		o       Options
		without string
		want    bool
	}{
		{"all is there", Options{Keys: &Keys{}}, "", true},
		{"no keys", Options{}, "", false},
		{"no network", Options{Keys: &Keys{}, Network: Network{Mode: NoNet}}, "", false},
		{"no card", Options{Keys: &Keys{}}, "VIRTIO_NET", false},
		{"no ports", Options{Keys: &Keys{}}, "VIRTIO_CONSOLE", false},
	} {
		c := Config{}
		for symbol, value := range config {
			if symbol != tt.without {
				c[symbol] = value
			}
		}
		if got := tt.o.ssh(c); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	for _, c := range []struct {
		ssh    *sshForward
		ports  []string
		virtio int // virtio-serial ports and their controller
	}{{nil, nil, 0}, {nil, []string{"a"}, 2}, {&sshForward{}, nil, 2}, {&sshForward{}, []string{"a"}, 3}} {
		vm := &instance{machine: Machine{Arch: arch.Default}, o: &Options{Keys: &Keys{}}, link: &link{ssh: c.ssh},
			keyed: make(chan struct{}),
			tools: &toolbox.Tools{Sockets: "/run", RunDir: t.TempDir(), Runner: waitsForInput{}}}
		vm.entry = newEntry(vm.tools, "/out")
		if err := vm.boot(t.Context(), guestIO{stdin: strings.NewReader(""), ports: c.ports}); err != nil {
			t.Fatal(err)
		}
		vm.quit()
		argv := strings.Join(vm.machine.Argv(), " ")
		if got := strings.Count(argv, "virtserialport") + strings.Count(argv, "virtio-serial-pci"); got != c.virtio {
			t.Errorf("%+v: %d of the ports in %s", c, got, argv)
		}
	}
}

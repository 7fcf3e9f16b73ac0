package vm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/toolbox"
)

// hostTools are this machine's.
func hostTools(t *testing.T) *toolbox.Tools {
	t.Helper()
	tools, err := toolbox.Host{Arch: arch.Default}.Open(t.Context(), toolbox.Mounts{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tools.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tools
}

// openHub is the console of a guest that does not exist.
func openHub(t *testing.T) (*consoleHub, RunningGuest) {
	t.Helper()
	entry := newEntry(hostTools(t), t.TempDir())
	h, err := newConsoleHub(entry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	for _, g := range RunningGuests() {
		if g.Name == entry.Name && g.Console {
			return h, g
		}
	}
	t.Fatalf("guest %s is not among the running ones", entry.Name)
	return nil, RunningGuest{}
}

// until reads until the text has come.
func until(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var all []byte
	buf := make([]byte, 100)
	for !strings.Contains(string(all), text) {
		n, err := r.Read(buf)
		if all = append(all, buf[:n]...); err != nil {
			t.Fatalf("read %q, then %v; want %q", all, err, text)
		}
	}
}

func TestConsoleTellsWhatWasSaid(t *testing.T) {
	h, g := openHub(t)
	h.Write(bytes.Repeat([]byte("x"), consoleReplay))
	h.Write([]byte("login: "))
	for range 2 { // two at once
		conn, err := net.Dial("unix", filepath.Join(g.dir, consoleSocket))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		until(t, conn, "login: ")
		defer until(t, conn, "later")
	}
	h.Write([]byte("later"))
	if len(h.said) > consoleReplay {
		t.Errorf("%d bytes are kept", len(h.said))
	}
}

func TestConsoleIsOpenToTheUserAlone(t *testing.T) {
	_, g := openHub(t)
	info, err := os.Stat(g.dir)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestAttach(t *testing.T) {
	h, g := openHub(t)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Attach(t.Context(), g, strings.NewReader("uname\n"), w) }()
	keys := make([]byte, 6)
	if _, err := io.ReadFull(h.input(), keys); err != nil || string(keys) != "uname\n" {
		t.Errorf("the guest got %q, %v", keys, err)
	}
	go h.Write([]byte("Linux"))
	until(t, r, "Linux") // the end of the input was not the end
	h.close()
	if err := <-done; err != nil {
		t.Errorf("the guest's end: %v", err)
	}
	if err := Attach(t.Context(), g, strings.NewReader(""), io.Discard); err == nil {
		t.Error("attached to a guest that has ended")
	}
}

func TestAttachIsCancelled(t *testing.T) {
	_, g := openHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	err := Attach(ctx, g, iotest.DataErrReader(strings.NewReader("")), io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOneWhoDoesNotReadIsLetGo(t *testing.T) {
	h, g := openHub(t)
	conn, err := net.Dial("unix", filepath.Join(g.dir, consoleSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h.Write([]byte("hello"))
	until(t, conn, "hello")
	for h.attached() > 0 { // until its socket is full
		h.Write(make([]byte, 1<<20))
	}
}

func (h *consoleHub) attached() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.on)
}

func TestKeysForKimg(t *testing.T) {
	for _, tt := range []struct{ typed, sent string }{
		{"ls\r", "ls\r"},
		{"a\x01\x01b", "a\x01b"},
		{"\x01a", "\x01"},
		{"\x01z", "z"},
		{"ab\x01dcd", "ab"},
		{"\x01", ""},
	} {
		for name, from := range map[string]io.Reader{
			"at once": strings.NewReader(tt.typed), "key by key": iotest.OneByteReader(strings.NewReader(tt.typed)),
		} {
			got, err := io.ReadAll(&escaped{from: from, leave: 'd'})
			if detached := strings.Contains(tt.typed, "\x01d"); detached != errors.Is(err, errDetached) ||
				string(got) != tt.sent {
				t.Errorf("%s: %q: %q, %v", name, tt.typed, got, err)
			}
		}
	}
}

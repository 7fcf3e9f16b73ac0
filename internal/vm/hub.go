package vm

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// consoleSocket is in the run directory of a guest whose console can be attached to.
const consoleSocket = "console"

// consoleReplay is how much of what a console said is told to one who attaches to
// it, in bytes.
const consoleReplay = 64 << 10

// slowest is how long one who is attached may hold up a console.
const slowest = 2 * time.Second

// consoleHub joins a guest's serial console with those who attach to it. What it
// says is kept, so that nobody comes too late; what any of them types goes in.
type consoleHub struct {
	listen net.Listener
	keys   *io.PipeWriter
	typed  *io.PipeReader

	mu     sync.Mutex
	said   []byte // the last of it
	on     map[net.Conn]bool
	closed bool
}

// newConsoleHub opens the console of the guest with this entry.
func newConsoleHub(entry *RunningGuest) (*consoleHub, error) {
	h := &consoleHub{on: map[net.Conn]bool{}}
	h.typed, h.keys = io.Pipe()
	var err error
	if h.listen, err = net.Listen("unix", filepath.Join(entry.dir, consoleSocket)); err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	go h.accept()
	entry.Console = true
	if err := entry.write(); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// input is what QEMU's console reads.
func (h *consoleHub) input() io.Reader { return h.typed }

// mute ends that input.
func (h *consoleHub) mute() { h.typed.Close() }

// Write takes what the console says. One who does not read it is let go, and
// holds up nobody.
func (h *consoleHub) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, p...)
	if extra := len(h.said) - consoleReplay; extra > 0 {
		h.said = append(h.said[:0], h.said[extra:]...)
	}
	for conn := range h.on {
		h.tell(conn, p)
	}
	return len(p), nil
}

// tell writes to one who is attached; h.mu is held.
func (h *consoleHub) tell(conn net.Conn, p []byte) {
	err := conn.SetWriteDeadline(time.Now().Add(slowest))
	if err == nil {
		_, err = conn.Write(p)
	}
	if err != nil {
		delete(h.on, conn)
		conn.Close()
	}
}

func (h *consoleHub) accept() {
	for {
		conn, err := h.listen.Accept()
		if err != nil {
			return // closed
		}
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			conn.Close()
			return
		}
		h.on[conn] = true
		h.tell(conn, h.said)
		h.mu.Unlock()
		go func() {
			_, _ = io.Copy(h.keys, conn) // its end is that of the one who is attached, or of the guest
			h.mu.Lock()
			delete(h.on, conn)
			h.mu.Unlock()
			conn.Close()
		}()
	}
}

func (h *consoleHub) close() {
	h.mu.Lock()
	h.closed = true
	for conn := range h.on {
		conn.Close()
	}
	h.mu.Unlock()
	h.keys.CloseWithError(io.EOF)
	h.typed.Close()
	h.listen.Close()
}

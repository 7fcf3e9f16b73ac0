package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/terminal"
)

// Attach connects the streams to the guest's serial console, beginning with the last of its output, until the guest
// ends, the input ends, or Ctrl-a d is typed on a terminal, which is raw meanwhile. Ctrl-a a types a Ctrl-a.
func Attach(ctx context.Context, g RunningGuest, stdin io.Reader, stdout io.Writer) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(g.dir, consoleSocket))
	if err != nil {
		return fmt.Errorf("attach to guest %s: %w", g.Name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	screen := terminal.Of(stdin)
	restore, err := screen.Raw()
	if err != nil {
		return err
	}
	defer restore()
	typed := make(chan error, 1)
	go func() {
		in := stdin
		if screen.Is() {
			in = &escaped{from: stdin, leave: 'd'}
		}
		_, err := io.Copy(conn, in)
		typed <- err
	}()
	said := make(chan error, 1)
	go func() {
		_, err := io.Copy(stdout, conn)
		said <- err
	}()
	for {
		select {
		case err := <-typed:
			if errors.Is(err, errDetached) {
				return nil
			}
			typed = nil // the input is no terminal and has ended; the output is still wanted
		case <-said: // the guest has ended, whatever the error
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil
		}
	}
}

var errDetached = errors.New("detached")

const ctrlA = 1

// escaped is what a user types, with Ctrl-a as kimg's own escape key.
type escaped struct {
	from  io.Reader
	leave byte // the key that ends the input behind a Ctrl-a
	after bool // a Ctrl-a was typed
}

func (e *escaped) Read(p []byte) (int, error) {
	for {
		n, err := e.from.Read(p)
		kept := p[:0]
		for _, key := range p[:n] {
			switch {
			case e.after && key == e.leave:
				return len(kept), errDetached
			case e.after && (key == 'a' || key == ctrlA):
				kept, e.after = append(kept, ctrlA), false
			case key == ctrlA:
				e.after = true
			default:
				kept, e.after = append(kept, key), false
			}
		}
		if len(kept) > 0 || err != nil || n == 0 {
			return len(kept), err
		}
	}
}

// consoleSocket is in the run directory of a guest whose console can be attached to.
const consoleSocket = "console"

// consoleReplay is how much of a console's output a client gets that attaches to it, in bytes.
const consoleReplay = 64 << 10

// slowest is how long a client may hold up a console.
const slowest = 2 * time.Second

// consoleHub connects a guest's serial console with its clients, and keeps the last output for later ones.
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

// Write passes on the console's output. A client that does not read is disconnected, so that it holds up nothing.
func (h *consoleHub) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, p...)
	if extra := len(h.said) - consoleReplay; extra > 0 {
		h.said = append(h.said[:0], h.said[extra:]...)
	}
	for conn := range h.on {
		h.send(conn, p)
	}
	return len(p), nil
}

// send writes to a client; h.mu is held.
func (h *consoleHub) send(conn net.Conn, p []byte) {
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
		h.send(conn, h.said)
		h.mu.Unlock()
		go func() {
			_, _ = io.Copy(h.keys, conn) // it ends with the client or the guest
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

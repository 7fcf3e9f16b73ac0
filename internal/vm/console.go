package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"

	"github.com/kimg/kimg/internal/terminal"
)

// Attach connects the streams with the guest's serial console, from what it said
// last on, until the guest ends, the input does, or on a terminal, which is raw
// meanwhile, Ctrl-a d is typed. Ctrl-a a is a Ctrl-a.
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
			in = &escaped{from: stdin}
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
			typed = nil // input that is no terminal's has ended; what is said is still wanted
		case <-said: // the guest has ended, whatever the connection says of that
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil
		}
	}
}

var errDetached = errors.New("detached")

const ctrlA = 1

// escaped is what a person types, with Ctrl-a as the key for kimg itself.
type escaped struct {
	from  io.Reader
	after bool // a Ctrl-a was typed
}

func (e *escaped) Read(p []byte) (int, error) {
	for {
		n, err := e.from.Read(p)
		kept := p[:0]
		for _, key := range p[:n] {
			switch {
			case e.after && key == 'd':
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

package replay

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// lastLines keeps the end of a console.
type lastLines struct {
	vm.Tail
	also io.Writer
}

func (l *lastLines) Write(p []byte) (int, error) {
	_, _ = l.Tail.Write(p)
	if l.also != nil {
		return l.also.Write(p)
	}
	return len(p), nil
}

func (l *lastLines) lines() []string { return l.Lines() }

// panicked says whether the kernel did, and why.
func (l *lastLines) panicked() (yes bool, why string) {
	for _, line := range l.Lines() {
		if _, why, ok := strings.Cut(line, "Kernel panic - not syncing: "); ok {
			return true, why
		}
	}
	return false, ""
}

// startLimit is how long QEMU may take to listen.
const startLimit = 30 * time.Second

// dial connects to QEMU's control socket, unless QEMU ends first.
func dial(ctx context.Context, tools *toolbox.Tools, gone <-chan struct{}) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("QEMU did not start to listen"))
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	conn, err := tools.Dial(ctx, qmpSocket)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

package replay

import (
	"context"
	"errors"
	"net"

	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
)

// dial connects to QEMU's control socket, unless QEMU ends first.
func dial(ctx context.Context, tools *toolbox.Tools, gone <-chan struct{}) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, qemu.StartLimit, errors.New("QEMU did not start to listen"))
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

package tap

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// QEMU's stream netdev carries Ethernet frames, each behind its length in four
// bytes, big-endian (net/stream.c). maxFrame is its NET_BUFSIZE.
const maxFrame = 4096 + 65536

// errFrame says that no frame has such a length.
var errFrame = errors.New("a frame of an impossible length")

// readFrame reads a frame into buf, which has room for maxFrame.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return buf[:n], err
}

// Relay carries frames between a TAP, where each call reads or writes one, and a stream of QEMU's stream netdev,
// until ctx ends, one of the two does, or the stream holds something else. It closes both.
func Relay(ctx context.Context, tap, stream io.ReadWriteCloser) error {
	closeBoth := func() {
		tap.Close()
		stream.Close()
	}
	defer context.AfterFunc(ctx, closeBoth)()
	ends := make(chan error, 2)
	go func() { ends <- fromTAP(stream, tap) }()
	go func() { ends <- toTAP(tap, stream) }()
	err := <-ends
	closeBoth()
	<-ends
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func fromTAP(to io.Writer, tap io.Reader) error {
	buf := make([]byte, 4+maxFrame)
	for {
		n, err := tap.Read(buf[4:])
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint32(buf, uint32(n))
		if _, err := to.Write(buf[:4+n]); err != nil {
			return err
		}
	}
}

func toTAP(tap io.Writer, from io.Reader) error {
	r, buf := bufio.NewReaderSize(from, maxFrame), make([]byte, maxFrame)
	for {
		frame, err := readFrame(r, buf)
		if err != nil {
			return err
		}
		// What an interface that is down, or a full queue, does not accept is lost, as on a wire.
		_, err = tap.Write(frame)
		if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOBUFS) &&
			!errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
}

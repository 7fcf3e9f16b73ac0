// Package tap opens a TAP, a network interface of this machine that a program is the
// other end of ([Open]), and carries its frames over a stream ([Relay]).
package tap

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"syscall"
)

// Error says why an interface cannot be used.
type Error struct {
	Name string
	Why  string
	Way  string // what to do about it
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("use the interface %s: %s", e.Name, e.Why) }

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Hint() string { return e.Way }

// create says how to make an interface that this user may use.
func create(name string) string {
	owner := "$USER"
	if u, err := user.Current(); err == nil {
		owner = u.Username
	}
	return fmt.Sprintf("kimg makes no interfaces; this does: %[3]sip tuntap add dev %[1]s mode tap user %[2]s && "+
		"%[3]sip link set dev %[1]s up", name, owner, sudo())
}

// sudo begins a command that only root may run.
func sudo() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "sudo "
}

// QEMU's stream netdev puts a frame's length in four bytes, big-endian, before it (net/stream.c); its NET_BUFSIZE.
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

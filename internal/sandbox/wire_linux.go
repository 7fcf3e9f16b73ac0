package sandbox

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// job is what pid 1, or a helper for trees, is asked for: one over each connection.
type job struct {
	Op   string
	IDs  IDs      // of a helper for trees
	Room *Config  // of opRoom
	Proc *process // of opRun
	From string   // of opCopy
	Dirs []string // of all others
}

const (
	opRoom    = "make the room"
	opRun     = "run"
	opKillAll = "kill all"
	opUnpack  = "unpack"
	opPack    = "pack"
	opCopy    = "copy"
	opRemove  = "remove"
	opSize    = "measure"
	opOverlay = "try an overlay"
)

// process is a Process without its streams, and with what the caller made of it.
type process struct {
	Args, Env  []string
	Dir, User  string
	Caps       uint64
	Privileged bool
	TTY        bool
	Filter     []unix.SockFilter
}

// reply ends a job; one that runs a process has a first one when it was started, whose descriptor is a terminal.
type reply struct {
	Err    string
	Errno  syscall.Errno
	Status int
}

// err is what the other side said went wrong; its errno is known to errors.Is.
func (r reply) err() error {
	if r.Err == "" {
		return nil
	}
	return &farError{r.Err, r.Errno}
}

type farError struct {
	text  string
	errno syscall.Errno
}

func (e *farError) Error() string { return e.text }

func (e *farError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// sig is what a connection of opRun takes once the process runs.
type sig struct{ Number syscall.Signal }

// wire is a stream of gob values and descriptors.
type wire struct {
	*net.UnixConn
	mu  sync.Mutex
	out bytes.Buffer
	enc *gob.Encoder
	dec *gob.Decoder
	got []int // descriptors that arrived and that nobody took
}

func newWire(c *net.UnixConn) *wire {
	w := &wire{UnixConn: c}
	w.enc, w.dec = gob.NewEncoder(&w.out), gob.NewDecoder(wireReader{w})
	return w
}

// send sends v, and descriptors with its first byte.
func (w *wire) send(v any, fds ...int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Reset()
	if err := w.enc.Encode(v); err != nil {
		return err
	}
	b := w.out.Bytes()
	if len(fds) > 0 {
		if _, _, err := w.WriteMsgUnix(b[:1], unix.UnixRights(fds...), nil); err != nil {
			return err
		}
		b = b[1:]
	}
	_, err := w.Write(b)
	return err
}

// receive waits for a value and returns the descriptors that came with it.
func (w *wire) receive(v any) ([]*os.File, error) {
	err := w.dec.Decode(v)
	var files []*os.File
	for _, fd := range w.got {
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	w.got = nil
	return files, err
}

type wireReader struct{ w *wire }

func (r wireReader) Read(b []byte) (int, error) {
	n, fds, err := readRights(r.w.UnixConn, b)
	r.w.got = append(r.w.got, fds...)
	return n, err
}

func readRights(c *net.UnixConn, b []byte) (n int, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	n = max(n, 0) // it is -1 with an error, which no reader may say
	if err == nil && n == 0 {
		err = io.EOF
	}
	if oobn > 0 {
		list, perr := unix.ParseSocketControlMessage(oob[:oobn])
		if perr != nil {
			return n, nil, perr
		}
		for _, m := range list {
			more, perr := unix.ParseUnixRights(&m)
			if perr != nil {
				return n, fds, perr
			}
			fds = append(fds, more...)
		}
	}
	return n, fds, err
}

// socketPair returns a connection and the descriptor of its other end, for another process.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	c, err := fileConn(os.NewFile(uintptr(fds[0]), "ours"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c, theirs, nil
}

// fileConn makes f, which it closes, a connection.
func fileConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s is no Unix socket", f.Name())
	}
	return u, nil
}

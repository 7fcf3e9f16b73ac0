package tap

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// tunDevice is where TAPs are opened (tuntap.rst of Linux).
const tunDevice = "/dev/net/tun"

// Open opens an interface, without privilege where it was made for this user. Each Read and Write is one frame.
func Open(name string) (io.ReadWriteCloser, error) {
	// Looked for first: opening one that is not there would make it, with the privilege.
	is, err := net.InterfaceByName(name)
	if err != nil {
		return nil, &Error{Name: name, Why: "there is none", Way: create(name), Err: err}
	}
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		way := sudo() + "modprobe tun brings the device where the kernel has it"
		if errors.Is(err, unix.EACCES) {
			way = sudo() + "chmod 0666 " + tunDevice + " gives it the mode that it has on most machines"
		}
		return nil, &Error{Name: name, Why: fmt.Sprintf("open %s: %v", tunDevice, err), Way: way, Err: err}
	}
	if err := attach(fd, name); err != nil {
		unix.Close(fd)
		return nil, refusal(name, err)
	}
	if is.Flags&net.FlagUp == 0 {
		unix.Close(fd)
		return nil, &Error{Name: name, Why: "it is down", Way: sudo() + "ip link set dev " + name + " up"}
	}
	return os.NewFile(uintptr(fd), tunDevice), nil // in the poller, being O_NONBLOCK: Close ends a Read
}

// attach makes fd the other end of the interface. One with several queues must be opened by queue.
func attach(fd int, name string) error {
	var err error
	for _, more := range []uint16{0, unix.IFF_MULTI_QUEUE} {
		req, bad := unix.NewIfreq(name)
		if bad != nil {
			return bad
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | more)
		if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req); !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return err
}

// refusal explains the kernel's refusal.
func refusal(name string, err error) error {
	e := &Error{Name: name, Err: err}
	switch {
	case errors.Is(err, unix.EBUSY):
		e.Why = "another program has it, another guest perhaps"
		e.Way = "give each guest an interface of its own: end the other one, or name another with --net"
	case errors.Is(err, unix.EPERM):
		e.Why = "it was not made for this user"
		e.Way = sudo() + "ip tuntap del dev " + name + " mode tap removes it; " + create(name)
	case errors.Is(err, unix.EINVAL):
		e.Why, e.Way = "it is not a TAP", "use another name. "+create("tap0")
	default:
		e.Why = err.Error()
	}
	return e
}

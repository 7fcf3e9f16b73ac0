package watch

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// Memory is that of a thread, by its number.
type Memory int

const page = 4096 // the smallest there is

// Read fills b; it is all or EFAULT.
func (m Memory) Read(ptr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := unix.ProcessVMReadv(int(m), iovec(b), remote(ptr, b), 0)
	if err != nil || n != len(b) {
		return unix.EFAULT
	}
	return nil
}

// Write puts b there; it is all or EFAULT.
func (m Memory) Write(ptr uint64, b []byte) error {
	n, err := unix.ProcessVMWritev(int(m), iovec(b), remote(ptr, b), 0)
	if err != nil || n != len(b) {
		return unix.EFAULT
	}
	return nil
}

// String reads a string that ends with a zero, by way of buf; one that does not end there is ENAMETOOLONG. Like the
// kernel it reads no page behind the string's end.
func (m Memory) String(ptr uint64, buf []byte) (string, error) {
	for n := 0; n < len(buf); {
		chunk := buf[n:min(len(buf), n+min(page-int(ptr&(page-1)), 256+15*n))] // few are longer than 256
		if err := m.Read(ptr, chunk); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(chunk, 0); i >= 0 {
			return string(buf[:n+i]), nil
		}
		n, ptr = n+len(chunk), ptr+uint64(len(chunk))
	}
	return "", unix.ENAMETOOLONG
}

func iovec(b []byte) []unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return []unix.Iovec{v}
}

func remote(ptr uint64, b []byte) []unix.RemoteIovec {
	return []unix.RemoteIovec{{Base: uintptr(ptr), Len: len(b)}}
}

//go:build !linux

package sparse

import "os"

// Data returns the next piece of a file of size bytes, at or behind from, that
// may hold anything but zeros: here, all of the rest.
func Data(_ *os.File, from, size int64) (start, end int64, err error) {
	return min(from, size), size, nil
}

//go:build !linux

package tap

import "io"

// Open opens a TAP.
func Open(name string) (io.ReadWriteCloser, error) {
	return nil, &Error{Name: name, Why: "only Linux has TAPs", Way: "use --net user, with --forward"}
}

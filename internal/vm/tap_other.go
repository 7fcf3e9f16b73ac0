//go:build !linux

package vm

import "io"

func openTAP(name string) (io.ReadWriteCloser, error) {
	return nil, &TAPError{Name: name, Why: "TAPs are Linux's", Way: "use --net user, with --forward"}
}

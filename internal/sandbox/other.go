//go:build !linux

package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
)

// Sandbox is what Start made: nothing, here.
type Sandbox struct{}

// Running is a process that Run started.
type Running struct{ PTY *os.File }

func SubIDs() (IDs, error)      { return IDs{}, errors.ErrUnsupported }
func (s *Sandbox) Close() error { return nil }

func Start(ctx context.Context, c Config) (*Sandbox, error)  { return nil, errors.ErrUnsupported }
func Overlay(ctx context.Context, ids IDs, dir string) error { return errors.ErrUnsupported }
func Unpack(ctx context.Context, ids IDs, dir string, r io.Reader) error {
	return errors.ErrUnsupported
}
func Pack(ctx context.Context, ids IDs, dir string, w io.Writer) error { return errors.ErrUnsupported }
func Copy(ctx context.Context, ids IDs, from, to string) error         { return errors.ErrUnsupported }
func Remove(ctx context.Context, ids IDs, dirs ...string) error        { return errors.ErrUnsupported }

func Size(ctx context.Context, ids IDs, dir string) (int64, error) { return 0, errors.ErrUnsupported }

// NestingProfile cannot be told here: the engine's machine is another one.
func NestingProfile() (string, error) { return "unconfined", nil }

func Sync(dir string) error { return errors.ErrUnsupported }

func (s *Sandbox) Run(p Process) (*Running, error) { return nil, errors.ErrUnsupported }
func (s *Sandbox) KillAll() error                  { return errors.ErrUnsupported }
func (s *Sandbox) Unpack(ctx context.Context, dir string, r io.Reader) error {
	return errors.ErrUnsupported
}
func (s *Sandbox) Pack(ctx context.Context, path string, w io.Writer) error {
	return errors.ErrUnsupported
}
func (r *Running) Wait() (status int, err error)      { return 0, errors.ErrUnsupported }
func (r *Running) Signal(number syscall.Signal) error { return errors.ErrUnsupported }
func (r *Running) Resize(rows, cols uint16) error     { return errors.ErrUnsupported }

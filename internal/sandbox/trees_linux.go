package sandbox

import (
	"context"
	"errors"
	"io"
)

var errNotYet = errors.New("not yet")

// Overlay tries an overlay in a user namespace with its layers in dir. The error says why there is none: Config.Layer
// does not work there then, and Copy does.
func Overlay(ctx context.Context, ids IDs, dir string) error { return errNotYet }

// Unpack unpacks a plain tar into dir, which is made where it is missing. Owners (with one id: this user's all of
// them), modes, times and extended attributes are the tar's; device nodes are left out. No name or link of the tar
// leads out of dir.
func Unpack(ctx context.Context, ids IDs, dir string, tar io.Reader) error { return errNotYet }

// Pack writes a tar of the tree at dir, whose names begin with "./", with its owners as ids have them inside.
func Pack(ctx context.Context, ids IDs, dir string, tar io.Writer) error { return errNotYet }

// Copy copies the tree from to the new directory to. Files share their blocks where the file system can do that.
func Copy(ctx context.Context, ids IDs, from, to string) error { return errNotYet }

// Remove removes trees, with what ids own in them. It is no error where there is none. It follows no link.
func Remove(ctx context.Context, ids IDs, dirs ...string) error { return errNotYet }

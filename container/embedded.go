package container

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sandbox"
	"github.com/kimg/kimg/internal/version"
)

// embedded is the Engine that is part of this program. See package sandbox for what its containers run in.
type embedded struct {
	dir     string // its images, volumes and containers, which are this user's alone
	ids     sandbox.IDs
	overlay bool // a container's layer may be an overlay; else it is a copy of the image
	info    Info
}

var _ Engine = (*embedded)(nil)

// Embedded returns the engine that is part of this program: it needs no daemon and no root, but Linux with
// unprivileged user namespaces. All that it has is in dir, which is made where it is missing; programs that name the
// same directory share the engine.
//
// Where /etc/subuid and /etc/subgid have ranges for this user its containers have their users, and else one user, whom
// a container takes for the one that its Cmd names. Files in volumes then belong to whoever looks at them, and owners
// that were given to files (chown, a tar's) are remembered as long as the container that gave them.
//
// dir must be on a file system that programs may be executed from. Where it knows no overlays for ordinary users, or no
// other owners than this user, that is one of Info's Warnings. Its builds know the instructions ARG, COPY, FROM
// and RUN.
func Embedded(ctx context.Context, dir string) (Engine, error) {
	ids, err := sandbox.SubIDs()
	if err != nil {
		ids = sandbox.OneID(0, 0)
	}
	e, err := openEmbedded(ctx, dir, ids)
	if err == nil {
		return e, nil
	}
	if ids.One() || ctx.Err() != nil || errors.As(err, new(*placeError)) {
		return nil, err // and no *embedded that is nil
	}
	one, bad := openEmbedded(ctx, dir, sandbox.OneID(0, 0))
	if errors.As(bad, new(*placeError)) {
		return nil, bad
	}
	if bad != nil {
		return nil, err
	}
	one.info.Warnings = append(one.info.Warnings,
		fmt.Sprintf("containers have one user only, though /etc/subuid has more: %v", err))
	return one, nil
}

// openEmbedded returns an engine whose containers have ids.
func openEmbedded(ctx context.Context, dir string, ids sandbox.IDs) (*embedded, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open engine in %s: %w", dir, err)
	}
	e := &embedded{dir: filepath.Join(dir, ids.String()), ids: ids, info: Info{
		Name: "embedded", Version: version.String(), Host: dir, Rootless: true, Local: true,
		Arch: runtime.GOARCH,
		CPUs: runtime.NumCPU(), Memory: memory(), IDs: ids.Count(),
	}}
	for _, d := range []string{images, refs, volumes, containers} {
		if err := os.MkdirAll(filepath.Join(e.dir, d), 0o700); err != nil {
			return nil, fault(ctx, "open engine", &placeError{e.dir, err})
		}
	}
	if err := e.try(ctx); err != nil {
		return nil, fault(ctx, "open engine in "+dir, err)
	}
	return e, nil
}

// tried is the file that says that all has been tried, and worked.
const tried = "tried"

// try looks at what works, and at what the engine's directory is good for until all of that does.
func (e *embedded) try(ctx context.Context) error {
	c, err := e.claim(containers)
	if err != nil {
		return err
	}
	defer e.drop(ctx, c)
	root := filepath.Join(c.path, rootDir)
	if err := os.Mkdir(root, 0o700); err != nil {
		return err
	}
	if err := sandbox.Check(ctx, e.ids, root); err != nil {
		return err
	}
	var u unix.Utsname
	_ = unix.Uname(&u) // a kernel without a name is one, too
	mark := filepath.Join(e.dir, tried)
	kernel := unix.ByteSliceToString(u.Release[:]) + "\n"
	if b, err := reading.Small(mark, 1<<10); err == nil && string(b) == kernel {
		e.overlay = true
		return nil
	}
	file := filepath.Join(c.path, "file")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		return err
	}
	if unix.Access(file, unix.X_OK) != nil {
		return &placeError{e.dir, errors.New("programs cannot be executed from there (noexec)")}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	owner := 1
	if e.ids.One() {
		owner = 0
	}
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o600, Uid: owner,
		Gid: owner}), w.Close()); err != nil {
		return err
	}
	if err := sandbox.Unpack(ctx, e.ids, filepath.Join(c.path, "tree"), &b); err != nil {
		return err
	}
	if err := sandbox.Overlay(ctx, e.ids, c.path); err != nil {
		if ctx.Err() != nil {
			return err
		}
		e.info.Warnings = append(e.info.Warnings, fmt.Sprintf("each container begins with a copy of its image, "+
			"which takes time and space: %s takes no overlays of ordinary users: %v", e.dir, err))
		return nil
	}
	e.overlay = true
	return e.write(mark, []byte(kernel))
}

// placeError says that an engine cannot be in a directory.
type placeError struct {
	dir string
	err error
}

func (e *placeError) Error() string { return fmt.Sprintf("keep images in %s: %v", e.dir, e.err) }
func (e *placeError) Unwrap() error { return e.err }

// Hint says what the user can do about it.
func (e *placeError) Hint() string {
	return "name a directory that you may write to and execute from, for all that kimg keeps: KIMG_CACHE=DIR"
}

func (e *embedded) Info() Info { return e.info }

// Close has nothing to release: what this process has is its own until it is removed, or the process ends.
func (e *embedded) Close() error { return nil }

// memory is how much memory this process may have, in bytes; 0: that is not known. Source: proc_meminfo(5), cgroups(7)
// and the kernel's cgroup-v2.rst, memory.max.
func memory() (n int64) {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			n, _ = strconv.ParseInt(f[1], 10, 64)
			n <<= 10
		}
	}
	group, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(group)) {
		path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; unified && path != "/" && path != "."; path = filepath.Dir(path) {
			text, _ := os.ReadFile(filepath.Join("/sys/fs/cgroup", path, "memory.max"))
			if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
				n = min(n, limit)
			}
		}
	}
	return n
}

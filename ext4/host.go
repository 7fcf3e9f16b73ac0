package ext4

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/sparse"
)

// HostWorker is a Worker in a directory of this machine, with its own e2fsprogs.
type HostWorker struct{ dir string }

// NewHostWorker makes a worker in a new directory below dir (empty: os.TempDir).
// Where debugfs or e2fsck is missing the error is exec.ErrNotFound.
func NewHostWorker(dir string) (*HostWorker, error) {
	for _, tool := range []string{"debugfs", "e2fsck"} {
		if _, err := findTool(tool); err != nil {
			return nil, err
		}
	}
	d, err := os.MkdirTemp(dir, "kimg-ext4-*")
	if err != nil {
		return nil, fmt.Errorf("make a working directory: %w", err)
	}
	return &HostWorker{d}, nil
}

// Close removes the worker and what is on it.
func (b *HostWorker) Close() error { return os.RemoveAll(b.dir) }

// Put is Worker's.
func (b *HostWorker) Put(_ context.Context, name string, r io.Reader) error {
	f, err := os.Create(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	if _, err := sparse.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Get is Worker's.
func (b *HostWorker) Get(_ context.Context, name string, w io.Writer) error {
	f, err := os.Open(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Run is Worker's.
func (b *HostWorker) Run(ctx context.Context, args ...string) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var o, e bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, &o, &e
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	cmd.Env = append(cmd.Env, "PATH="+toolPath())
	err = cmd.Run()
	return o.Bytes(), e.Bytes(), err
}

// toolPath adds where distributions put e2fsprogs and an ordinary user's PATH does not look.
func toolPath() string { return os.Getenv("PATH") + ":/usr/sbin:/sbin" }

func findTool(name string) (string, error) {
	for _, dir := range filepath.SplitList(toolPath()) {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

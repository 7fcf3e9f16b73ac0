package toolbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/qemu"
)

// Host runs QEMU and gdb on this machine.
type Host struct {
	Arch arch.Arch // the guests'
	// Indexes is a directory that keeps gdb's indexes of vmlinux. Empty: they are not kept.
	Indexes string
}

// QEMU implements Toolbox.
func (h Host) QEMU() (file, image string) {
	if found, err := exec.LookPath(h.Arch.QEMU); err == nil {
		file, _ = filepath.EvalSymlinks(found)
	}
	return file, ""
}

// Open implements Toolbox.
func (h Host) Open(_ context.Context, m Mounts) (*Tools, error) {
	dir, err := makeRunDir(runParent())
	if err != nil {
		return nil, err
	}
	r := &hostRunner{dir: dir}
	t := &Tools{GDB: h.Arch.Or().GDBOn(runtime.GOARCH), Dir: m.Dir, Kept: m.Kept, Sockets: dir.path, RunDir: dir.path,
		Accel: qemu.Own, Runner: r}
	if m.Keep {
		t.Memory, r.memory = memoryFile()
	}
	for _, share := range m.Shares {
		t.Shares = append(t.Shares, share.Dir)
	}
	if h.Indexes != "" && slices.Contains(m.Files, artifact.Vmlinux) {
		h.index(m, t, r)
	}
	if err := qemu.ProbeOwn(h.Arch.Or()); err != nil {
		t.Accel, t.NoKVM = qemu.TCG, err.Error()
	}
	return t, nil
}

// index shows gdb its index of vmlinux, or has it made.
func (h Host) index(m Mounts, t *Tools, r *hostRunner) {
	program, err := exec.LookPath(t.GDB)
	if err != nil {
		return // whoever wants it reports that
	}
	info, err := os.Stat(program)
	if err != nil {
		return
	}
	vmlinux := filepath.Join(m.Dir, artifact.Vmlinux)
	id := fmt.Sprintf("%s %d %d", program, info.Size(), info.ModTime().UnixNano()) // another version has another format
	if r.index = openIndex(h.Indexes, vmlinux, id); r.index == nil {
		return
	}
	if r.index.fill == nil {
		t.Index = r.index.dir
		return
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background()) // Close ends it
	t.Indexed = r.index.fillBy(ctx, m, program, r.index.dir, vmlinux, func(ctx context.Context, args []string) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.SysProcAttr = ownGroup()
		return cmd.Run()
	})
}

type hostRunner struct {
	index  *index             // nil: none
	stop   context.CancelFunc // ends its making; nil: nobody makes it
	dir    *runDir
	memory io.Closer // Tools.Memory; nil: there is none

	mu      sync.Mutex
	running []*exec.Cmd
	waits   sync.WaitGroup
}

// Start implements Runner.
func (r *hostRunner) Start(ctx context.Context, p Program) (func() error, error) {
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	// A child of the killed program may hold its output open.
	cmd.WaitDelay = 2 * time.Second
	var stdin io.WriteCloser
	file, direct := p.Stdin.(*os.File)
	if !p.Terminal { // such a program is in the terminal's foreground group, as kimg itself
		cmd.SysProcAttr = ownGroup()
		direct = false
	}
	if direct {
		cmd.Stdin = file
	} else if p.Stdin != nil {
		var err error
		if stdin, err = cmd.StdinPipe(); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Args[0], err)
	}
	r.running = append(r.running, cmd)
	if stdin != nil {
		// Not by exec.Cmd: its Wait would wait for a terminal's next key.
		go func() {
			io.Copy(stdin, p.Stdin)
			stdin.Close()
		}()
	}
	r.waits.Add(1)
	return sync.OnceValue(func() error {
		defer r.waits.Done()
		return cmd.Wait()
	}), nil
}

// Local implements Runner.
func (r *hostRunner) Local(_ context.Context, socket string) (string, error) {
	return filepath.Join(r.dir.path, socket), nil
}

// Kill implements Runner: it kills all that runs. Whoever started it waits for it; so does Kill.
func (r *hostRunner) Kill(context.Context) error {
	r.mu.Lock()
	for _, cmd := range r.running {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			r.mu.Unlock()
			return fmt.Errorf("kill %s: %w", cmd.Args[0], err)
		}
	}
	r.mu.Unlock()
	r.waits.Wait()
	return nil
}

// Close implements Runner.
func (r *hostRunner) Close(ctx context.Context) error {
	bad := r.Kill(ctx)
	if r.stop != nil {
		r.stop()
	}
	r.index.close()
	if r.memory != nil {
		_ = r.memory.Close() // it is no file of a disk
	}
	if bad != nil {
		return bad
	}
	return r.dir.remove()
}

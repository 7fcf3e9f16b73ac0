package toolbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/terminal"
)

// Engine is what a Container needs of a container engine.
type Engine interface {
	Info() container.Info
	Create(ctx context.Context, cmd *container.Cmd) (container.Container, error)
}

// Container runs QEMU and gdb in a container: no network, no capabilities, and
// of this machine only the out directory, read-only, and gdb's index of vmlinux.
type Container struct {
	Arch   arch.Arch
	Engine Engine
	Image  string // has QEMU for the architecture, gdb and socat

	Source []container.Mount // where gdb finds the kernel's sources; read-only
	// Indexes is a directory of this machine that keeps gdb's indexes of vmlinux. Empty: they are not kept.
	Indexes string
}

// shareDir is where the shared directory of a number is in the container.
func shareDir(n int) string { return fmt.Sprintf("/share/%d", n) }

// Where things are in the container.
const (
	containerDir   = "/out"
	containerRun   = "/run/kimg"
	containerKept  = "/kept"
	containerIndex = "/var/cache/gdb"
)

// The engine is on another machine, and does not see this one's files.
var (
	errRemoteWrite = errors.New(
		"the container engine is on another machine: a guest there cannot write to an image on this one")
	errRemoteShare = errors.New("the container engine is on another machine, which does not see this one's directories")
)

// QEMU implements Toolbox.
func (c Container) QEMU() (file, image string) {
	if !c.Engine.Info().Local {
		return "", ""
	}
	return "", c.Image
}

// Open implements Toolbox.
func (c Container) Open(ctx context.Context, m Mounts) (_ *Tools, err error) {
	local := c.Engine.Info().Local
	if m.Write != "" && !local {
		return nil, fmt.Errorf("open %s for writing: %w", m.Write, errRemoteWrite)
	}
	if len(m.Shares) > 0 && !local {
		return nil, fmt.Errorf("share %s: %w", m.Shares[0].Dir, errRemoteShare)
	}
	run, err := makeRunDir(runParent())
	if err != nil {
		return nil, err
	}
	r := &containerRunner{arch: c.Arch, dir: run}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close(ctx))
		}
	}()
	cmd, keep := c.command(m, local)
	r.keep = keep
	noKVM := addKVM(cmd, c.Arch, local)
	bare := *cmd
	bare.Devices = nil
	if local && c.Indexes != "" && slices.Contains(m.Files, artifact.Vmlinux) {
		r.index = openIndex(c.Indexes, filepath.Join(m.Dir, artifact.Vmlinux), c.Image)
	}
	if r.index != nil {
		cmd.Mounts = append(slices.Clip(cmd.Mounts), container.Mount{
			Bind: r.index.dir, Target: containerIndex, ReadOnly: r.index.fill == nil})
	}
	optional := len(cmd.Devices) > 0 || r.index != nil
	if r.sandbox, err = c.begin(ctx, cmd, m, local); err != nil && optional && ctx.Err() == nil {
		// An engine may hand out no devices, or see little of this machine's files.
		first := err
		if len(cmd.Devices) > 0 {
			noKVM = "the container engine does not hand out " + kvmDevice
		}
		cmd = &bare
		r.index.close()
		r.index = nil
		cmd.Stdin, r.keep = io.Pipe()
		if r.sandbox, err = c.begin(ctx, cmd, m, local); err != nil {
			return nil, first
		}
	}
	if err != nil {
		return nil, err
	}
	t := &Tools{
		GDB: c.Arch.Or().GDBOn(c.Engine.Info().Arch), Dir: containerDir, Sockets: containerRun, RunDir: run.path,
		Accel: qemu.KVM, Isolated: true, Runner: r,
	}
	if m.Kept != "" {
		t.Kept = containerKept
	}
	if m.Keep {
		t.Memory = containerRun + "/ram"
	}
	for n := range m.Shares {
		t.Shares = append(t.Shares, shareDir(n))
	}
	switch {
	case r.index == nil:
	case r.index.fill == nil:
		t.Index = containerIndex
	default:
		t.Indexed = r.index.fillBy(r.ctx, m, t.GDB, containerIndex, t.Path(artifact.Vmlinux),
			func(ctx context.Context, args []string) error {
				return r.sandbox.Exec(ctx, &container.ExecCmd{Args: args})
			})
	}
	if noKVM == "" {
		noKVM = probeInside(ctx, r.sandbox, c.Arch, containerRun)
	}
	if noKVM != "" {
		t.Accel, t.NoKVM = qemu.TCG, noKVM
	}
	return t, nil
}

// command is the container's: one that does nothing for as long as its input is open. When kimg is killed the
// engine closes that, and the container ends. Programs run as the user who started kimg, so that they can read and
// write what that user can and nothing else.
func (c Container) command(m Mounts, local bool) (*container.Cmd, io.Closer) {
	in, keep := io.Pipe()
	cmd := &container.Cmd{
		Image: c.Image, Args: []string{"cat"}, Stdin: in, Init: true,
		Env: []string{"HOME=/tmp", "TMPDIR=/var/tmp"}, // QEMU keeps thrown-away writes in TMPDIR
		// Not on the container's own layer: a socket on some layered filesystems cannot be dialled.
		// And a guest that is to be kept has its RAM there.
		Tmpfs: map[string]string{containerRun: "mode=1777,size=100%"},
	}
	for _, source := range c.Source {
		source.ReadOnly = true
		cmd.Mounts = append(cmd.Mounts, source)
	}
	uid, gid := os.Getuid(), os.Getgid()
	info := c.Engine.Info()
	switch {
	case info.Rootless || !local:
		uid, gid = 0, 0 // a rootless engine's root is the user
	case uid == 0:
		cmd.Caps = []string{"DAC_OVERRIDE"} // root may read another's files: so it can without a container
	}
	cmd.HostUsers = info.Remapped && local // no user of the engine's map may read the user's files
	cmd.User = fmt.Sprintf("%d:%d", uid, gid)
	if !local {
		return cmd, keep
	}
	cmd.Mounts = append(cmd.Mounts, container.Mount{Bind: m.Dir, Target: containerDir, ReadOnly: true})
	if m.Write != "" {
		cmd.Mounts = append(cmd.Mounts, container.Mount{
			Bind: filepath.Join(m.Dir, m.Write), Target: containerDir + "/" + m.Write})
	}
	if m.Kept != "" {
		cmd.Mounts = append(cmd.Mounts, container.Mount{Bind: m.Kept, Target: containerKept, ReadOnly: !m.Keep})
	}
	for n, share := range m.Shares {
		cmd.Mounts = append(cmd.Mounts, container.Mount{Bind: share.Dir, Target: shareDir(n), ReadOnly: !share.Write})
	}
	return cmd, keep
}

// begin creates the container, brings the artifacts in where the engine cannot see them, and starts it.
func (c Container) begin(ctx context.Context, cmd *container.Cmd, m Mounts, local bool) (container.Container, error) {
	sandbox, err := c.Engine.Create(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if !local {
		err = copyIn(ctx, sandbox, containerDir, m)
	}
	if err == nil {
		// The end of ctx would kill it: a disk that was written to is checked after that.
		err = sandbox.Start(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, sandbox.Remove(ctx))
	}
	return sandbox, nil
}

// containerRunner runs programs in a container. Their sockets are relayed to Unix sockets of the same names in dir,
// each connection by a socat in the container: that works wherever the engine is.
type containerRunner struct {
	arch    arch.Arch
	sandbox container.Container
	dir     *runDir
	keep    io.Closer       // its end is the container's
	index   *index          // nil: none
	ctx     context.Context // the relays', which outlive the calls that set them up
	stop    context.CancelFunc

	mu     sync.Mutex
	relays map[string]net.Listener
}

// Start implements Runner.
func (r *containerRunner) Start(ctx context.Context, p Program) (func() error, error) {
	cmd := &container.ExecCmd{Args: p.Args, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr}
	restore := func() {}
	if screen := terminal.Of(p.Stdin); p.Terminal && screen.Is() {
		var err error
		if restore, err = screen.Raw(); err != nil {
			return nil, err
		}
		if p.Term != "" {
			cmd.Env = []string{"TERM=" + p.Term}
		}
		sizes := make(chan container.Winsize)
		running, stop := context.WithCancel(ctx)
		go screen.Follow(running, func(size terminal.Size) {
			select {
			case sizes <- container.Winsize{Rows: uint(size.Rows), Cols: uint(size.Cols)}:
			case <-running.Done():
			}
		})
		cmd.TTY, cmd.Resize = true, sizes
		raw := restore
		restore = func() { stop(); raw() }
	}
	ended := make(chan error, 1)
	go func() {
		err := r.sandbox.Exec(ctx, cmd)
		restore()
		ended <- err
	}()
	return sync.OnceValue(func() error { return <-ended }), nil
}

// Local implements Runner.
func (r *containerRunner) Local(_ context.Context, socket string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	address := filepath.Join(r.dir.path, socket)
	if r.relays[socket] != nil {
		return address, nil
	}
	l, err := net.Listen("unix", address)
	if err != nil {
		return "", fmt.Errorf("relay %s: %w", socket, err)
	}
	if r.relays == nil {
		r.relays = map[string]net.Listener{}
	}
	r.relays[socket] = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go r.relay(conn.(*net.UnixConn), containerRun+"/"+socket)
		}
	}()
	return address, nil
}

// relay connects a connection with a socket in the container. The end of one
// direction is passed on and leaves the other open (-t: for a day).
func (r *containerRunner) relay(conn *net.UnixConn, socket string) {
	defer conn.Close()
	args := []string{"socat", "-t86400", "-", "UNIX-CONNECT:" + socket + ",retry=3000,interval=0.02"}
	// An error means that a side went away, which the connection's end tells.
	r.sandbox.Exec(r.ctx, &container.ExecCmd{Args: args, Stdin: conn, Stdout: conn})
}

// killScript kills the program of a name until there is none. A zombie has no command
// line any more, and has closed its files. The brackets keep grep from finding itself.
// Its exit status says nothing: it is an error, too, where another process ended meanwhile.
const killScript = `while found=$(grep -lszx '[%c]%s' /proc/[0-9]*/cmdline); test -n "$found"; do
	for p in $found; do
		p=${p#/proc/}
		kill -KILL "${p%%/cmdline}" 2>/dev/null
	done
	sleep 0.05
done`

// Kill implements Runner: the end of QEMU's context has only let go of it, as an engine
// has no way to end one program of a container. What else runs there writes to nothing.
func (r *containerRunner) Kill(ctx context.Context) error {
	script := fmt.Sprintf(killScript, r.arch.QEMU[0], r.arch.QEMU[1:])
	if err := r.sandbox.Exec(ctx, &container.ExecCmd{Args: []string{"sh", "-c", script}}); err != nil {
		return fmt.Errorf("kill QEMU: %w", err)
	}
	return nil
}

// Close implements Runner.
func (r *containerRunner) Close(ctx context.Context) error {
	r.stop()
	r.mu.Lock()
	for _, l := range r.relays {
		l.Close()
	}
	r.mu.Unlock()
	r.keep.Close()
	var err error
	if r.sandbox != nil {
		err = r.sandbox.Remove(ctx)
	}
	r.index.close()
	return errors.Join(err, r.dir.remove())
}

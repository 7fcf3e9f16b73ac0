package vm

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/terminal"
)

// Container runs QEMU and gdb in a container: no network, no capabilities, and
// of this machine only the out directory, read-only, and gdb's index of vmlinux.
type Container struct {
	Engine container.Engine
	Image  string // has qemu-system-x86_64, gdb and socat

	Source  []container.Mount // what gdb is to find the kernel's sources in; read-only
	Indexes string            // a directory of this machine that keeps gdb's indexes of vmlinux; empty: they are not kept
}

// Where things are in the container.
const (
	containerDir   = "/out"
	containerRun   = "/run/kimg"
	containerIndex = "/var/cache/gdb"
	kvmDevice      = "/dev/kvm"
)

// errRemoteWrite says that a guest cannot write to an image that the engine cannot see.
var errRemoteWrite = errors.New("the container engine is on another machine: a guest there cannot write to an image on this one")

// Open implements Place.
func (p Container) Open(ctx context.Context, need Need) (_ *Site, err error) {
	local := p.Engine.Info().Local
	if need.Write != "" && !local {
		return nil, fmt.Errorf("open %s for writing: %w", need.Write, errRemoteWrite)
	}
	if len(need.Shares) > 0 && !local {
		return nil, fmt.Errorf("share %s: %w", need.Shares[0].Dir, errRemoteShare)
	}
	run, err := makeRunDir()
	if err != nil {
		return nil, err
	}
	r := &containerRunner{dir: run}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close(ctx))
		}
	}()
	cmd, keep := p.command(need, local)
	r.keep = keep
	why := probeContainerKVM(cmd, local)
	bare := *cmd
	bare.Devices = nil
	if local && p.Indexes != "" && slices.Contains(need.Files, artifact.Vmlinux) {
		r.index = openIndex(p.Indexes, filepath.Join(need.Dir, artifact.Vmlinux))
	}
	if r.index != nil {
		cmd.Mounts = append(slices.Clip(cmd.Mounts), container.Mount{Bind: r.index.dir, Target: containerIndex, ReadOnly: r.index.fill == nil})
	}
	optional := len(cmd.Devices) > 0 || r.index != nil
	if r.box, err = p.begin(ctx, cmd, need, local); err != nil && optional && ctx.Err() == nil {
		// An engine may hand out no devices, or see little of this machine's files.
		first := err
		if len(cmd.Devices) > 0 {
			why = "the container engine does not hand out " + kvmDevice
		}
		cmd = &bare
		r.index.close()
		r.index = nil
		cmd.Stdin, r.keep = io.Pipe()
		if r.box, err = p.begin(ctx, cmd, need, local); err != nil {
			return nil, first
		}
	}
	if err != nil {
		return nil, err
	}
	site := &Site{Dir: containerDir, Run: containerRun, here: run.path, Accel: qemu.KVM, Isolated: true, run: r}
	switch {
	case r.index == nil:
	case r.index.fill == nil:
		site.index = containerIndex
	default:
		go r.fillIndex(site)
	}
	if why == "" {
		why = r.probe(ctx)
	}
	if why != "" {
		site.Accel, site.Why = qemu.TCG, why
	}
	return site, nil
}

// command is the container's: one that does nothing, for as long as its input is
// open. It is the engine that closes it when kimg is killed, and the container
// ends. Programs run as the invoking person, so that they can read, and where
// asked write, what the person can and nothing else.
func (p Container) command(need Need, local bool) (*container.Cmd, io.Closer) {
	in, keep := io.Pipe()
	cmd := &container.Cmd{
		Image: p.Image, Args: []string{"cat"}, Stdin: in, Init: true,
		Env: []string{"HOME=/tmp", "TMPDIR=/var/tmp"}, // QEMU keeps thrown-away writes in TMPDIR
		// Not on the container's own layer: a socket on some layered filesystems cannot be dialled.
		Tmpfs: map[string]string{containerRun: "mode=1777"},
	}
	for _, m := range p.Source {
		m.ReadOnly = true
		cmd.Mounts = append(cmd.Mounts, m)
	}
	uid, gid := os.Getuid(), os.Getgid()
	switch {
	case p.Engine.Info().Rootless || !local:
		uid, gid = 0, 0 // a rootless engine's root is the person itself
	case uid == 0:
		cmd.Caps = []string{"DAC_OVERRIDE"} // root may read another's files: so it can without a container
	}
	cmd.User = fmt.Sprintf("%d:%d", uid, gid)
	if !local {
		return cmd, keep
	}
	cmd.Mounts = append(cmd.Mounts, container.Mount{Bind: need.Dir, Target: containerDir, ReadOnly: true})
	if need.Write != "" {
		cmd.Mounts = append(cmd.Mounts, container.Mount{
			Bind: filepath.Join(need.Dir, need.Write), Target: containerDir + "/" + need.Write})
	}
	for n, share := range need.Shares {
		cmd.Mounts = append(cmd.Mounts, container.Mount{Bind: share.Dir, Target: isolatedShare(n), ReadOnly: !share.Write})
	}
	return cmd, keep
}

// probeContainerKVM says why KVM cannot be used, or gives the container the
// device, for a probe inside: what this process may do with it says little about
// what one in the container may.
func probeContainerKVM(cmd *container.Cmd, local bool) string {
	if local {
		err := qemu.ProbeKVM()
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err.Error()
		}
		if gid, ok := groupOf(kvmDevice); ok && !strings.HasPrefix(cmd.User, "0:") {
			user, _, _ := strings.Cut(cmd.User, ":")
			cmd.User = fmt.Sprintf("%s:%d", user, gid)
		}
	}
	cmd.Devices = []string{kvmDevice}
	return ""
}

// begin creates the container, brings the artifacts in where the engine cannot
// see them, and starts it.
func (p Container) begin(ctx context.Context, cmd *container.Cmd, need Need, local bool) (container.Container, error) {
	box, err := p.Engine.Create(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if !local {
		err = copyIn(ctx, box, need)
	}
	if err == nil {
		// The end of ctx would kill it: a disk that was written to is checked after that.
		err = box.Start(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, box.Remove(ctx))
	}
	return box, nil
}

// copyIn copies the needed files into the container. Compressed: most of an
// image is nothing, and the engine may be far away.
func copyIn(ctx context.Context, box container.Container, need Need) error {
	return reading.Pipe(func(w io.Writer) error {
		zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		return errors.Join(writeTar(zw, need), zw.Close())
	}, func(r io.Reader) error { return box.CopyIn(ctx, "/", r) })
}

func writeTar(w io.Writer, need Need) error {
	tw := tar.NewWriter(w)
	dir := strings.TrimPrefix(containerDir, "/")
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
		return err
	}
	for _, name := range need.Files {
		if err := addFile(tw, filepath.Join(need.Dir, name), dir+"/"+name); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
	}
	return tw.Close()
}

func addFile(tw *tar.Writer, from, name string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return addDir(tw, f, from, name)
	}
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

func addDir(tw *tar.Writer, f *os.File, from, name string) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		if err := addFile(tw, filepath.Join(from, e.Name()), name+"/"+e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// containerRunner runs programs in the container box. Their sockets are relayed
// to Unix sockets of the same names in dir, each connection by a socat in the
// container: that works wherever the engine is.
type containerRunner struct {
	box   container.Container
	dir   *runDir
	keep  io.Closer       // its end is the container's
	index *index          // nil: none
	ctx   context.Context // the relays', which outlive the calls that set them up
	stop  context.CancelFunc

	mu     sync.Mutex
	relays map[string]net.Listener
}

func (r *containerRunner) start(ctx context.Context, p program) (func() error, error) {
	cmd := &container.ExecCmd{Args: p.Args, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr}
	restore := func() {}
	if screen := terminal.Of(p.Stdin); p.Person && screen.Is() {
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
		err := r.box.Exec(ctx, cmd)
		restore()
		ended <- err
	}()
	return sync.OnceValue(func() error { return <-ended }), nil
}

func (r *containerRunner) local(_ context.Context, socket string) (string, error) {
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

// indexDelay is when gdb's index is made, for the next time: it takes a processor for a
// second or more, and the guest and the first gdb come first.
const indexDelay = 10 * time.Second

// fillIndex makes gdb's index of vmlinux.
func (r *containerRunner) fillIndex(site *Site) {
	select {
	case <-time.After(indexDelay):
		args := append([]string{"nice", "gdb", "-nx", "-nh", "-q", "-batch", "-iex", "set debuginfod enabled off",
			"-iex", "set auto-load no"}, gdb.IndexArgs(containerIndex)...)
		r.box.Exec(r.ctx, &container.ExecCmd{Args: append(args, site.Path(artifact.Vmlinux))}) // an error means no index
	case <-r.ctx.Done():
	}
}

// relay connects a connection with a socket in the container. The end of one
// direction is passed on and leaves the other open (-t: for a day).
func (r *containerRunner) relay(conn *net.UnixConn, socket string) {
	defer conn.Close()
	args := []string{"socat", "-t86400", "-", "UNIX-CONNECT:" + socket + ",retry=3000,interval=0.02"}
	// An error means that a side went away, which the connection's end tells.
	r.box.Exec(r.ctx, &container.ExecCmd{Args: args, Stdin: conn, Stdout: conn})
}

// endScript kills QEMU until there is none. One that is a zombie has no words any more,
// and has closed its files.
const endScript = `while found=$(grep -lszx '[q]emu-system-x86_64' /proc/[0-9]*/cmdline); do
	for p in $found; do
		p=${p#/proc/}
		kill -KILL "${p%/cmdline}" 2>/dev/null
	done
	sleep 0.05
done`

// end kills QEMU, which the end of its context has only let go of: an engine has no way
// to end one program of a container. What else runs there writes to nothing.
func (r *containerRunner) end(ctx context.Context) error {
	if err := r.box.Exec(ctx, &container.ExecCmd{Args: []string{"sh", "-c", endScript}}); err != nil {
		return fmt.Errorf("end QEMU: %w", err)
	}
	return nil
}

func (r *containerRunner) close(ctx context.Context) error {
	r.stop()
	r.mu.Lock()
	for _, l := range r.relays {
		l.Close()
	}
	r.mu.Unlock()
	r.keep.Close()
	var err error
	if r.box != nil {
		err = r.box.Remove(ctx)
	}
	r.index.close()
	return errors.Join(err, r.dir.remove())
}

// probeScript runs QEMU on KVM with a BIOS that counts down from 20 million, as
// the host's probe does, and writes 16 to the exit device: QEMU ends with 16*2+1.
// The code is at 0xff00, and at the reset vector, 0xfff0, a jump to it.
const probeScript = `bios=$0/probe.bin
{
	head -c 65280 /dev/zero
	printf '\146\271\000\055\061\001\146\111\165\374\272\001\005\260\020\356\364'
	head -c 223 /dev/zero
	printf '\351\015\377'
	head -c 13 /dev/zero
} >"$bios" &&
timeout 5 qemu-system-x86_64 -accel kvm -cpu max,la57=off -M pc -no-user-config -nodefaults -display none \
	-bios "$bios" -device isa-debug-exit,iobase=0x501,iosize=1
[ $? = 33 ]`

// probe says why KVM cannot be used in the container, or nothing.
func (r *containerRunner) probe(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var said strings.Builder
	err := r.box.Exec(ctx, &container.ExecCmd{Args: []string{"sh", "-c", probeScript, containerRun}, Stderr: &said})
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	if line == "" {
		line = "an instruction did not run on KVM in the container"
	}
	return line
}

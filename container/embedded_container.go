package container

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/user"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sandbox"
)

// defaultPath is Docker's for images that say nothing.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// embeddedContainer is a Container of the embedded engine's. Its sandbox is there from Create on.
type embeddedContainer struct {
	eng  *embedded
	cmd  *Cmd
	dir  *claim
	uses []*claim // the image and the volumes
	box  *sandbox.Sandbox
	home string // HOME of the command's user

	mu      sync.Mutex
	job     *job // the command, once it was started
	ended   bool // it has ended, and all else with it
	removed bool // or is being removed
}

func (e *embedded) Create(ctx context.Context, cmd *Cmd) (_ Container, err error) {
	doing := "create container of " + cmd.Image
	if err := errors.Join(ctx.Err(), cmd.check()); err != nil {
		return nil, fault(ctx, doing, err)
	}
	c := &embeddedContainer{eng: e, cmd: cmd}
	if err := c.create(ctx); err != nil {
		return nil, errors.Join(fault(ctx, doing, err), c.Remove(ctx))
	}
	return c, nil
}

func (c *embeddedContainer) create(ctx context.Context) (err error) {
	e, cmd := c.eng, c.cmd
	_, image, err := e.useImage(ctx, cmd.Image)
	if err != nil {
		return err
	}
	c.uses = append(c.uses, image)
	if c.dir, err = e.claim(containers); err != nil {
		return err
	}
	cfg := sandbox.Config{
		IDs: e.ids, Root: filepath.Join(image.path, rootDir), ReadOnly: cmd.ReadOnly, Hostname: cmd.Hostname,
		Tmpfs: cmd.Tmpfs, Devices: cmd.Devices,
	}
	who, err := findUser(cfg.Root, cmd.User)
	if err != nil {
		return err
	}
	c.home = who.Home
	if e.ids.One() {
		cfg.IDs = sandbox.OneID(who.Uid, who.Gid)
	}
	for _, m := range cmd.Mounts {
		to := sandbox.Mount{Source: m.Bind, Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Volume != "" {
			if to.Source, err = c.volume(ctx, m.Volume); err != nil {
				return err
			}
			to.Fill = true
		} else if _, err := os.Stat(m.Bind); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		cfg.Mounts = append(cfg.Mounts, to)
	}
	if layer := filepath.Join(c.dir.path, layerDir); !cmd.ReadOnly && e.overlay {
		cfg.Layer = layer
		err = os.Mkdir(layer, 0o700)
	} else if !cmd.ReadOnly {
		err = sandbox.Copy(ctx, e.ids, cfg.Root, layer)
		cfg.Root = layer
	}
	if err != nil {
		return err
	}
	if !cmd.ReadOnly {
		names, err := c.names()
		if err != nil {
			return err
		}
		cfg.Mounts = append(names, cfg.Mounts...)
	}
	c.box, err = sandbox.Start(ctx, cfg)
	return err
}

// names lays the files that tell programs the names of hosts, as other engines do: debootstrap, for one, has them in
// its tree while packages are configured, and postfix's then write the host's name down.
func (c *embeddedContainer) names() (mounts []sandbox.Mount, err error) {
	for _, f := range []struct{ name, text string }{
		{"hostname", c.hostname() + "\n"},
		{"hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	} {
		file := filepath.Join(c.dir.path, f.name)
		if err := os.WriteFile(file, []byte(f.text), 0o644); err != nil {
			return nil, err
		}
		mounts = append(mounts, sandbox.Mount{Source: file, Target: "/etc/" + f.name})
	}
	return mounts, nil
}

func (c *embeddedContainer) hostname() string { return cmp.Or(c.cmd.Hostname, "kimg") }

// volume shares a volume, which is made where it is missing, and returns its directory.
func (c *embeddedContainer) volume(ctx context.Context, name string) (string, error) {
	path, err := c.eng.volumePath(name)
	if err != nil {
		return "", err
	}
	for {
		v, err := c.eng.use(ctx, path)
		if err == nil {
			c.uses = append(c.uses, v)
			return filepath.Join(path, dataDir), nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = c.eng.ensureVolume(ctx, name, false)
		}
		if err != nil {
			return "", err
		}
	}
}

// findUser reads what an image knows of a user, "uid[:gid]" or names; empty: root.
func findUser(root, name string) (*user.ExecUser, error) {
	in, err := os.OpenRoot(root) // links of an image lead to nothing outside
	if err != nil {
		return nil, err
	}
	defer in.Close()
	read := func(name string) io.Reader {
		b, _ := reading.SmallIn(in, name, 1<<20) // an image need not have it
		return strings.NewReader(string(b))
	}
	return user.GetExecUser(name, &user.ExecUser{Home: "/"}, read("etc/passwd"), read("etc/group"))
}

func (c *embeddedContainer) CopyIn(ctx context.Context, dir string, tar io.Reader) error {
	body := acquire(tar)
	defer body.release()
	err := c.there(ctx)
	if err == nil {
		var plain io.ReadCloser
		if plain, err = plainTar(reading.Until(ctx, body)); err == nil {
			err = errors.Join(c.box.Unpack(ctx, dir, plain), plain.Close())
		}
	}
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad
	}
	return fault(ctx, "copy into "+dir, err)
}

var errGone = errors.New("the container is gone")

// there says why nothing can be done with the container.
func (c *embeddedContainer) there(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return errGone
	}
	return ctx.Err()
}

func (c *embeddedContainer) CopyOut(ctx context.Context, path string) (io.ReadCloser, error) {
	doing := "copy out " + path
	if err := c.there(ctx); err != nil {
		return nil, fault(ctx, doing, err)
	}
	r, w := io.Pipe()
	work, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := c.box.Pack(work, path, w)
		w.CloseWithError(fault(ctx, doing, err))
	}()
	out := &copyOut{bufio.NewReaderSize(r, pieceSize), func() error {
		cancel()
		err := r.Close()
		<-done
		return err
	}}
	if _, err := out.Peek(1); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// copyOut is a tar that is being written.
type copyOut struct {
	*bufio.Reader
	close func() error
}

func (c *copyOut) Close() error { return c.close() }

// process is one of the container's, without its streams.
func (c *embeddedContainer) process(args, env []string, dir, user string, tty bool) sandbox.Process {
	all := []string{defaultPath, "HOSTNAME=" + c.hostname(), "HOME=" + c.home}
	if tty {
		all = append(all, "TERM=xterm")
	}
	caps := capNames(c.cmd.Caps)
	if c.cmd.Namespaces { // over the sandbox's own, and to take that from what it starts
		caps = capNames(append(caps, "SYS_ADMIN", "SETPCAP"))
	}
	return sandbox.Process{Args: args, Dir: dir, User: user, Caps: caps, Privileged: c.cmd.Privileged,
		Env: lastOfEach(slices.Concat(all, c.cmd.Env, env))}
}

// lastOfEach leaves one value of each variable: C programs look at the first one.
func lastOfEach(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if n, ok := at[name]; ok {
			out[n] = v
			continue
		}
		at[name] = len(out)
		out = append(out, v)
	}
	return out
}

func (c *embeddedContainer) Start(ctx context.Context) error {
	doing := "start " + c.cmd.Args[0]
	if err := c.there(ctx); err != nil {
		return fault(ctx, doing, err)
	}
	p := c.process(c.cmd.Args, nil, c.cmd.Dir, c.cmd.User, c.cmd.TTY)
	j, err := startJob(ctx, c.box, p, streams{stdin: c.cmd.Stdin, stdout: c.cmd.Stdout, stderr: c.cmd.Stderr,
		tty: c.cmd.TTY, resize: c.cmd.Resize}, c.box.KillAll)
	if err != nil {
		return fault(ctx, doing, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.job = j
	return nil
}

func (c *embeddedContainer) Wait() error {
	c.mu.Lock()
	j := c.job
	c.mu.Unlock()
	if j == nil {
		return errors.New("wait for a container that was not started")
	}
	status, err := j.wait(c.end)
	if err != nil {
		return fmt.Errorf("run %s: %w", c.cmd.Args[0], err)
	}
	if status != 0 {
		return &ExitError{Code: status}
	}
	return nil
}

// end has everything in the container end with its command.
func (c *embeddedContainer) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.removed {
		return errRemoved
	}
	return c.box.KillAll()
}

func (c *embeddedContainer) Exec(ctx context.Context, cmd *ExecCmd) error {
	if len(cmd.Args) == 0 {
		return errors.New("exec: a command needs arguments")
	}
	doing := "exec " + cmd.Args[0]
	j, err := c.exec(ctx, cmd)
	if err != nil {
		return fault(ctx, doing, err)
	}
	status, err := j.wait(func() error { return nil })
	if err == nil && status != 0 {
		return &ExitError{Code: status}
	}
	return fault(ctx, doing, err)
}

func (c *embeddedContainer) exec(ctx context.Context, cmd *ExecCmd) (*job, error) {
	user, dir := cmd.User, cmd.Dir
	if user == "" {
		user = c.cmd.User
	}
	if dir == "" {
		dir = c.cmd.Dir
	}
	p := c.process(cmd.Args, cmd.Env, dir, user, cmd.TTY)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.job == nil || c.ended || c.removed {
		return nil, errors.New("the container does not run")
	}
	return startJob(ctx, c.box, p, streams{stdin: cmd.Stdin, stdout: cmd.Stdout, stderr: cmd.Stderr,
		tty: cmd.TTY, resize: cmd.Resize}, nil)
}

func (c *embeddedContainer) Remove(ctx context.Context) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil
	}
	c.removed = true
	if c.job != nil {
		c.job.fail(errRemoved) // for a Wait that is under way, or was never called
	}
	if c.box != nil {
		err = c.box.Close()
	}
	if c.job != nil {
		c.job.close()
	}
	if c.dir != nil {
		err = errors.Join(err, c.eng.drop(ctx, c.dir))
	}
	for _, used := range c.uses {
		used.release()
	}
	return err
}

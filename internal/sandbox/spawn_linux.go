package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// argv0 has a program that is executed with it become pid 1 of a sandbox, or a helper for trees.
const argv0 = "kimg-sandbox"

// link leads to a process of this program in namespaces of its own, which works on jobs.
type link struct {
	ids     IDs
	control *net.UnixConn // each byte brings a connection with a job; its end is the process's end
	process *os.Process
	stderr  *tail
	ended   chan struct{}
}

// errEnded is why there is no answer.
var errEnded = errors.New("the sandbox has ended")

// spawn starts this program again in a new user namespace and those of flags.
func spawn(ctx context.Context, ids IDs, flags uintptr) (*link, error) {
	control, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe")
	// Its argument is for the eyes of who looks at ps.
	cmd.Args, cmd.Env, cmd.Dir = []string{argv0, strconv.Itoa(os.Getpid())}, []string{}, "/"
	cmd.ExtraFiles = []*os.File{theirs}
	l := &link{ids: ids, control: control, stderr: &tail{}, ended: make(chan struct{})}
	cmd.Stderr = l.stderr
	caps, err := allCaps()
	if err != nil {
		control.Close()
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | flags,
		Setsid:     true, // Ctrl-C is for this process alone, and the terminal nobody's there
		Pdeathsig:  syscall.SIGKILL,
		// An exec by another id than 0, or before ids are mapped, would lose every capability.
		AmbientCaps: caps,
	}
	if ids.One() { // os writes it before the exec
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = sysMap(ids.UIDs), sysMap(ids.GIDs)
	}
	started := make(chan error)
	go func() {
		// PDEATHSIG is sent when the thread that cloned ends: this one lives as long as its child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		l.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed: its status says nothing
			close(l.ended)
		}
	}()
	if err := <-started; err != nil {
		control.Close()
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	if !ids.One() {
		if err := mapIDs(ctx, l.process.Pid, ids); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func sysMap(list []Range) []syscall.SysProcIDMap {
	var m []syscall.SysProcIDMap
	for _, r := range list {
		m = append(m, syscall.SysProcIDMap{ContainerID: int(r.Inside), HostID: int(r.Outside), Size: int(r.Size)})
	}
	return m
}

// mapIDs has the set-uid programs of shadow write the maps of a process.
func mapIDs(ctx context.Context, pid int, ids IDs) error {
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, m := range []struct {
		prog string
		list []Range
	}{{"newuidmap", ids.UIDs}, {"newgidmap", ids.GIDs}} {
		both.Go(func() {
			args := []string{strconv.Itoa(pid)}
			for _, r := range m.list {
				for _, n := range []uint32{r.Inside, r.Outside, r.Size} {
					args = append(args, strconv.FormatUint(uint64(n), 10))
				}
			}
			if out, err := exec.CommandContext(ctx, m.prog, args...).CombinedOutput(); err != nil {
				out = bytes.TrimSpace(out)
				errs[i] = fmt.Errorf("map ids: %s %s: %w: %s", m.prog, strings.Join(args, " "), err, out)
			}
		})
	}
	both.Wait()
	return errors.Join(errs...)
}

// close ends the process, and all others of its pid namespace, and returns when they are gone.
func (l *link) close() {
	l.control.Close()
	_ = l.process.Kill()
	<-l.ended
}

// begin sends a job and returns the connection for its replies.
func (l *link) begin(j job, files ...*os.File) (*wire, error) {
	c, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	_, _, err = l.control.WriteMsgUnix([]byte{0}, unix.UnixRights(int(theirs.Fd())), nil)
	w := newWire(c)
	if err == nil {
		j.IDs = l.ids
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd())) // which has it block, as a program expects of its streams
		}
		err = w.send(j, fds...)
		runtime.KeepAlive(files)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", j.Op, l.why(err))
	}
	return w, nil
}

// call sends a job and waits for its end, or for that of ctx.
func (l *link) call(ctx context.Context, j job, files ...*os.File) error {
	w, err := l.begin(j, files...)
	if err != nil {
		return err
	}
	defer w.Close()
	defer context.AfterFunc(ctx, func() { w.Close() })()
	var r reply
	if _, err := w.receive(&r); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s: %w", j.Op, l.why(err))
	}
	return r.err()
}

// why returns what a connection's error means: nothing but the end of the process breaks one.
func (l *link) why(err error) error {
	if said := l.stderr.String(); said != "" {
		return fmt.Errorf("%w (%v): %s", errEnded, err, said)
	}
	return errEnded
}

// tail keeps the end of what was written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if n := len(t.b) - 4096; n > 0 {
		t.b = append([]byte(nil), t.b[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}

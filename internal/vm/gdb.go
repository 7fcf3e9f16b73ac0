package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// debugger is a gdb that a program drives, by GDB/MI: gdb says in records of
// their own what happened, so nothing that a guest or a vmlinux prints can pass
// for it. (No Go library for it is kept and to be had.)
type debugger struct {
	in    io.Writer
	done  chan struct{} // closed when gdb has ended
	err   error         // how; read it after done
	stops chan miRecord // "*stopped" and "*running"

	mu      sync.Mutex
	token   int
	waiting map[string]chan miRecord
	said    []byte // the console's text of the command that runs
	log     strings.Builder
}

// gdbLog bounds the transcript, in bytes.
const gdbLog = 1 << 20

// gdbArgs starts a gdb that reads no file of anybody's but the kernel's own
// scripts, and asks nothing of anybody.
func gdbArgs(site *Site) []string {
	args := append([]string{"gdb", "-nx", "-nh", "-q", "--interpreter=mi3"}, indexArgs(site.index)...)
	return append(args,
		"-iex", "set debuginfod enabled off",
		"-iex", "set auto-load local-gdbinit off",
		"-iex", "set auto-load safe-path "+site.Path(ScriptsFile)+":"+site.Path("scripts/gdb"),
		"-iex", "set confirm off", "-iex", "set pagination off", "-iex", "set width 0", "-iex", "set breakpoint pending off",
		// An expression is looked at: it must not run the kernel's functions.
		"-iex", "set may-call-functions off", "-iex", "set print null-stop on",
		site.Path(SymbolsFile))
}

// indexArgs has gdb use the index of vmlinux that is in a directory, or else write it there.
func indexArgs(dir string) []string {
	if dir == "" {
		return nil
	}
	return []string{"-iex", "set index-cache directory " + dir, "-iex", "set index-cache enabled on"}
}

// startGDB starts gdb at the site. The end of ctx ends it.
func startGDB(ctx context.Context, site *Site) (*debugger, error) {
	in, commands := io.Pipe()
	records, out := io.Pipe()
	d := &debugger{in: commands, done: make(chan struct{}), stops: make(chan miRecord, 16), waiting: map[string]chan miRecord{}}
	wait, err := site.run.start(ctx, program{Args: gdbArgs(site), Stdin: in, Stdout: out, Stderr: &logWriter{d}})
	if err != nil {
		return nil, err
	}
	go d.read(records)
	go func() {
		d.err = wait()
		out.Close()
		in.Close()
		close(d.done)
	}()
	return d, nil
}

type logWriter struct{ d *debugger }

func (w *logWriter) Write(p []byte) (int, error) {
	w.d.note("", string(p))
	return len(p), nil
}

// note adds to the transcript.
func (d *debugger) note(prefix, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.log.Len() < gdbLog {
		d.log.WriteString(prefix + text)
	}
}

// transcript is what gdb was told and said.
func (d *debugger) transcript() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// read takes gdb's records in until it ends.
func (d *debugger) read(from io.Reader) {
	lines := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			io.Copy(io.Discard, from)
			return
		}
		d.note("", line)
		r, err := parseMI(line)
		if err != nil {
			continue // not a record: gdb's Python prints as it likes
		}
		switch r.Kind {
		case '~':
			d.mu.Lock()
			if len(d.said) < gdbLog {
				d.said = append(d.said, r.Class...)
			}
			d.mu.Unlock()
		case '*':
			select {
			case d.stops <- r:
			default: // nobody waits for that many
			}
		case '^':
			d.mu.Lock()
			ch := d.waiting[r.Token]
			delete(d.waiting, r.Token)
			d.mu.Unlock()
			if ch != nil {
				ch <- r
			}
		}
	}
}

// gone tells of a gdb that ended when it should not have.
func (d *debugger) gone() error {
	<-d.done
	return &GDBError{d.err}
}

// do runs an MI command and returns what it answered and what it printed.
func (d *debugger) do(ctx context.Context, command string) (miTuple, string, error) {
	answer := make(chan miRecord, 1)
	d.mu.Lock()
	d.token++
	token := strconv.Itoa(d.token)
	d.waiting[token] = answer
	d.said = nil
	d.mu.Unlock()
	d.note("> ", command+"\n")
	if _, err := io.WriteString(d.in, token+command+"\n"); err != nil {
		return nil, "", d.gone()
	}
	select {
	case r := <-answer:
		d.mu.Lock()
		said := string(d.said)
		d.mu.Unlock()
		if r.Class == "error" {
			return nil, said, &miError{Command: command, Msg: r.Data.text("msg")}
		}
		return r.Data, said, nil
	case <-d.done:
		return nil, "", d.gone()
	case <-ctx.Done():
		return nil, "", context.Cause(ctx)
	}
}

// attach connects to the stub of a QEMU that may only just be starting. The end
// of ctx, which the end of QEMU should bring, ends the trying.
func (d *debugger) attach(ctx context.Context, socket string) error {
	for {
		_, _, err := d.do(ctx, "-target-select remote "+socket)
		var refused *miError
		if err == nil || !errors.As(err, &refused) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.done:
			return d.gone()
		case <-ctx.Done():
			return fmt.Errorf("attach: %w: %w", context.Cause(ctx), err)
		}
	}
}

// resume lets the guest run until it stops.
func (d *debugger) resume(ctx context.Context) (miTuple, error) {
	if err := d.proceed(ctx); err != nil {
		return nil, err
	}
	stopped, _, err := d.awaitStop(ctx, nil)
	return stopped, err
}

// proceed lets the guest run.
func (d *debugger) proceed(ctx context.Context) error {
	for len(d.stops) > 0 {
		<-d.stops
	}
	_, _, err := d.do(ctx, "-exec-continue")
	return err
}

// awaitStop waits until the guest stops, or the command ends that makes it.
func (d *debugger) awaitStop(ctx context.Context, ended <-chan commandEnd) (miTuple, *commandEnd, error) {
	for {
		select {
		case r := <-d.stops:
			if r.Class == "stopped" {
				return r.Data, nil, nil
			}
		case e := <-ended:
			return nil, &e, nil
		case <-d.done:
			return nil, nil, d.gone()
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// breakpoint is one that was set.
type breakpoint struct {
	Number    string
	Locations int
	Fullname  string // of the first location's source
}

// find is setBreak for a place that may not be there: then it is a *NoBreakError.
// The breakpoint is not kept.
func (d *debugger) find(ctx context.Context, kernel *symbols, at string) (breakpoint, error) {
	b, err := d.setBreak(ctx, at, false)
	var refused *miError
	if errors.As(err, &refused) {
		return b, &NoBreakError{Break: at, Near: kernel.near(at), Msg: refused.Msg}
	}
	if err != nil {
		return b, err
	}
	return b, d.deleteBreak(ctx, b)
}

// setBreak sets a breakpoint, a hardware one where asked.
func (d *debugger) setBreak(ctx context.Context, at string, hardware bool) (breakpoint, error) {
	command := "-break-insert "
	if hardware {
		command += "-h "
	}
	data, _, err := d.do(ctx, command+miQuote(at))
	if err != nil {
		return breakpoint{}, err
	}
	bkpt, _ := data["bkpt"].(miTuple)
	b := breakpoint{Number: bkpt.text("number"), Locations: 1, Fullname: bkpt.text("fullname")}
	if list, ok := bkpt["locations"].([]any); ok && len(list) > 0 {
		b.Locations = len(list)
		if first, ok := list[0].(miTuple); ok {
			b.Fullname = first.text("fullname")
		}
	}
	return b, nil
}

func (d *debugger) deleteBreak(ctx context.Context, b breakpoint) error {
	_, _, err := d.do(ctx, "-break-delete "+b.Number)
	return err
}

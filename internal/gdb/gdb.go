// Package gdb drives a gdb that debugs a kernel: begin with [Start], or with
// [Session.Args] for one that a user drives. It also reads what a kernel's symbols say
// ([ReadSymbols]) and runs a halted guest to its first instruction ([RunStub]). Where
// gdb runs is up to the caller.
package gdb

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

// Debugger is a gdb that a program drives, by GDB/MI: nothing that a guest or a vmlinux prints can pass for a record.
// (There is no maintained Go library for it.) One goroutine at a time may use it.
type Debugger struct {
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

// Start has run start a gdb with the arguments of Args; wait returns when gdb has ended and its output was written.
func Start(run func(in io.Reader, out, errs io.Writer) (wait func() error, err error)) (*Debugger, error) {
	in, commands := io.Pipe()
	records, out := io.Pipe()
	d := &Debugger{
		in: commands, done: make(chan struct{}), stops: make(chan miRecord, 16), waiting: map[string]chan miRecord{},
	}
	wait, err := run(in, out, &logWriter{d})
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

type logWriter struct{ d *Debugger }

func (w *logWriter) Write(p []byte) (int, error) {
	w.d.note("", string(p))
	return len(p), nil
}

func (d *Debugger) note(prefix, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.log.Len() < gdbLog {
		d.log.WriteString(prefix + text)
	}
}

// Transcript is what gdb was told and what it said, up to a bound.
func (d *Debugger) Transcript() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// read takes gdb's records in until it ends.
func (d *Debugger) read(from io.Reader) {
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
			default: // nothing waits for that many
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

// gone is the error of a gdb that ended when it should not have.
func (d *Debugger) gone() error {
	<-d.done
	return &EndedError{d.err}
}

// do runs an MI command and returns what it answered and what it printed.
func (d *Debugger) do(ctx context.Context, command string) (miTuple, string, error) {
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

// Attach connects to the gdb stub of a QEMU that may only just be starting, until ctx ends.
func (d *Debugger) Attach(ctx context.Context, socket string) error {
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

// Proceed lets the guest run.
func (d *Debugger) Proceed(ctx context.Context) error {
	return d.resume(ctx, "-exec-continue")
}

// Stop is why the guest stopped.
type Stop struct{ reason, signal, breakpoint string }

// AwaitStop waits until the guest stops, or ended is closed: then it returns nil.
func (d *Debugger) AwaitStop(ctx context.Context, ended <-chan struct{}) (*Stop, error) {
	for {
		select {
		case r := <-d.stops:
			if r.Class == "stopped" {
				return &Stop{r.Data.text("reason"), r.Data.text("signal-meaning"), r.Data.text("bkptno")}, nil
			}
		case <-ended:
			return nil, nil
		case <-d.done:
			return nil, d.gone()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Release detaches from the guest, which runs on, and ends gdb.
func (d *Debugger) Release(ctx context.Context) error {
	if _, _, err := d.do(ctx, "-target-detach"); err != nil {
		return err
	}
	return d.Exit(ctx)
}

// Exit ends a gdb that is not attached.
func (d *Debugger) Exit(ctx context.Context) error {
	_, _, err := d.do(ctx, "-gdb-exit")
	return err
}

// EndedError says that gdb ended with a status other than zero, or although it was still needed.
type EndedError struct{ Err error }

func (e *EndedError) Error() string {
	if e.Err == nil {
		return "gdb ended by itself"
	}
	return fmt.Sprintf("gdb ended: %v", e.Err)
}

func (e *EndedError) Unwrap() error { return e.Err }

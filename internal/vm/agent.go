package vm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/terminal"
)

// protocol is the version of package guest's protocol that this host speaks.
const protocol = "1"

// restsLine is what an agent says, before it is ready, that can get its guest ready to be kept.
const restsLine = "can rest"

// port is the host's end of a virtio-serial port.
type port interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// agent is the host's side of the guest's agent. Its lines end when the guest does.
type agent struct {
	control port
	lines   chan string
	rests   bool  // it can get the guest ready to be kept
	fault   error // why the lines ended, where that is known; read it after their end
	closed  chan struct{}
	once    sync.Once
}

func newAgent(control port) *agent {
	a := &agent{control: control, lines: make(chan string), closed: make(chan struct{})}
	go func() {
		defer close(a.lines)
		for line, err := range reading.Lines(control, maxLine) {
			var tooLong *reading.LongLineError
			if errors.As(err, &tooLong) {
				a.fault = &GuestError{What: fmt.Sprintf("the guest's agent broke its protocol: %v", err)}
			}
			if err != nil {
				return
			}
			select {
			case a.lines <- line:
			case <-a.closed:
				return
			}
		}
	}()
	return a
}

func (a *agent) close() {
	a.once.Do(func() { close(a.closed) })
	a.control.Close()
}

// gone is why the lines ended.
func (a *agent) gone() error { return cmp.Or(a.fault, errGone) }

// awaitReady waits for the agent, or for an interrupt. What went wrong in the guest before is a *GuestError.
func (a *agent) awaitReady(ctx context.Context, interrupt <-chan os.Signal) error {
	var faults []error
	for {
		select {
		case line, ok := <-a.lines:
			if !ok {
				return a.gone()
			}
			if fault, ok := strings.CutPrefix(line, "fault "); ok && len(faults) < maxFaults {
				what := fmt.Sprintf("the guest could not %.*s", maxFault, terminal.Plain(fault))
				faults = append(faults, &GuestError{What: what})
			}
			a.rests = a.rests || line == restsLine
			if version, ok := strings.CutPrefix(line, "ready "); ok {
				if version != protocol {
					return fmt.Errorf("talk to the guest's agent: it speaks version %.20q, this kimg %s: "+
						"build the image again", version, protocol)
				}
				return errors.Join(faults...)
			}
		case <-interrupt:
			return ErrInterrupted
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitLine waits for a line that is one of the answers, or begins with one that ends in a space.
func (a *agent) awaitLine(ctx context.Context, interrupt <-chan os.Signal, answers ...string) (string, error) {
	for {
		select {
		case line, ok := <-a.lines:
			if !ok {
				return "", a.gone()
			}
			for _, answer := range answers {
				if line == answer || strings.HasSuffix(answer, " ") && strings.HasPrefix(line, answer) {
					return line, nil
				}
			}
		case <-interrupt:
			return "", ErrInterrupted
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// The bounds of a line on a guest's port, in bytes, and of the faults that are reported, in number and characters.
const (
	maxLine   = 1 << 20
	maxFaults = 8
	maxFault  = 1000
)

func (a *agent) say(format string, args ...any) error {
	_, err := fmt.Fprintf(a.control, format+"\n", args...)
	return err
}

type command struct {
	script         string
	stdin          io.Reader
	stdout, stderr io.Writer
	interrupt      <-chan os.Signal // the first goes to the command, the second ends the guest
	silence        time.Duration    // how long the agent may not answer before the guest counts as hung
	late           time.Duration    // how long the guest may keep back the last of the output; 0: outputLimit
}

// outputLimit is how long the guest may keep back the end of a command's output; the user may take any time.
const outputLimit = 30 * time.Second

// run runs a command with the ports as its stdin, stdout and stderr and returns its exit status.
func (a *agent) run(ctx context.Context, c command, ports []port) (int, error) {
	stdin, stdout, stderr := ports[0], ports[1], ports[2]
	mark := "kimg-end-" + rand.Text()
	go feed(stdin, c.stdin)
	copied := make(chan error, 2)
	streams := [2]*awaited{{from: stdout}, {from: stderr}}
	for i, to := range []io.Writer{c.stdout, c.stderr} {
		go func() {
			defer streams[i].since.Store(ended)
			copied <- copyUntil(to, streams[i], mark)
		}()
	}
	script := base64.StdEncoding.EncodeToString([]byte(c.script))
	if err := a.say("run %s %s", mark, script); err != nil {
		return 0, errGone
	}
	const interval = 5 * time.Second
	ping := time.NewTicker(min(interval, c.silence/4))
	defer ping.Stop()
	heard, limit := time.Now(), cmp.Or(c.late, outputLimit)
	status, left, interrupts := -1, 2, 0
	var late <-chan time.Time
	for status < 0 || left > 0 {
		select {
		case line, ok := <-a.lines:
			if !ok {
				return 0, a.gone()
			}
			heard = time.Now()
			if n, ok := strings.CutPrefix(line, "exit "); ok {
				v, err := strconv.ParseUint(n, 10, 8)
				if err != nil {
					return 0, fmt.Errorf("talk to the guest's agent: it said %.40q", line)
				}
				status, late = int(v), time.After(limit)
			}
		case err := <-copied:
			if err != nil {
				return 0, err
			}
			left--
		case <-ping.C:
			if streams[0].held() || streams[1].held() { // the agent itself may wait for room
				heard = time.Now()
			}
			if time.Since(heard) > c.silence {
				return 0, errSilent
			}
			a.say("ping")
		case <-c.interrupt:
			if interrupts++; interrupts > 1 {
				return 0, ErrInterrupted
			}
			a.say("signal INT")
		case <-late:
			waited := max(streams[0].waited(), streams[1].waited())
			if waited >= limit {
				return 0, errors.New("the end of the command's output did not come")
			}
			late = time.After(limit - waited)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return status, nil
}

// awaited knows which side of a stream is waited for: the guest during a Read, the reader between two.
type awaited struct {
	from  io.Reader
	since atomic.Int64 // when the Read began, by clock; 0: there is none; ended: there will be none
}

const ended = -1

var started = time.Now()

// clock is a time that the user cannot set, and never 0.
func clock() int64 { return int64(time.Since(started)) + 1 }

func (a *awaited) Read(p []byte) (int, error) {
	a.since.Store(clock())
	defer a.since.Store(0)
	return a.from.Read(p)
}

// waited is how long the reader has been waiting for the guest.
func (a *awaited) waited() time.Duration {
	if since := a.since.Load(); since > 0 {
		return time.Duration(clock() - since)
	}
	return 0
}

// held says whether the guest is waiting for the reader.
func (a *awaited) held() bool { return a.since.Load() == 0 }

// feed is the host's half of a command's stdin. That the command ends before it has read everything is no error.
func feed(to port, from io.Reader) {
	if _, err := io.WriteString(to, "\n"); err != nil {
		return
	}
	if from != nil {
		io.Copy(to, from)
	}
	to.CloseWrite()
}

// copyUntil copies until mark. The end of the reader is no error: that of the guest is reported elsewhere.
func copyUntil(to io.Writer, from io.Reader, mark string) error {
	if to == nil {
		to = io.Discard
	}
	var held []byte // the beginning of a mark, perhaps
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		data := append(held, buf[:n]...)
		end, found := bytes.Index(data, []byte(mark)), true
		if end < 0 {
			end, found = len(data)-overlap(data, mark), err != nil
			if err != nil {
				end = len(data)
			}
		}
		if end > 0 {
			if _, err := to.Write(data[:end]); err != nil {
				return fmt.Errorf("write the command's output: %w", err)
			}
		}
		if found {
			return nil
		}
		held = append([]byte(nil), data[end:]...)
	}
}

// overlap is the length of the longest end of data that mark begins with.
func overlap(data []byte, mark string) int {
	for n := min(len(data), len(mark)-1); n > 0; n-- {
		if string(data[len(data)-n:]) == mark[:n] {
			return n
		}
	}
	return 0
}

// Script is a shell script that becomes the command argv, for the agent to run.
func Script(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return "exec " + strings.Join(quoted, " ") + "\n"
}

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Monitor is a connection to QEMU's [QMP] socket for several commands, one after the other, and for QEMU's events. A
// command whose answer was given up ends it.
type Monitor struct {
	conn   net.Conn
	to     *json.Encoder
	events chan Event
	answer chan qmpMessage
	done   chan struct{} // closed when QEMU's side ended
	err    error         // why it ended
	once   sync.Once
}

// Event is one of QEMU's.
type Event struct {
	Name string
	Data struct {
		Reason string `json:"reason"` // of a SHUTDOWN: guest-reset, guest-shutdown, guest-panic
		Guest  bool   `json:"guest"`
	}
}

// errClosed says that QEMU ended, or closed the connection.
var errClosed = errors.New("QEMU has closed its monitor, or speaks otherwise")

// eventRoom is how many events wait for a reader; more are dropped.
const eventRoom = 256

// OpenMonitor takes a new connection over. why, for an error, completes "tell QEMU to".
func OpenMonitor(ctx context.Context, conn net.Conn, why string) (*Monitor, error) {
	m := &Monitor{conn: conn, to: json.NewEncoder(conn), events: make(chan Event, eventRoom),
		answer: make(chan qmpMessage, 1), done: make(chan struct{})}
	greeted := make(chan struct{})
	go m.read(greeted)
	limited, cancel := context.WithTimeoutCause(ctx, StartLimit, fmt.Errorf("no greeting in %v", StartLimit))
	defer cancel()
	err := m.wait(limited, greeted)
	if err == nil {
		err = m.do(limited, "qmp_capabilities", nil, nil)
	}
	if err != nil {
		m.Close()
		return nil, told(ctx, why, err)
	}
	return m, nil
}

// wait waits for what QEMU is to do.
func (m *Monitor) wait(ctx context.Context, what <-chan struct{}) error {
	select {
	case <-what:
		return nil
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// told says what QEMU was told in an error that is not the end of ctx.
func told(ctx context.Context, command string, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("tell QEMU to %s: %w", command, err)
}

func (m *Monitor) read(greeted chan<- struct{}) {
	defer close(m.done)
	bound := &io.LimitedReader{R: m.conn}
	from := json.NewDecoder(bound)
	for {
		bound.N = maxQMP
		var got struct {
			qmpMessage
			Event string          `json:"event"`
			Data  json.RawMessage `json:"data"`
		}
		if err := from.Decode(&got); err != nil {
			m.err = fmt.Errorf("%w (%w)", errClosed, err)
			return
		}
		switch {
		case got.Greeting != nil:
			if greeted != nil {
				close(greeted)
				greeted = nil
			}
		case got.Event != "":
			e := Event{Name: got.Event}
			_ = json.Unmarshal(got.Data, &e.Data) // an event of other data has no reason
			select {
			case m.events <- e:
			default:
			}
		case got.Return != nil || got.Error != nil:
			select {
			case m.answer <- got.qmpMessage:
			default: // nobody asked
			}
		}
	}
}

// Close ends the connection; QEMU runs on.
func (m *Monitor) Close() {
	m.once.Do(func() { m.conn.Close() })
	<-m.done
}

// Done is closed when QEMU's side of the connection ended.
func (m *Monitor) Done() <-chan struct{} { return m.done }

// Events are QEMU's, in their order.
func (m *Monitor) Events() <-chan Event { return m.events }

// Do runs a command, and waits as long as ctx lasts. arguments and answer may be nil.
func (m *Monitor) Do(ctx context.Context, command string, arguments, answer any) error {
	return told(ctx, command, m.do(ctx, command, arguments, answer))
}

// soon runs a command that QEMU answers at once.
func (m *Monitor) soon(ctx context.Context, command string, arguments, answer any) error {
	return m.within(ctx, answerLimit, command, arguments, answer)
}

// within is soon for a command that may take its time. One that is given up closes the monitor.
func (m *Monitor) within(ctx context.Context, limit time.Duration, command string, arguments, answer any) error {
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer in %v", limit))
	defer cancel()
	return told(ctx, command, m.do(limited, command, arguments, answer))
}

func (m *Monitor) do(ctx context.Context, command string, arguments, answer any) error {
	// A QEMU that does not read is not waited for either.
	defer context.AfterFunc(ctx, func() { m.once.Do(func() { m.conn.Close() }) })()
	err := m.to.Encode(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil && ctx.Err() == nil {
		return errors.Join(errClosed, err)
	}
	select {
	case got := <-m.answer:
		return got.into(answer)
	case <-m.done:
	case <-ctx.Done():
	}
	select {
	case got := <-m.answer: // QEMU ended behind it
		return got.into(answer)
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return m.err
}

// into reads an answer; to may be nil.
func (m qmpMessage) into(to any) error {
	switch {
	case m.Error != nil:
		return errors.New(m.Error.Desc)
	case to == nil:
		return nil
	}
	return json.Unmarshal(m.Return, to)
}

// Human runs a command of the monitor for people. Most of them say nothing unless they fail: that is an error.
func (m *Monitor) Human(ctx context.Context, command string) error {
	var said string
	err := m.Do(ctx, "human-monitor-command", map[string]string{"command-line": command}, &said)
	if said = strings.TrimSpace(said); err == nil && said != "" {
		err = fmt.Errorf("tell QEMU to %s: %s", command, said)
	}
	return err
}

// ReplayState is how far a recording or a replay is.
type ReplayState struct {
	Mode   string `json:"mode"`
	Icount uint64 `json:"icount"` // instructions so far
}

// ReplayState asks for it.
func (m *Monitor) ReplayState(ctx context.Context) (s ReplayState, err error) {
	err = m.Do(ctx, "query-replay", nil, &s)
	return s, err
}

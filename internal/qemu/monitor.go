package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

// EventMonitor is a [Monitor] that hears QEMU's events, too: commands one after the other. A command whose answer was
// given up ends it.
type EventMonitor struct {
	conn   net.Conn
	to     *json.Encoder
	events chan Event
	answer chan qmpMessage
	done   chan struct{} // closed when QEMU's side ended
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
var errClosed = errors.New("QEMU has closed its monitor")

// eventRoom is how many events wait for a reader; more are dropped.
const eventRoom = 256

// NewEventMonitor greets the QEMU at the other end. Close closes conn.
func NewEventMonitor(ctx context.Context, conn net.Conn) (*EventMonitor, error) {
	m := &EventMonitor{conn: conn, to: json.NewEncoder(conn), events: make(chan Event, eventRoom),
		answer: make(chan qmpMessage, 1), done: make(chan struct{})}
	greeted := make(chan struct{})
	go m.read(greeted)
	ctx, cancel := context.WithTimeoutCause(ctx, StartLimit, errors.New("QEMU did not greet"))
	defer cancel()
	err := errClosed
	select {
	case <-greeted:
		err = m.Do(ctx, "qmp_capabilities", nil, nil)
	case <-m.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *EventMonitor) read(greeted chan struct{}) {
	defer close(m.done)
	from := json.NewDecoder(m.conn)
	for {
		var got struct {
			qmpMessage
			Event string          `json:"event"`
			Data  json.RawMessage `json:"data"`
		}
		if from.Decode(&got) != nil {
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
func (m *EventMonitor) Close() { m.once.Do(func() { m.conn.Close() }) }

// Done is closed when QEMU's side of the connection ended.
func (m *EventMonitor) Done() <-chan struct{} { return m.done }

// Events are QEMU's, in their order.
func (m *EventMonitor) Events() <-chan Event { return m.events }

// Do runs a command. arguments and answer may be nil.
func (m *EventMonitor) Do(ctx context.Context, command string, arguments, answer any) error {
	err := m.do(ctx, command, arguments, answer)
	if err != nil {
		return fmt.Errorf("tell QEMU to %s: %w", command, err)
	}
	return nil
}

func (m *EventMonitor) do(ctx context.Context, command string, arguments, answer any) error {
	if err := m.to.Encode(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments}); err != nil {
		return errors.Join(errClosed, err)
	}
	select {
	case got := <-m.answer:
		if got.Error != nil {
			return errors.New(got.Error.Desc)
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(got.Return, answer)
	case <-m.done:
		return errClosed
	case <-ctx.Done():
		m.Close()
		return context.Cause(ctx)
	}
}

// Human runs a command of the monitor for people. Most of them say nothing unless they fail: that is an error.
func (m *EventMonitor) Human(ctx context.Context, command string) error {
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
func (m *EventMonitor) ReplayState(ctx context.Context) (s ReplayState, err error) {
	err = m.Do(ctx, "query-replay", nil, &s)
	return s, err
}

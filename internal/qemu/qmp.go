package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// StartLimit is how long a QEMU may take to listen, and to greet; answerLimit how long to answer.
const (
	StartLimit  = 30 * time.Second
	answerLimit = 5 * time.Second
)

// maxQMP bounds what QEMU may send for one command, in bytes.
const maxQMP = 16 << 20

// qmpMessage is whatever QEMU sends: a greeting, an event, or an answer. (docs/interop/qmp-spec.rst of QEMU)
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// Execute runs one QMP command on a new connection to QEMU's [QMP] socket, which it closes, and returns QEMU's
// answer. arguments may be nil. The end of ctx ends the call, however QEMU behaves.
//
// A connection serves one command: one that was given up leaves an answer behind
// that would pass for the next one's.
func Execute(ctx context.Context, conn net.Conn, command string, arguments any) (answer json.RawMessage, err error) {
	m, err := OpenMonitor(ctx, conn, command)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.Do(ctx, command, arguments)
}

// Monitor is a connection to QEMU's [QMP] socket for several commands, one after the other. It is of no use after the
// first error.
type Monitor struct {
	conn net.Conn
	from *json.Decoder
	read *io.LimitedReader
	to   *json.Encoder
}

// OpenMonitor takes a new connection over. why, for an error, completes "tell QEMU to".
func OpenMonitor(ctx context.Context, conn net.Conn, why string) (*Monitor, error) {
	m := &Monitor{conn: conn, read: &io.LimitedReader{R: conn}, to: json.NewEncoder(conn)}
	m.from = json.NewDecoder(m.read)
	err := m.within(ctx, StartLimit, why, func() error {
		_, err := m.await(func(m qmpMessage) bool { return m.Greeting != nil })
		return err
	})
	if err == nil {
		_, err = m.ask(ctx, why, "qmp_capabilities", nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

// Close ends the connection.
func (m *Monitor) Close() { m.conn.Close() }

// Do runs a command. arguments may be nil. The end of ctx ends the call, however QEMU behaves.
func (m *Monitor) Do(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	return m.ask(ctx, command, command, arguments)
}

func (m *Monitor) ask(ctx context.Context, why, command string, arguments any) (answer json.RawMessage, err error) {
	err = m.within(ctx, answerLimit, why, func() error {
		if err := m.to.Encode(struct {
			Execute   string `json:"execute"`
			Arguments any    `json:"arguments,omitempty"`
		}{command, arguments}); err != nil {
			return err
		}
		said, err := m.await(func(m qmpMessage) bool { return m.Return != nil || m.Error != nil })
		answer = said.Return
		return err
	})
	return answer, err
}

// within ends do at the limit and with ctx.
func (m *Monitor) within(ctx context.Context, limit time.Duration, why string, do func() error) error {
	defer context.AfterFunc(ctx, func() { m.conn.Close() })()
	_ = m.conn.SetDeadline(time.Now().Add(limit)) // where it cannot be set, ctx still ends the call
	m.read.N = maxQMP
	err := do()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("tell QEMU to %s: no answer in %v", why, limit)
	}
	return fmt.Errorf("tell QEMU to %s: %w", why, err)
}

func (m *Monitor) await(is func(qmpMessage) bool) (said qmpMessage, err error) {
	for !is(said) { // what else comes is an event
		said = qmpMessage{}
		if err := m.from.Decode(&said); err != nil {
			return said, err
		}
	}
	if said.Error != nil {
		return said, errors.New(said.Error.Desc)
	}
	return said, nil
}

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
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	limit := StartLimit
	defer func() {
		switch {
		case err == nil:
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = fmt.Errorf("tell QEMU to %s: no answer in %v", command, limit)
		default:
			err = fmt.Errorf("tell QEMU to %s: %w", command, err)
		}
	}()
	from, to := json.NewDecoder(io.LimitReader(conn, maxQMP)), json.NewEncoder(conn)
	await := func(is func(qmpMessage) bool) (m qmpMessage, err error) {
		for !is(m) { // what else comes is an event
			m = qmpMessage{}
			if err := from.Decode(&m); err != nil {
				return m, err
			}
		}
		if m.Error != nil {
			return m, errors.New(m.Error.Desc)
		}
		return m, nil
	}
	ask := func(command string, arguments any) (json.RawMessage, error) {
		if err := to.Encode(struct {
			Execute   string `json:"execute"`
			Arguments any    `json:"arguments,omitempty"`
		}{command, arguments}); err != nil {
			return nil, err
		}
		m, err := await(func(m qmpMessage) bool { return m.Return != nil || m.Error != nil })
		return m.Return, err
	}
	_ = conn.SetDeadline(time.Now().Add(limit)) // where it cannot be set, ctx still ends the call
	if _, err := await(func(m qmpMessage) bool { return m.Greeting != nil }); err != nil {
		return nil, err
	}
	limit = answerLimit
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := ask("qmp_capabilities", nil); err != nil {
		return nil, err
	}
	return ask(command, arguments)
}

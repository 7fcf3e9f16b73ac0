package qemu

import (
	"context"
	"encoding/json"
	"net"
	"time"
)

// StartLimit is how long a QEMU may take to listen, and to greet: on a busy machine that is long after it was started,
// and one that fails ends before. answerLimit is how long it may take to answer.
const (
	StartLimit  = 2 * time.Minute
	answerLimit = 5 * time.Second
)

// maxQMP bounds what QEMU may send at a time, in bytes.
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
	err = m.soon(ctx, command, arguments, &answer)
	return answer, err
}

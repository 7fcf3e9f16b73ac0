package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestMonitor(t *testing.T) {
	conn := serveQMP(t, func(conn net.Conn, commands *bufio.Reader) {
		fmt.Fprintln(conn, greeting)
		for {
			line, err := commands.ReadString('\n')
			switch {
			case err != nil:
				return
			case strings.Contains(line, "query-replay"):
				fmt.Fprintln(conn, `{"event": "RESUME"}`)
				fmt.Fprintln(conn, `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}`)
				fmt.Fprintln(conn, `{"return": {"mode": "play", "icount": 17}}`)
			case strings.Contains(line, "human-monitor-command"):
				fmt.Fprintln(conn, `{"return": "Error: no\r\n"}`)
			case strings.Contains(line, "bad"):
				fmt.Fprintln(conn, `{"error": {"desc": "it is bad"}}`)
			case strings.Contains(line, "quit"):
				return
			default:
				fmt.Fprintln(conn, `{"return": {}}`)
			}
		}
	})
	m, err := OpenMonitor(t.Context(), conn, "play")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if s, err := m.ReplayState(t.Context()); err != nil || s.Icount != 17 || s.Mode != "play" {
		t.Errorf("%+v, %v", s, err)
	}
	if e := <-m.Events(); e.Name != "RESUME" {
		t.Errorf("%+v", e)
	}
	if e := <-m.Events(); e.Name != "SHUTDOWN" || e.Data.Reason != "guest-reset" || !e.Data.Guest {
		t.Errorf("%+v", e)
	}
	if err := m.Do(t.Context(), "bad", nil, nil); err == nil || err.Error() != "tell QEMU to bad: it is bad" {
		t.Error(err)
	}
	if err := m.Human(t.Context(), "savevm a"); err == nil || !strings.Contains(err.Error(), "Error: no") {
		t.Error(err)
	}
	if err := m.Do(t.Context(), "quit", nil, nil); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	<-m.Done()
}

// A QEMU that does not answer is waited for as long as the context lasts.
func TestMonitorSilent(t *testing.T) {
	conn := serveQMP(t, func(conn net.Conn, commands *bufio.Reader) {
		fmt.Fprintln(conn, greeting)
		_, _ = commands.ReadString(0)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := OpenMonitor(ctx, conn, "play"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

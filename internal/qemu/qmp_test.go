package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {"qemu": {"major": 10}}, "capabilities": []}}`

// serveQMP listens as QEMU does, plays QEMU for each connection, and returns a
// connection to it.
func serveQMP(t *testing.T, play func(conn net.Conn, commands *bufio.Reader)) net.Conn {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "qmp"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		play(conn, bufio.NewReader(conn))
	}()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		listener.Close()
		<-served
	})
	return conn
}

// script answers each command with the next of the answers, and returns what came.
func script(t *testing.T, answers ...string) (conn net.Conn, commands <-chan string) {
	came := make(chan string, len(answers)+1)
	conn = serveQMP(t, func(conn net.Conn, commands *bufio.Reader) {
		fmt.Fprintln(conn, greeting)
		for _, answer := range answers {
			line, err := commands.ReadString('\n')
			if err != nil {
				return
			}
			came <- strings.TrimSpace(line)
			fmt.Fprintln(conn, answer)
		}
	})
	return conn, came
}

func TestExecute(t *testing.T) {
	const event = `{"event": "RTC_CHANGE", "data": {"offset": 0}, "timestamp": {"seconds": 1, "microseconds": 2}}` +
		"\n"
	conn, commands := script(t, event+`{"return": {}}`, event+event+`{"return": {"running": true}}`)
	answer, err := Execute(t.Context(), conn, "query-status", map[string]any{"a": 1})
	if err != nil || string(answer) != `{"running": true}` {
		t.Errorf("%s, %v", answer, err)
	}
	for _, want := range []string{`{"execute":"qmp_capabilities"}`, `{"execute":"query-status","arguments":{"a":1}}`} {
		if got := <-commands; got != want {
			t.Errorf("QEMU got %s, want %s", got, want)
		}
	}
	if _, err := conn.Write([]byte{'\n'}); err == nil {
		t.Error("the connection is still open")
	}
}

func TestExecuteFails(t *testing.T) {
	const ended = "tell QEMU to frob: QEMU has closed its monitor, or speaks otherwise "
	refused := `{"error": {"class": "CommandNotFound", "desc": "The command frob has not been found"}}`
	for name, c := range map[string]struct {
		answers []string
		want    string
	}{
		"refused":  {[]string{`{"return": {}}`, refused}, "tell QEMU to frob: The command frob has not been found"},
		"ended":    {[]string{`{"return": {}}`}, "tell QEMU to frob: "},
		"not JSON": {[]string{"HTTP/1.1 200 OK"}, ended + "(invalid character"},
		"endless":  {[]string{`{"return": "` + strings.Repeat("x", maxQMP)}, ended + "(unexpected EOF"},
	} {
		conn, _ := script(t, c.answers...)
		if _, err := Execute(t.Context(), conn, "frob", nil); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %.200v; want %s", name, err, c.want)
		}
	}
}

// A QEMU that hangs, wherever it does, holds up nothing: the call ends with its context,
// and leaves no goroutine behind.
func TestExecuteEndsWithItsContext(t *testing.T) {
	enough := errors.New("enough")
	for name, say := range map[string]string{
		"before the greeting": "",
		"after the greeting":  greeting + "\n",
		"in an answer":        greeting + "\n" + `{"return": {"a": `,
		"behind events":       greeting + "\n" + `{"return": {}}{"event": "STOP"}`,
	} {
		t.Run(name, func(t *testing.T) {
			conn := serveQMP(t, func(conn net.Conn, _ *bufio.Reader) {
				io.WriteString(conn, say)
				io.Copy(io.Discard, conn) // until the other end is closed
			})
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			ended := make(chan error, 1)
			go func() {
				_, err := Execute(ctx, conn, "query-status", nil)
				ended <- err
			}()
			select {
			case err := <-ended:
				t.Fatalf("it did not wait for QEMU: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			cancel(enough)
			select {
			case err := <-ended:
				if !errors.Is(err, enough) {
					t.Errorf("%v; want the context's cause", err)
				}
			case <-time.After(answerLimit / 2):
				t.Fatal("it still waits for QEMU")
			}
			for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; {
				if time.Now().After(deadline) {
					buf := make([]byte, 1<<16)
					t.Fatalf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

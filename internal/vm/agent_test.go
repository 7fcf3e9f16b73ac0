package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// guestEnd is the guest's side of the ports, played by a test.
type guestEnd struct {
	control               *bufio.ReadWriter
	conn, in, out, errors net.Conn
}

func (g *guestEnd) say(line string) {
	g.control.WriteString(line + "\n")
	g.control.Flush()
}

func (g *guestEnd) hear() []string {
	line, _ := g.control.ReadString('\n')
	return strings.Fields(line)
}

// pair returns both ends of a connection with half-closes.
func pair(t *testing.T) (*net.UnixConn, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0].(*net.UnixConn), ends[1]
}

// converse runs a command against a guest that a function plays.
func converse(t *testing.T, c command, play func(*guestEnd)) (int, error) {
	t.Helper()
	var g guestEnd
	host := make([]*net.UnixConn, 4)
	for i, end := range []*net.Conn{&g.conn, &g.in, &g.out, &g.errors} {
		host[i], *end = pair(t)
	}
	g.control = bufio.NewReadWriter(bufio.NewReader(g.conn), bufio.NewWriter(g.conn))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go play(&g)
	a := newAgent(host[0])
	defer a.close()
	if err := a.awaitReady(ctx, c.interrupt); err != nil {
		return 0, err
	}
	if c.silence == 0 {
		c.silence = 10 * time.Second
	}
	return a.run(ctx, c, []port{host[1], host[2], host[3]})
}

func TestAgentRun(t *testing.T) {
	var stdout, stderr bytes.Buffer
	var got string
	input := strings.Repeat("input\x00", 1000)
	status, err := converse(t, command{script: "echo", stdin: strings.NewReader(input), stdout: &stdout,
		stderr: &stderr},
		func(g *guestEnd) {
			g.say("ready 1")
			words := g.hear()
			mark := words[1]
			script, _ := base64.StdEncoding.DecodeString(words[2])
			in, _ := io.ReadAll(g.in) // ends with the host's half-close
			got = string(in)
			g.say("exit 42") // before its output has come
			fmt.Fprintf(g.errors, "%s", mark)
			fmt.Fprintf(g.out, "%s %s", script, mark[:5])
			g.out.Write([]byte(mark[:9]))
			g.out.Write([]byte(mark[9:] + "what comes later is not the command's"))
		})
	if err != nil || status != 42 {
		t.Errorf("status %d, %v", status, err)
	}
	if got != "\n"+input {
		t.Errorf("the guest got %d bytes", len(got))
	}
	if stdout.String() != "echo kimg-" || stderr.String() != "" {
		t.Errorf("out %q, err %q", stdout.String(), stderr.String())
	}
}

func TestAgentFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  command
		play func(*guestEnd)
		want error
		text string
	}{
		{name: "gone before it is ready", play: func(g *guestEnd) { g.conn.Close() }, want: errGone},
		{name: "gone while it runs", play: func(g *guestEnd) { g.say("ready 1"); g.hear(); g.conn.Close() },
			want: errGone},
		{name: "a line without an end before it is ready",
			play: func(g *guestEnd) { g.say(strings.Repeat("x", maxLine+1)) },
			text: "the guest's agent broke its protocol: a line has more than 1048576 bytes"},
		{name: "a line without an end while it runs",
			play: func(g *guestEnd) { g.say("ready 1"); g.hear(); g.say(strings.Repeat("x", maxLine+1)) },
			text: "a line has more than 1048576 bytes"},
		{name: "another version", play: func(g *guestEnd) { g.say("ready 2") }, text: "speaks version"},
		{name: "silent", cmd: command{silence: 100 * time.Millisecond},
			play: func(g *guestEnd) { g.say("ready 1"); io.Copy(io.Discard, g.conn) }, want: errSilent},
		{name: "nonsense", play: func(g *guestEnd) { g.say("ready 1"); g.say("exit 4242") }, text: "it said"},
		{name: "output refused", cmd: command{stdout: iotestWriter{}},
			play: func(g *guestEnd) { g.say("ready 1"); g.out.Write([]byte("x")) }, want: io.ErrClosedPipe},
	} {
		if _, err := converse(t, c.cmd, c.play); err == nil || c.want != nil && !errors.Is(err, c.want) ||
			!strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A long line, such as a fault that names a long path, is a line like another.
func TestAgentSaysLongLines(t *testing.T) {
	fault := strings.Repeat("x", 100_000)
	_, err := converse(t, command{}, func(g *guestEnd) {
		g.say("fault " + fault)
		g.say("ready 1")
	})
	var guest *GuestError
	if !errors.As(err, &guest) || guest.What != "the guest could not "+fault[:maxFault] {
		t.Errorf("%.100v", err)
	}
	status, err := converse(t, command{}, func(g *guestEnd) {
		g.say("ready 1")
		mark := g.hear()[1]
		g.say("what another version may say, " + fault)
		fmt.Fprint(g.out, mark)
		fmt.Fprint(g.errors, mark)
		g.say("exit 3")
	})
	if status != 3 || err != nil {
		t.Errorf("status %d, %.100v", status, err)
	}
}

// Whoever reads the output may take their time, before the command's end and after it:
// only what the guest keeps back counts.
func TestAgentPatience(t *testing.T) {
	const limit = 200 * time.Millisecond
	for _, tt := range []struct {
		name string
		end  func(g *guestEnd, mark string)
		text string // of the error; empty: none
	}{
		{"read late", func(g *guestEnd, mark string) {
			g.say("exit 3")
			fmt.Fprintf(g.errors, "%s", mark)
			fmt.Fprintf(g.out, "x%s", mark)
		}, ""},
		{"the guest waits for room", func(g *guestEnd, mark string) {
			fmt.Fprintf(g.errors, "%s", mark)
			fmt.Fprint(g.out, "x")
			time.Sleep(3 * limit) // and so says no pong
			fmt.Fprintf(g.out, "%s", mark)
			g.say("exit 3")
		}, ""},
		{"kept back", func(g *guestEnd, mark string) {
			g.say("exit 3")
			fmt.Fprintf(g.errors, "%s", mark)
			fmt.Fprint(g.out, "x")
			for g.hear() != nil {
				g.say("pong")
			}
		}, "the end of the command's output did not come"},
	} {
		slow := slowWriter(4 * limit)
		status, err := converse(t, command{stdout: &slow, silence: 2 * limit, late: limit}, func(g *guestEnd) {
			g.say("ready 1")
			tt.end(g, g.hear()[1])
		})
		if tt.text == "" && (err != nil || status != 3) || tt.text != "" && (err == nil || err.Error() != tt.text) {
			t.Errorf("%s: status %d, %v", tt.name, status, err)
		}
	}
}

// slowWriter takes its time for each Write.
type slowWriter time.Duration

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(*w))
	return len(p), nil
}

type iotestWriter struct{}

func (iotestWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAgentInterrupt(t *testing.T) {
	interrupt := make(chan os.Signal, 2)
	heard := make(chan string, 1)
	_, err := converse(t, command{interrupt: interrupt}, func(g *guestEnd) {
		g.say("ready 1")
		g.hear()
		interrupt <- os.Interrupt
		heard <- strings.Join(g.hear(), " ")
		interrupt <- os.Interrupt
	})
	if !errors.Is(err, ErrInterrupted) {
		t.Errorf("the second interrupt: %v", err)
	}
	if got := <-heard; got != "signal INT" {
		t.Errorf("the first interrupt sent the guest %q", got)
	}
}

// A mark may come in any pieces, and what looks like its beginning is output.
func TestCopyUntil(t *testing.T) {
	const mark = "END-END-1"
	for _, text := range []string{"", "E", "END-", "END-END-", "END-END-END-END", "xENDx",
		strings.Repeat("END-", 50000)} {
		for name, in := range map[string]io.Reader{
			"whole":    strings.NewReader(text + mark + "rest"),
			"by bytes": iotest.OneByteReader(strings.NewReader(text + mark)),
			"cut off":  strings.NewReader(text),
		} {
			if name == "by bytes" && len(text) > 1000 {
				continue
			}
			var out strings.Builder
			if err := copyUntil(&out, in, mark); err != nil || out.String() != text {
				t.Errorf("%.20q, %s: %.40q, %v", text, name, out.String(), err)
			}
		}
	}
}

func TestScript(t *testing.T) {
	if got := Script([]string{"echo", "a b", "it's", "$x`y`",
		""}); got != `exec 'echo' 'a b' 'it'\''s' '$x`+"`y`"+`' ''`+"\n" {
		t.Error(got)
	}
}

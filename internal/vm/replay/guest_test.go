package replay_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
	"github.com/kimg/kimg/internal/vm/replay"
	"github.com/kimg/kimg/internal/vm/replay/replaytest"
)

func TestGuestRecorded(t *testing.T) {
	o := replaytest.Guest(t)
	var stdout, stderr bytes.Buffer
	o.Stdout, o.Stderr = &stdout, &stderr
	status, r, err := replay.Record(t.Context(), o, replay.Request{
		Name: "a", Command: []string{"sh", "-c", "seq 20000; cat; head -c 9 /dev/urandom; printf '\\0' >&2; exit 42"}})
	if err != nil {
		t.Fatal(err)
	}
	if status != 42 || !strings.Contains(stdout.String(), "\n20000\n") || stderr.String() != "\x00" {
		t.Errorf("status %d, %d bytes, %q", status, stdout.Len(), stderr.String())
	}
	for range 2 {
		if err := replay.Verify(t.Context(), o.Toolbox, r, nil); err != nil {
			t.Error(err)
		}
	}
	again, err := recording.Open(t.Context(), o.Dir, "a")
	if err != nil || again.End.How != recording.Off || again.End.Replayed == 0 {
		t.Errorf("%+v, %v", again, err)
	}
}

// What is typed at the console of a recorded guest is there in its replay, which nobody types at.
func TestGuestConsoleRecorded(t *testing.T) {
	for name, direct := range map[string]bool{"sh": true, "systemd": false} {
		t.Run(name, func(t *testing.T) {
			o := replaytest.Guest(t)
			o.Direct = direct
			var said bytes.Buffer
			o.Console = &said
			o.Stdin = strings.NewReader("echo sum $((40 + 2))\ntty\nexit 7\n")
			typed, err := o.Type()
			if err != nil {
				t.Fatal(err)
			}
			defer typed.Close()
			q := replay.Request{Name: "a", Typed: typed, Limit: 8 * time.Minute}
			status, r, err := replay.Record(t.Context(), o, q)
			if err != nil || status != 7 || r.End.How != recording.Off {
				t.Fatalf("status %d, %+v, %v\n%s", status, r, err, said.String())
			}
			for _, want := range []string{"sum 42", "/dev/" + o.Arch.Console} {
				if !strings.Contains(said.String(), want) {
					t.Errorf("%q is not in:\n%s", want, said.String())
				}
			}
			if err := replay.Verify(t.Context(), o.Toolbox, r, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGuestPanics(t *testing.T) {
	o := replaytest.Guest(t)
	_, r, err := replay.Record(t.Context(), o, replay.Request{
		Name: "a", Command: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || !strings.Contains(guest.What, "panicked") || r.End.How != recording.Panic {
		t.Fatalf("%+v, %v", r, err)
	}
	reports, err := replay.Reports(r)
	if err != nil || len(reports) == 0 {
		t.Fatalf("%v, %v", reports, err)
	}
	if after, before, ok := r.Wrote(reports[0].Line); !ok || after == 0 || before > r.End.Icount {
		t.Errorf("the panic was told between instructions %d and %d of %d: %v", after, before, r.End.Icount, r.Marks)
	}
	var said bytes.Buffer
	o.Stdout, o.Stderr = &said, &said
	commands := []string{"backtrace", "hbreak write_sysrq_trigger", "reverse-continue",
		"printf \"ppos %d\\n\", $lx_current().pid > 1", "watch jiffies_64", "reverse-continue", "backtrace"}
	wants := []string{"sysrq_handle_crash", "Breakpoint 2, write_sysrq_trigger", "ppos 1", "jiffies64 (", "#1"}
	if o.Arch.Recorded.Onward {
		commands = []string{"reverse-continue", "backtrace"}
		wants = []string{"sysrq_handle_crash", "does not support"}
	}
	d := vm.Debugging{Batch: true, Commands: commands}
	if err := replay.Debug(t.Context(), o, r, replay.At{}, d, nil, func() {}); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	for _, want := range wants {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%s is not in:\n%s", want, said.String())
		}
	}
}

// A recording ends whole at its limit.
func TestGuestAtLimit(t *testing.T) {
	o := replaytest.Guest(t)
	_, r, err := replay.Record(t.Context(), o, replay.Request{
		Name: "a", Command: []string{"sleep", "1000"}, MaxLog: units.Size(300 << 10), Limit: time.Minute})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || !strings.Contains(guest.What, "limit") || r.End.How != recording.Limit {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := replay.Verify(t.Context(), o.Toolbox, r, nil); err != nil {
		t.Error(err)
	}
}

// A replay that leaves its recording is told within 30 s: QEMU itself hangs without a word.
func TestGuestDiverges(t *testing.T) {
	o := replaytest.Guest(t)
	_, r, err := replay.Record(t.Context(), o, replay.Request{Name: "a", Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Shift++ // of its time; the command line is in some machines' memory, which a replay gets from the recording
	moved := time.Now()
	err = replay.Verify(t.Context(), o.Toolbox, r, func(_, _ uint64) { moved = time.Now() })
	var diverged *replay.DivergedError
	if took := time.Since(moved); !errors.As(err, &diverged) || took > 30*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// A recording whose kimg is killed replays up to the kill.
func TestGuestKilled(t *testing.T) {
	const there = "KIMG_TEST_KILLED"
	if dir := os.Getenv(there); dir != "" { // this is the one that is killed
		_, _, err := replay.Record(t.Context(), replaytest.GuestIn(t, dir), replay.Request{
			Name: "a", Command: []string{"sh", "-c", "echo here; sleep 1000"}})
		t.Fatalf("it ended by itself: %v", err)
	}
	o := replaytest.Guest(t)
	kimg := exec.Command(os.Args[0], "-test.run=^TestGuestKilled$")
	kimg.Env = append(os.Environ(), there+"="+o.Dir)
	if err := kimg.Start(); err != nil {
		t.Fatal(err)
	}
	said := filepath.Join(o.Dir, recording.Home, "a", recording.Tape, recording.Command)
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if b, err := os.ReadFile(said); err == nil && bytes.Contains(b, []byte("here")) {
			break
		}
	}
	time.Sleep(time.Second)
	if err := kimg.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = kimg.Wait() // it was killed
	r, err := recording.Open(t.Context(), o.Dir, "a")
	if err != nil || r.End.How != recording.Killed {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := replay.Verify(t.Context(), o.Toolbox, r, nil); err != nil {
		t.Error(err)
	}
	console, err := os.ReadFile(r.Path(recording.Tape, recording.Console))
	if err != nil || r.End.Replayed < 10e6 || !bytes.Contains(console, []byte("Linux version")) {
		t.Errorf("%d instructions, %v, %q", r.End.Replayed, err, console)
	}
}

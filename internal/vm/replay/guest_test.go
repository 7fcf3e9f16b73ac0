package replay_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
	"github.com/kimg/kimg/internal/vm/replay"
)

// realGuest is a guest of a copy of the artifacts in KIMG_TEST_OUT, with the QEMU of the image KIMG_TEST_IMAGING.
func realGuest(t *testing.T) vm.Options {
	t.Helper()
	from := os.Getenv("KIMG_TEST_OUT")
	if from == "" {
		t.Skip("KIMG_TEST_OUT names no out directory of a build")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	tools, err := toolbox.Choose(t.Context(), arch.Default, "container",
		func(ctx context.Context) (toolbox.Engine, string, error) {
			eng, err := container.Connect(ctx)
			return eng, os.Getenv("KIMG_TEST_IMAGING"), err
		})
	if err != nil {
		t.Fatal(err)
	}
	return vm.Options{Dir: dir, Toolbox: tools, Direct: true, Say: func(s string) { t.Log(s) }}
}

func TestGuestRecorded(t *testing.T) {
	o := realGuest(t)
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

func TestGuestPanics(t *testing.T) {
	o := realGuest(t)
	_, r, err := replay.Record(t.Context(), o, replay.Request{
		Name: "a", Command: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || !strings.Contains(guest.What, "panicked") || r.End.How != recording.Panic {
		t.Fatalf("%+v, %v", r, err)
	}
	var said bytes.Buffer
	o.Stdout, o.Stderr = &said, &said
	d := vm.Debugging{Batch: true, Commands: []string{
		"backtrace", "hbreak write_sysrq_trigger", "reverse-continue", "printf \"ppos %d\\n\", $lx_current().pid > 1"}}
	if err := replay.Debug(t.Context(), o, r, replay.At{}, d, nil, func() {}); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	for _, want := range []string{"sysrq_handle_crash", "Breakpoint 2, write_sysrq_trigger", "ppos 1"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%s is not in:\n%s", want, said.String())
		}
	}
}

// A recording ends whole at its limit.
func TestGuestAtLimit(t *testing.T) {
	o := realGuest(t)
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

package why_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/vm"
	"github.com/kimg/kimg/internal/vm/replay"
	"github.com/kimg/kimg/internal/vm/replay/replaytest"
	"github.com/kimg/kimg/internal/vm/why"
)

// in says whether a step is in a function, called or calling.
func in(s why.Step, function string) bool {
	return slices.ContainsFunc(s.Frames, func(f why.Frame) bool { return f.Function == function })
}

// A panic is traced to the call of panic, and a variable to who wrote it; an answer that lacks time goes on.
func TestGuestWhy(t *testing.T) {
	o := replaytest.Guest(t)
	_, r, err := replay.Record(t.Context(), o, replay.Request{Name: "a", Command: []string{"sh", "-c",
		"echo 16 >/proc/sys/kernel/panic_print; echo c >/proc/sysrq-trigger"}})
	var guest *vm.GuestError
	if !errors.As(err, &guest) {
		t.Fatal(err)
	}
	nothing := func(why.Step) {}
	answer, err := why.Ask(t.Context(), o, r, why.Request{}, nil, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(answer.Steps, func(s why.Step) bool { return s.Kind == why.Fault }); i < 0 ||
		!strings.HasPrefix(answer.Steps[i].Where(), "sysrq_handle_crash at drivers/tty/sysrq.c:") ||
		!in(answer.Steps[i], "write_sysrq_trigger") || !strings.HasPrefix(answer.Steps[i].Task, "sh (pid ") {
		t.Errorf("%s", strings.Join(answer.Lines(), "\n"))
	}

	wrote := why.Request{Expr: "panic_print", Limit: time.Nanosecond}
	if answer, err = why.Ask(t.Context(), o, r, wrote, nil, nothing); err != nil || len(answer.Steps) > 0 {
		t.Errorf("without time: %+v, %v", answer, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	wrote.Limit = 0
	if _, err = why.Ask(ctx, o, r, wrote, nil, func(why.Step) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if answer, err = why.Ask(t.Context(), o, r, wrote, nil, nothing); err != nil || len(answer.Steps) == 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if s := answer.Steps[0]; s.Kind != why.Written || s.Value != "0x10" || s.Was != "0x0" || !in(s, "proc_sys_write") {
		t.Errorf("%s", strings.Join(answer.Lines(), "\n"))
	}
	again, err := why.Ask(t.Context(), vm.Options{}, r, wrote, nil, nil) // it is kept
	if err != nil || len(again.Steps) != len(answer.Steps) {
		t.Errorf("%+v, %v", again, err)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/vm"
)

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		name    string
		err     error
		code    int
		inGuest bool
		says    []string
	}{
		{name: "nothing wrong"},
		{"unknown", errors.New("write artifact: no"), 1, false, []string{"kimg: write artifact: no\n"}},
		{"several lines of a hostile text", errors.New("make:\n\x1b[31merror\x1b[0m"), 1, false,
			[]string{"kimg: make:\n  error\n"}},
		{"no engine", fmt.Errorf("build kernel: %w", container.ErrNoEngine), 3, false,
			[]string{"kimg: build kernel: no container engine answers\n"}},
		{"no permission", fmt.Errorf("connect: %w", container.ErrPermission), 3, false, nil},
		{"an error with a hint", fmt.Errorf("run: %w", &vm.MissingArtifactError{Dir: "d", File: "bzImage"}), 2, false,
			[]string{"kimg: run: find bzImage in d: there is none\n  hint: run kimg build first"}},
		{"unmet config", &kernel.UnmetError{Version: "6.12"}, 5, false, []string{"configure Linux 6.12"}},
		{"a patch that does not apply", fmt.Errorf("x: %w", &kernel.PatchError{Patch: "a.patch",
			Faults: []kernel.PatchFault{{File: "fs/open.c", Hunk: 1, Of: 2, Header: "@@ -1 +1 @@"}}}), 2, false,
			[]string{"a.patch", "\n  fs/open.c: hunk 1 of 2: @@ -1 +1 @@", "hint: rebase it onto"}},
		{"a hostile patch", &diffs.Error{Patch: "a.patch", Line: 3, Err: errors.New("refused")}, 2, false,
			[]string{"read patch a.patch line 3: refused"}},
		{"unsigned archive", fmt.Errorf("x: %w", &archive.UntrustedError{What: "it", Why: "no"}), 4, false,
			[]string{"--mirror"}},
		{"a guest's panic", fmt.Errorf("x: %w", &vm.GuestError{What: "the kernel panicked"}), 6, false,
			[]string{"the kernel panicked"}},
		{"a guest's panic under a command", &vm.GuestError{What: "the kernel panicked"}, 125, true,
			[]string{"the kernel panicked"}},
		{"engine's disk", fmt.Errorf("import: %w", container.ErrNoSpace), 1, false, []string{"kimg cache prune frees"}},
		{"own disk", fmt.Errorf("write: %w", syscall.ENOSPC), 1, false, []string{"kimg cache prune frees"}},
		{"disk below a compiler", errors.New("compile:\n  fatal error: write x.o: No space left on device"), 1, false,
			[]string{"kimg cache prune frees"}},
		{"an unshared directory", fmt.Errorf("x: %w", &vm.ShareError{Dir: "d", Err: errors.New("no")}), 2, false,
			[]string{"share d: no\n  hint: name a directory"}},
		{"missing packages", fmt.Errorf("rootfs: %w", &archive.MissingError{Snapshot: "http://s"}), 4, false,
			[]string{"--mirror"}},
		{"spec", &spec.InputError{Field: "--size", Err: errors.New("too small")}, 2, false,
			[]string{"kimg: --size: too small\n"}},
		{"own fault beside a command", container.ErrNoEngine, 125, true, []string{"no container engine"}},
		{"the command's status", fmt.Errorf("run: %w", guestStatus(42)), 42, true, nil},
		{"interrupted in the guest", fmt.Errorf("run: %w", vm.ErrInterrupted), 130, true,
			[]string{"kimg: interrupted\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, read := testApp(t, table{})
			if code := a.report(t.Context(), tt.err, tt.inGuest); code != tt.code {
				t.Errorf("exit status is %d, want %d", code, tt.code)
			}
			stdout, stderr := read()
			if stdout != "" {
				t.Errorf("stdout has %q", stdout)
			}
			if tt.code == 0 && stderr != "" {
				t.Errorf("stderr has %q, want nothing", stderr)
			}
			for _, s := range tt.says {
				if !strings.Contains(stderr, s) {
					t.Errorf("stderr %q lacks %q", stderr, s)
				}
			}
		})
	}
}

func TestReportOfAnInterruption(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("build: %w", ctx.Err()), "kimg: interrupted\n"},
		{fmt.Errorf("build: %w", errors.Join(ctx.Err(), fmt.Errorf("kernel: %w", ctx.Err()))), "kimg: interrupted\n"},
		{fmt.Errorf("run: %w", vm.ErrInterrupted), "kimg: interrupted\n"},
		{errors.Join(ctx.Err(), errors.New("remove volume v: busy")),
			"kimg: context canceled\n  remove volume v: busy\nkimg: interrupted\n"},
	} {
		a, read := testApp(t, table{})
		if code := a.report(ctx, tt.err, false); code != codeInterrupted {
			t.Errorf("exit status is %d, want %d", code, codeInterrupted)
		}
		if _, stderr := read(); stderr != tt.want {
			t.Errorf("stderr is %q, want %q", stderr, tt.want)
		}
	}
}

func TestEveryExitStatusIsInTheTable(t *testing.T) {
	known := map[int]bool{}
	for _, c := range exitCodes {
		if known[c.code] {
			t.Errorf("status %d comes twice", c.code)
		}
		known[c.code] = true
	}
	for _, s := range statuses {
		if !known[s.code] {
			t.Errorf("status %d of an error is not in the table", s.code)
		}
	}
}

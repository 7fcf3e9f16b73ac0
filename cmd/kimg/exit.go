package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/vm"
)

// The exit statuses of kimg. exitCodes says what they mean.
const (
	codeFault       = 1
	codeUsage       = 2
	codeEngine      = 3
	codeArchive     = 4
	codeConfig      = 5
	codeGuest       = 6
	codeDiffers     = 7
	codeUnmet       = 8
	codeRun         = 125
	codeInterrupted = 130
)

// exitCodes is the one table of them; docs/cli.md is made from it.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{0, "all went well"},
	{codeFault, "a step failed, or something else went wrong"},
	{codeUsage, "the flags, `kimg.yaml` or `kimg.lock` cannot be meant"},
	{codeEngine, "no container engine answers, or this user may not use it"},
	{codeArchive, "an archive of packages or kernels, or a mirror, cannot be used: unreachable, incomplete, or not signed as it must be"},
	{codeConfig, "a requested kernel config option did not survive"},
	{codeGuest, "the guest failed: it panicked, hung, or never reached a breakpoint"},
	{codeDiffers, "what was compared differs (`kimg diff`), or a build is not as it was left (`kimg verify`); the report says where"},
	{codeUnmet, "a check was not met (`kimg check`): the guest stopped elsewhere, gdb refused an expression, or the command failed; 6 where a guest failed too"},
	{codeRun, "`kimg run -- COMMAND` or `kimg ssh -- COMMAND` failed itself, for any of the reasons above; any other status is the command's own, as that of `kimg run` and `kimg ssh` is their shell's"},
	{codeInterrupted, "interrupted by a signal (Ctrl-C); what was begun has been taken away"},
}

// way is an exit status and a way out for a kind of error. An error that knows
// its own way out, by a method Hint, goes before.
type way struct {
	is   func(error) bool
	code int
	hint string
}

// ways is tried from the top.
var ways = []way{
	{is[usageError], codeUsage, ""},
	{is[*spec.InputError], codeUsage, ""},
	{is[*diffs.Error], codeUsage, ""},
	{is[*kernel.PatchError], codeUsage, ""}, // knows its own way out
	{is[*attest.KeyError], codeUsage, ""},
	{isErr(errNoTerminal), codeUsage, ""},
	{is[*spec.LockError], codeUsage, "take it from where it was whole (a backup, version control); a build without it pins everything anew"},
	{is[*spec.NoLockError], codeUsage, ""},
	{is[*builder.ReplayError], codeUsage, ""},
	{is[*spec.FrozenError], codeUsage, "build once without --frozen to have it pinned"},
	{is[*outdir.ForeignError], codeUsage, "move that file away, or choose another directory with --out"},
	{is[*builder.ExistsError], codeUsage, ""},
	{isErr(container.ErrNoEngine), codeEngine, ""},
	{isErr(container.ErrPermission), codeEngine, ""},
	{is[*kernel.EraError], codeUsage, ""},
	{is[*kernel.UnmetError], codeConfig, ""}, // says itself what is not met
	{is[*image.SizeError], codeUsage, "give it more with --size"},
	{isFull, codeFault, "make room on that disk: kimg cache prune frees what kimg keeps, there and in the engine; " +
		"docker system df shows what else the engine has, and KIMG_CACHE moves kimg's cache to another disk"},
	{is[*vm.MissingArtifactError], codeUsage, ""},
	{isErr(errNoBuild), codeUsage, "run kimg build first, or name the directory of a build"},
	{is[*vm.MissingConfigError], codeConfig, ""},
	{is[*gdb.NoBreakError], codeGuest, ""},
	{is[*checks.ProblemsError], codeUsage, ""},
	{is[*vm.GuestError], codeGuest, ""},
	{is[*vm.DiskError], codeGuest, ""},
	{is[*gdb.EndedError], codeFault, ""},
	{is[*vm.PortTakenError], codeUsage, ""},
	{is[*vm.TAPError], codeUsage, ""},
	{is[*vm.ShareError], codeUsage, ""},
	{is[*vm.NoSnapshotError], codeUsage, ""},
	{is[*NoSSHError], codeUsage, ""},
	{is[*vm.KeyError], codeFault, ""},
	{isErr(vm.ErrDiskInUse), codeFault, "end the other guest; one that writes to a snapshot of its own, with --snapshot NAME, is in nobody's way"},
	{is[*archive.UntrustedError], codeArchive, "take another mirror with --mirror, and see that this machine's clock is right"},
	{is[*kernelorg.UntrustedError], codeArchive, ""},
	{is[*kernelorg.NotFoundError], codeArchive, ""},
	{is[*kernelorg.DownError], codeArchive, ""},
	{is[*archive.MissingError], codeArchive,
		"name an archive that has them with --mirror, or a snapshot service with KIMG_SNAPSHOT"},
	{is[*fetch.Error], codeArchive, "check the network, or try another archive with --mirror"},
	{is[*fetch.GetError], codeArchive, "check the network, or try another archive with --mirror"},
	{is[*fetch.StatusError], codeArchive, "check the address, or try another archive with --mirror"},
}

// is matches errors by type.
func is[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

// isErr matches errors by value.
func isErr(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// isFull matches a full disk, here, where the engine keeps its data, or below what ran in a container.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, container.ErrNoSpace) ||
		strings.Contains(strings.ToLower(err.Error()), "no space left on device")
}

// usageError is a command line that cannot be meant.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// Hint is the way out.
func (e usageError) Hint() string { return e.cmd.CommandPath() + " --help" }

// guestStatus is the status other than zero that a command in the guest ended
// with. It has said what it had to say.
type guestStatus int

func (s guestStatus) Error() string { return fmt.Sprintf("the command's exit status is %d", int(s)) }

// report tells the person of err and returns the exit status. inGuest says that
// the status of a command in the guest was asked for.
func (a *app) report(ctx context.Context, err error, inGuest bool) int {
	var status guestStatus
	var unmet unmet
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &unmet):
		return unmet.code
	case is[differs](err) || is[faulty](err):
		return codeDiffers
	case ctx.Err() != nil || errors.Is(err, vm.ErrInterrupted):
		if !onlyCancelled(err) {
			fmt.Fprintf(a.stderr, "kimg: %s\n", progress.CleanText(err.Error()))
		}
		fmt.Fprintln(a.stderr, "kimg: interrupted")
		return codeInterrupted
	}
	fmt.Fprintf(a.stderr, "kimg: %s\n", progress.CleanText(err.Error()))
	code, hint := codeFault, ""
	for _, w := range ways {
		if w.is(err) {
			code, hint = w.code, w.hint
			break
		}
	}
	var own interface{ Hint() string }
	if errors.As(err, &own) {
		hint = own.Hint()
	}
	if hint != "" {
		fmt.Fprintf(a.stderr, "  way out: %s\n", progress.CleanText(hint))
	}
	if inGuest {
		return codeRun
	}
	return code
}

// onlyCancelled reports whether err tells of nothing but the end of a context.
// What could not be taken away after it is worth telling.
func onlyCancelled(err error) bool {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if !onlyCancelled(one) {
				return false
			}
		}
		return true
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return onlyCancelled(inner)
		}
	}
	return errors.Is(err, context.Canceled)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/image/export"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/lettercase"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/tap"
	"github.com/kimg/kimg/internal/vm"
	"github.com/kimg/kimg/internal/vm/replay"
	"github.com/kimg/kimg/internal/vm/why"
	"github.com/spf13/cobra"
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
	{0, "success"},
	{codeFault, "a step failed, or something else went wrong"},
	{codeUsage, "invalid flags, `kimg.yaml` or `kimg.lock`"},
	{codeEngine, "no container engine answers, or this user may not use it"},
	{codeArchive, "an archive of packages or kernels, or a mirror, cannot be used: unreachable, incomplete, or not " +
		"signed as it must be"},
	{codeConfig, "a kernel config option that was requested or is needed is not set"},
	{codeGuest, "the guest failed: it panicked, hung, never reached a breakpoint, " +
		"or its kernel complained (`--splats`); or a replay left its recording"},
	{codeDiffers, "what was compared differs (`kimg diff`), or a build was changed after it was made " +
		"(`kimg verify`); the report says where"},
	{codeUnmet, "a check was not met (`kimg check`): the guest stopped elsewhere, " +
		"gdb refused an expression, or the " +
		"command failed; 6 where a guest failed too"},
	{codeRun, "kimg itself failed in `kimg run -- COMMAND` or `kimg ssh -- COMMAND`, for any of the reasons above; " +
		"any other status is that of the command, or of the login shell where no command is given"},
	{codeInterrupted, "interrupted by a signal (Ctrl-C), and cleaned up"},
}

// statuses are tried from the top; any other error is a codeFault. What helps against it is said by its Hint.
var statuses = []struct {
	code  int
	kinds []func(error) bool
}{
	{codeUsage, []func(error) bool{
		hasType[usageError], hasType[*noTerminalError], hasType[*noBuildError], hasType[*noSSHError],
		hasType[*spec.InputError], hasType[*spec.LockError], hasType[*spec.NoLockError], hasType[*spec.FrozenError],
		hasType[*builder.ReplayError], hasType[*builder.ExistsError], hasType[*outdir.ForeignError],
		hasType[*lettercase.Error], hasType[*diffs.Error], hasType[*kernel.PatchError], hasType[*attest.KeyError],
		hasType[*builder.PrivilegedError], hasType[*builder.FormError],
	}},
	{codeEngine, []func(error) bool{isValue(container.ErrNoEngine), isValue(container.ErrPermission)}},
	{codeUsage, []func(error) bool{hasType[*kernel.EraError], hasType[*kernel.NoPackageError],
		hasType[*spec.EngineError]}},
	{codeConfig, []func(error) bool{hasType[*kernel.UnmetError], hasType[*kernel.NeedError],
		hasType[*kernel.LackError]}},
	{codeUsage, []func(error) bool{hasType[*image.SizeError], hasType[*image.TooLargeError], hasType[*image.UnitError],
		hasType[*image.CustomError], hasType[*vm.MissingArtifactError],
		hasType[*archive.ClashError], hasType[*archive.UnknownError], hasType[*archive.FileError],
		hasType[*archive.VersionError], hasType[*archive.DependError], hasType[*archive.ComponentError],
		hasType[*builder.DebError]}},
	{codeFault, []func(error) bool{isFull}}, // also while something is downloaded
	{codeConfig, []func(error) bool{hasType[*vm.MissingConfigError], hasType[*export.LackError]}},
	{codeGuest, []func(error) bool{hasType[*gdb.NoBreakError], hasType[*vm.GuestError], hasType[*vm.DiskError],
		hasType[*complainedError], hasType[*replay.DivergedError]}},
	{codeUsage, []func(error) bool{
		hasType[*why.NothingError],
		hasType[*recording.Error], hasType[*replay.RefusedError], hasType[*replay.QEMUError],
		hasType[*vm.PortTakenError], hasType[*tap.Error], hasType[*vm.ShareError], hasType[*vm.NoSnapshotError],
		hasType[*vm.ReadOnlyError], hasType[*vm.MemoryError],
		hasType[*checks.ProblemsError], // what the problems are goes before
	}},
	{codeArchive, []func(error) bool{
		hasType[*archive.UntrustedError], hasType[*archive.MissingError], hasType[*archive.LineError],
		hasType[*kernelorg.UntrustedError], hasType[*kernelorg.NotFoundError], hasType[*kernelorg.DownError],
		hasType[*fetch.Error], hasType[*fetch.GetError], hasType[*fetch.StatusError],
	}},
}

func hasType[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

func isValue(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// isFull matches a full disk, here, where the engine keeps its data, or below what ran in a container.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, container.ErrNoSpace) ||
		strings.Contains(strings.ToLower(err.Error()), "no space left on device")
}

const fullHint = "make room on that disk: kimg cache prune frees what kimg keeps, there and in the engine; " +
	"docker system df shows what else a Docker engine has, and KIMG_CACHE moves kimg's cache to another disk"

type usageError struct {
	cmd *cobra.Command
	err error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func (e usageError) Hint() string { return e.cmd.CommandPath() + " --help" }

// guestStatus is the status other than zero that a command in the guest ended with. It has said what it had to say.
type guestStatus int

func (s guestStatus) Error() string { return fmt.Sprintf("the command's exit status is %d", int(s)) }

// report prints err and returns the exit status; inGuest: that of a command in the guest was asked for.
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
	case hasType[differs](err) || hasType[faulty](err):
		return codeDiffers
	case ctx.Err() != nil || errors.Is(err, vm.ErrInterrupted):
		if !onlyCancelled(err) {
			fmt.Fprintf(a.stderr, "kimg: %s\n", progress.CleanText(err.Error()))
		}
		fmt.Fprintln(a.stderr, "kimg: interrupted")
		return codeInterrupted
	}
	fmt.Fprintf(a.stderr, "kimg: %s\n", progress.CleanText(err.Error()))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(a.stderr, "  hint: %s\n", progress.CleanText(hint))
	}
	if inGuest {
		return codeRun
	}
	return statusOf(err)
}

func statusOf(err error) int {
	for _, s := range statuses {
		for _, kind := range s.kinds {
			if kind(err) {
				return s.code
			}
		}
	}
	return codeFault
}

func hintOf(err error) string {
	var own interface{ Hint() string }
	switch {
	case isFull(err):
		return fullHint
	case errors.As(err, &own):
		return own.Hint()
	}
	return ""
}

// onlyCancelled reports whether err is nothing but the end of a context: what could not be cleaned up is printed.
func onlyCancelled(err error) bool {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(one error) bool { return !onlyCancelled(one) })
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return onlyCancelled(inner)
		}
	}
	return errors.Is(err, context.Canceled)
}

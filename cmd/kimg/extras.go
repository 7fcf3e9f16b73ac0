package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/pflag"
)

// extras are what a guest may also have, by the flags.
type extras struct {
	init, snapshot, net           string
	sharing, forwarding, qemuArgs []string
	cold                          bool

	shares  []vm.Share
	network vm.Network
}

func (e *extras) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&e.snapshot, "snapshot", "",
		"keep what the guest writes in the snapshot `NAME`, created if there is none; rootfs.img stays as it is")
	e.addGuestFlags(flags)
}

// addGuestFlags adds those that do not keep what the guest writes.
func (e *extras) addGuestFlags(flags *pflag.FlagSet) {
	flags.StringVar(&e.init, "init", "",
		"boot without systemd, straight to the command or, without one, to the shell command `CMD`, such as sh")
	flags.StringArrayVar(&e.sharing, "share", nil,
		"share a directory with the guest, `DIR[:PLACE][:rw]`: in /mnt or at PLACE, read-only without :rw (repeatable)")
	flags.StringVar(&e.net, "net", "user",
		"connect the guest's network card to `NET`: none, user (QEMU's own), or tap:INTERFACE")
	flags.StringArrayVar(&e.forwarding, "forward", nil,
		"forward TCP port HOST of this machine's 127.0.0.1 to port GUEST of the guest: `HOST:GUEST` (repeatable)")
	flags.StringArrayVar(&e.qemuArgs, "qemu-arg", nil, "pass `ARG` to QEMU, after all other arguments (repeatable)")
}

// addCold adds the flag of what may go on from a guest that was kept.
func (e *extras) addCold(flags *pflag.FlagSet) {
	flags.BoolVar(&e.cold, "cold", false, "boot the guest; do not go on from one that has booted and was kept")
}

// parse reads what the flags say. write is --write.
func (e *extras) parse(write bool) error {
	for _, text := range e.sharing {
		s, err := vm.ParseShare(text)
		if err != nil {
			return &spec.InputError{Field: "--share", Err: err}
		}
		e.shares = append(e.shares, s)
	}
	if e.snapshot != "" {
		if err := vm.CheckSnapshotName(e.snapshot); err != nil {
			return &spec.InputError{Field: "--snapshot", Err: err}
		}
		if write {
			return &spec.InputError{Field: "--snapshot",
				Err: errors.New("--write keeps what the guest writes in rootfs.img: want one of the two")}
		}
	}
	return e.parseNet()
}

func (e *extras) parseNet() (err error) {
	if e.network, err = vm.ParseNetwork(e.net); err != nil {
		return &spec.InputError{Field: "--net", Err: err}
	}
	for _, text := range e.forwarding {
		f, err := vm.ParseForward(text)
		if err == nil && e.network.Mode != vm.UserNet {
			err = errors.New("ports are only forwarded with --net user")
		}
		if err != nil {
			return &spec.InputError{Field: "--forward", Err: err}
		}
		e.network.Forwards = append(e.network.Forwards, f)
	}
	if e.net == "user" && len(e.forwarding) == 0 {
		e.network.Mode = "" // where the kernel has a card
	}
	return nil
}

func (e *extras) apply(o *vm.Options, command []string) {
	o.Cold = e.cold
	o.Shares, o.Network, o.QEMU, o.Snapshot = e.shares, e.network, e.qemuArgs, e.snapshot
	if o.Direct = e.init != ""; o.Direct && len(command) == 0 {
		o.Session = e.init
	}
}

// keepFlags are those of a kimg run that only makes a guest to keep.
type keepFlags struct {
	use   string
	took  time.Duration
	index bool
}

// forCheck is the use of a guest for kimg check, whose sshd gets no keys.
const forCheck = "check"

var keepUses = []string{string(vm.ForCommand), forCheck, string(vm.ForConsole), string(vm.ForDebug)}

func (f *keepFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&f.use, "keep", "",
		"only boot a guest and keep it, for later ones to go on from: for `USE`, which is command, check,\n"+
			"console or debug, with the same flags as there")
	flags.DurationVar(&f.took, "keep-boot", 0, "how long it has taken to boot before")
	flags.BoolVar(&f.index, "keep-index", false, "make gdb's index of vmlinux, too")
	for _, name := range []string{"keep-boot", "keep-index"} {
		_ = flags.MarkHidden(name) // they are there
	}
}

func (f *keepFlags) check(command []string, e *extras, write, recorded bool) error {
	switch {
	case f.use == "":
		return nil
	case !slices.Contains(keepUses, f.use):
		return &spec.InputError{Field: "--keep", Err: fmt.Errorf("%q: want one of %v", f.use, keepUses)}
	case len(command) > 0:
		return &spec.InputError{Field: "--keep", Err: errors.New("the guest runs no command")}
	case write || recorded || e.snapshot != "" || e.cold || len(e.sharing)+len(e.qemuArgs) > 0 ||
		e.network.Mode == vm.TAPNet:
		return &spec.InputError{Field: "--keep", Err: errors.New("a guest with --write, --snapshot, --cold, --share, " +
			"--qemu-arg, --record or a TAP boots each time")}
	}
	return nil
}

func (f *keepFlags) only() bool { return f.use != "" || f.index }

// keepGuest makes what later guests begin with, and nothing else.
func keepGuest(ctx context.Context, o vm.Options, f keepFlags) error {
	var late error
	if o.BootLimit > 0 {
		late = fmt.Errorf("keep a guest: it was not done in %v (--timeout); none is kept", o.BootLimit)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.BootLimit, late)
		defer cancel()
	}
	k := vm.Keeping{Use: vm.Use(f.use), Boot: f.took, Index: f.index}
	switch k.Use {
	case forCheck:
		k.Use, o.Keys = vm.ForCommand, nil
	case vm.ForConsole:
		k.Term = o.Term
	}
	err := vm.Keep(ctx, o, k)
	if err != nil && late != nil && errors.Is(context.Cause(ctx), late) {
		return late
	}
	return err
}

// keepLater has what the next guest could begin with be made by another kimg, once a guest has done what it was for.
// Not in CI: a job's end may end what is left running, or wait for it. There a guest is kept itself.
func (g *guest) keepLater(env builder.Env, o *vm.Options, use string) {
	o.KeepItself = o.KeepItself || inCI()
	if inCI() {
		return
	}
	var once sync.Once // of several checks, one
	o.Later = func(o vm.Options, k vm.Keeping) {
		once.Do(func() {
			// What comes of it is in the log, and there is no harm where it is not made.
			_ = startKimg(env.Cache, env.Engine.Engine, k.Term, keepArgs(o, use, k))
		})
	}
}

func inCI() bool { return os.Getenv("CI") != "" && os.Getenv("CI") != "false" }

// keepArgs are the arguments of the kimg that makes it.
func keepArgs(o vm.Options, use string, k vm.Keeping) []string {
	limit := max(5*time.Minute, time.Minute+5*k.Boot) // however slow this guest is, the other is slower
	if k.Use != "" && k.Use != vm.ForCommand {
		use = string(k.Use)
	}
	out, _ := filepath.Abs(o.Dir) // it was there
	args := []string{"run", "--progress", "plain", "--out", out, "--timeout", limit.String(),
		"--keep-boot", k.Boot.String()}
	for _, word := range []struct{ flag, value string }{
		{"--keep", map[bool]string{true: use}[k.Use != ""]},
		{"--append", o.Append}, {"--net", map[bool]string{true: string(vm.NoNet)}[o.Network.Mode == vm.NoNet]},
		{"--init", cmp.Or(o.Session, map[bool]string{true: "sh"}[o.Direct])},
	} {
		if word.value != "" {
			args = append(args, word.flag, word.value)
		}
	}
	if o.Memory != 0 {
		args = append(args, "--memory", o.Memory.String())
	}
	if o.CPUs != 0 {
		args = append(args, "--cpus", strconv.Itoa(o.CPUs))
	}
	if k.Index {
		args = append(args, "--keep-index")
	}
	return args
}

// keepLog is what the kimg in the background says, in the cache directory.
const keepLog = "logs/keep.log"

// startKimg starts another kimg that goes on after this one has ended, and is in no terminal's way.
func startKimg(cache, engine, term string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	name := filepath.Join(cache, keepLog)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	log, err := os.Create(name)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = cache, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append(os.Environ(), "TERM="+term)
	if engine != "" {
		cmd.Env = append(cmd.Env, "KIMG_ENGINE="+engine)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

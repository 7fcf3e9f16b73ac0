package main

import (
	"errors"

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
	if e.cold {
		o.Kept = ""
	}
	o.Shares, o.Network, o.QEMU, o.Snapshot = e.shares, e.network, e.qemuArgs, e.snapshot
	if o.Direct = e.init != ""; o.Direct && len(command) == 0 {
		o.Session = e.init
	}
}

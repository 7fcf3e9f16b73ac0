package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/units"
)

// Options say which guest to boot, where, and how it is connected to the person.
type Options struct {
	Dir    string // the out directory that has the artifacts
	Place  Place
	Memory units.Size // 0: 1 GiB
	CPUs   int        // 0: two, or as many as there are; without qemu.KVM one
	Append string     // added to the kernel's command line
	Write  bool       // keep what the guest writes to its disk, and end it with a clean shutdown

	Snapshot string   // keep it in the snapshot of this name instead, made where there is none
	Direct   bool     // boot without systemd
	Session  string   // with Direct, for Run: the shell command that gets the console
	Shares   []Share  // directories that the guest sees
	Network  Network  // the guest's
	QEMU     []string // words for QEMU, as they are, behind all others
	Keys     *Keys    // for the guest's sshd, which it has; nil: nobody is to log in there

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Console        io.Writer // what the serial console says where it is not the person's; nil drops it
	Term           string    // TERM of the person's terminal

	// Interrupt has the person's Ctrl-C while a command runs: the first goes to the
	// command as SIGINT, the second ends the guest, with ErrInterrupted.
	Interrupt <-chan os.Signal

	BootLimit time.Duration // from start to a guest that heeds; 0: 2 minutes, without qemu.KVM 10
	RunLimit  time.Duration // how long a command may run; 0: for ever, as long as the guest lives
	Say       func(string)  // takes a line for the person, such as why qemu.KVM is not used; nil drops it
}

// defaultMemory is what a guest gets that was not given any.
const defaultMemory = units.Size(1 << 30)

// limits are how long things may take. An emulated guest is some ten times slower.
type limits struct{ boot, silence, powerOff, check time.Duration }

func (o *Options) limits(a qemu.Accel) limits {
	l := limits{boot: 2 * time.Minute, silence: time.Minute, powerOff: 2 * time.Minute, check: 5 * time.Minute}
	if a == qemu.TCG {
		l = limits{boot: 10 * time.Minute, silence: 3 * time.Minute, powerOff: 6 * time.Minute, check: 20 * time.Minute}
	}
	if o.BootLimit > 0 {
		l.boot = o.BootLimit
	}
	return l
}

func (o *Options) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(fmt.Sprintf(format, args...))
	}
}

// read looks for the artifacts, reads what the kernel can do, and checks that it
// can do what is asked for.
func (o *Options) read(more ...string) (Config, error) {
	config, err := artifacts(o.Dir, append([]string{artifact.KernelImage(arch.Default), artifact.Disk}, more...)...)
	if err != nil {
		return nil, err
	}
	if _, err = config.bus(); err != nil {
		return nil, err
	}
	if len(o.Shares) > 0 {
		err = config.need("share a directory", "VIRTIO_PCI", "NET_9P", "NET_9P_VIRTIO", "9P_FS")
	}
	if err == nil && (o.Direct || len(o.Shares) > 0) {
		err = config.agent()
	}
	if err == nil {
		err = o.Network.check(config)
	}
	return config, err
}

// keeps says whether what the guest writes is kept.
func (o *Options) keeps() bool { return o.Write || o.Snapshot != "" }

// disk is the guest's, in the out directory.
func (o *Options) disk() string {
	if o.Snapshot != "" {
		return SnapshotFile(o.Snapshot)
	}
	return artifact.Disk
}

// open readies the place for the artifacts, and for more of them.
func (o *Options) open(ctx context.Context, config Config, more ...string) (_ *Site, err error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	need := Need{Dir: dir, Files: append([]string{artifact.KernelImage(arch.Default), artifact.Disk}, more...)}
	if need.Shares, err = o.shares(); err != nil {
		return nil, err
	}
	link, err := o.Network.open(dir)
	if err != nil {
		return nil, err
	}
	var unlock func()
	defer func() {
		if err != nil {
			link.close()
			if unlock != nil {
				unlock()
			}
		}
	}()
	if o.keeps() {
		need.Write = o.disk()
		unlock, err = o.holdDisk(ctx, dir)
	} else {
		unlock, err = shareDisk(dir)
	}
	if err != nil {
		return nil, err
	}
	site, err := o.Place.Open(ctx, need)
	if err != nil {
		return nil, err
	}
	site.shares, site.link, site.unlock = need.Shares, link, unlock
	if site.guest, err = newGuest(site, dir); err == nil && o.ssh(config) {
		err = link.openDoor(site)
	}
	if err != nil {
		return nil, errors.Join(err, site.Close(ctx))
	}
	if site.Accel == qemu.TCG {
		o.say("no KVM (%s): the guest is emulated, some ten times slower", site.Why)
	}
	if o.Network.Mode == TAPNet {
		o.say("the guest on %s: ping %s%%%[1]s", o.Network.TAP, linkLocal(link.mac))
	}
	return site, nil
}

// devices are what every guest of these options has.
func (o *Options) devices(config Config, site *Site, terminal Terminal) []qemu.Device {
	bus, _ := config.bus() // read has asked
	memory, cpus := o.Memory, o.CPUs
	if memory == 0 {
		memory = defaultMemory
	}
	if cpus == 0 {
		cpus = min(2, runtime.NumCPU())
		if site.Accel == qemu.TCG {
			// QEMU 10's translator aborts now and then when several processors boot
			// (an assertion in iotlb_to_section): not for who did not ask for them.
			cpus = 1
		}
	}
	line := Cmdline{Bus: bus, Terminal: terminal, Shares: site.shares, Keys: site.link.door != nil, Extra: o.Append}
	card, hasCard := site.link.device(config, site)
	if o.Direct {
		_, user := card.(qemu.UserNet)
		line.Direct = &Direct{Command: o.Session, UserNet: user}
	}
	devices := []qemu.Device{
		qemu.CPU{Model: arch.Default.CPU, Count: cpus}, qemu.Memory(memory),
		qemu.Kernel{Image: site.Path(artifact.KernelImage(arch.Default)), Append: line.String()},
		qemu.Disk{Image: site.Path(o.disk()), Bus: bus, Write: o.keeps()},
	}
	if hasCard {
		devices = append(devices, card)
	}
	for n, share := range site.shares {
		devices = append(devices, qemu.NineP{Tag: shareTag(n), Dir: site.sharePath(n), Write: share.Write})
	}
	return append(devices, qemu.Verbatim(o.QEMU))
}

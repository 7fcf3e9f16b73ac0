// Package vm boots the guests of an out directory and works with them: begin with [Options]
// and [Run] (its serial console), [Exec] (a command), [SSH], [Debug] (under gdb) or
// [RunCheck]. [RunningGuests] and [Attach] are for guests of other processes, [Describe] for
// those that boot without kimg. How QEMU and gdb are spoken to, and where they run, is in
// packages qemu, gdb and toolbox.
package vm

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/units"
)

// Options say which guest to boot, with what, and how it is connected to the user.
type Options struct {
	Dir     string          // the out directory that has the artifacts
	Arch    arch.Arch       // the architecture; zero: the default
	Toolbox toolbox.Toolbox // where QEMU and gdb run
	Memory  units.Size      // 0: 1 GiB
	CPUs    int             // 0: two, or as many as there are; without KVM one
	Append  string          // added to the kernel's command line
	Write   bool            // keep what the guest writes to its disk, and end it with a clean shutdown

	Snapshot string   // keep it in the snapshot of this name instead, made where there is none
	Direct   bool     // boot without systemd
	Session  string   // with Direct, for Run: the shell command that gets the console
	Shares   []Share  // directories that the guest sees
	Network  Network  // the guest's
	QEMU     []string // the user's own arguments for QEMU
	Keys     *Keys    // for the guest's sshd; nil: there is no login

	User
	Kept string // the directory of guests that have booted and are kept for later; empty: there are none
	// KeepItself has a guest of a command that boots be kept itself, before the command.
	KeepItself bool
	// Later is called once a guest has done what it was for, where the next one could begin with more than is kept: it
	// begins to make that, and does not wait. May be nil.
	Later   func(Options, Keeping)
	Console io.Writer    // what the serial console says where it is not the user's; nil drops it
	Watch   io.Writer    // gets what the serial console says in any case, and never fails; may be nil
	Say     func(string) // receives a line for the user, such as why KVM is not used; nil drops it

	Cold bool // it boots, whatever is kept

	form form.Form // of the root filesystem, once it has been read
	use  Use       // what is done with the guest, where that can begin in a kept one; empty: it boots
	// terminal is the user's, where the guest's console is on it.
	terminal Terminal
	alone    bool          // it is booted only to be kept
	took     time.Duration // how long such a one took before
}

// User is how a guest, or a login to one, is connected to the user, and how long it may take.
type User struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Term           string // TERM of the user's terminal

	// Interrupt has the user's Ctrl-C: the first goes to the command as SIGINT, the second ends the guest.
	Interrupt <-chan os.Signal

	BootLimit time.Duration // from the start until the guest's agent answers; 0: 2 minutes, without KVM 10
	RunLimit  time.Duration // how long a command may run; 0: as long as the guest lives
}

// defaultMemory is what a guest gets by default.
const defaultMemory = units.Size(1 << 30)

// limits are how long things may take. An emulated guest is some ten times slower.
type limits struct{ boot, silence, powerOff, check time.Duration }

func (u *User) limits(a qemu.Accel) limits {
	l := limits{boot: 2 * time.Minute, silence: time.Minute, powerOff: 2 * time.Minute, check: 5 * time.Minute}
	if a == qemu.TCG {
		l = limits{boot: 10 * time.Minute, silence: 3 * time.Minute, powerOff: 6 * time.Minute, check: 20 * time.Minute}
	}
	if u.BootLimit > 0 {
		l.boot = u.BootLimit
	}
	return l
}

func (o *Options) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(fmt.Sprintf(format, args...))
	}
}

func (o *Options) arch() arch.Arch { return cmp.Or(o.Arch, arch.Default) }

// keeps says whether what the guest writes is kept.
func (o *Options) keeps() bool { return o.Write || o.Snapshot != "" }

func (o *Options) disk() string {
	if o.Snapshot != "" {
		return SnapshotFile(o.Snapshot)
	}
	return artifact.Disk
}

// wants are what is wanted of a build, besides what every guest wants.
type wants struct {
	agent bool     // the kernel lets the guest's agent be reached
	debug bool     // gdb knows more of it than addresses
	files []string // artifacts that must be there
}

// read looks for the artifacts, reads what the kernel can do, and checks that it can do what is requested.
func (o *Options) read(n wants) (Config, error) {
	config, err := o.readForm(n.files)
	if err != nil {
		return nil, err
	}
	if err = config.need(o.form.Boot()...); err != nil {
		return nil, err
	}
	if len(o.Shares) > 0 {
		err = config.need(needs.Share)
	}
	if err == nil && (n.agent || o.Direct || len(o.Shares) > 0) {
		err = config.agent()
	}
	if err == nil && n.debug {
		err = config.need(needs.Debug)
	}
	if err == nil {
		err = o.Network.check(config)
	}
	return config, err
}

// machine is the guest's, as far as it does not depend on this machine. QEMU uses the first accelerator that works.
func (o *Options) machine(config Config, accel ...qemu.Accel) Machine {
	bus, _ := config.bus() // read has checked it
	m := Machine{
		Arch: o.arch(), Accel: accel, Memory: cmp.Or(o.Memory, defaultMemory), CPUs: o.CPUs,
		Form: o.form, Bus: bus, Disk: o.disk(), Write: o.keeps(), QEMU: o.QEMU,
		Kernel: Cmdline{Arch: o.arch(), Console: o.arch().Console, Form: o.form, Root: bus.Root(), Extra: o.Append,
			KeepPanics: o.use == ForDebug, Terminal: o.terminal},
	}
	if !o.form.OnDisk() {
		m.Bus, m.Disk = "", ""
	}
	if m.CPUs == 0 {
		m.CPUs = min(2, runtime.NumCPU())
		if accel[len(accel)-1] == qemu.TCG {
			// QEMU 10's translator aborts at times when several processors boot (an assertion in iotlb_to_section).
			m.CPUs = 1
		}
	}
	if o.Direct {
		m.Kernel.Direct = &Direct{Command: o.Session}
	}
	return m
}

// Describe returns the machine that Run boots, for those who boot it without kimg: with the artifacts in the working
// directory, KVM where it works, else TCG, and as many processors as a guest under TCG.
func Describe(dir string) (Machine, Config, error) {
	o := Options{Dir: dir, Arch: artifact.ArchOf(dir)}
	config, err := o.read(wants{})
	if err != nil {
		return Machine{}, nil, err
	}
	accel := []qemu.Accel{qemu.KVM, qemu.TCG}
	if o.Arch != arch.AMD64 { // the others' processors are for TCG
		accel = accel[1:]
	}
	m := o.machine(config, accel...)
	m.Dir, m.Serial = ".", qemu.Serial{Monitor: true}
	if model := config.card(UserNet); model != "" {
		m.Card = qemu.UserNet{Card: qemu.Card{Model: model}}
	}
	return m, config, nil
}

// ssh says whether guests get keys for their sshd: the kernel can take them, and has a network.
func (o *Options) ssh(c Config) bool {
	return o.Keys != nil && o.Network.Mode != NoNet && c.agent() == nil && c.card(o.Network.Mode) != ""
}

// agentPorts are those that an agent that is init waits for: it would end without them, and the kernel panic.
func (o *Options) agentPorts() []string {
	if !o.Direct {
		return nil
	}
	return []string{guest.Control, guest.Login}
}

// interruptible ends do with ErrInterrupted at the user's Ctrl-C.
func (u *User) interruptible(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		select {
		case <-u.Interrupt:
			cancel(ErrInterrupted)
		case <-ctx.Done():
		}
	}()
	err := do(ctx)
	cancel(nil)
	<-heard // a later Ctrl-C is for what comes next
	return err
}

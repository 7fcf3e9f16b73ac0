package vm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm/kept"
)

// A guest that has booted is kept: it is stopped for a moment, before it gets a command, and what it is made of is
// written to files. Later guests of the same key go on from there. Which guest that is, the options say: one that
// boots only to be kept (Keep), after the first one has done what it was for, so that nobody waits (Later); or the
// first one itself (KeepItself), whose command then waits for a second or three. Keeping a guest at its end would
// keep what was done in it.
//
// Before, the agent gets the guest ready ("rest"); after, it makes anew what must be each guest's own ("wake"), in the
// first guest too: both go the same way.

// keptPorts are those that every kept guest has, whatever it is used for: one serves all.
var keptPorts = append(commandPorts[:len(commandPorts):len(commandPorts)], guest.Login)

// keeping is what a guest has to do with a kept one. A nil one is of a guest that just boots.
type keeping struct {
	reads []steps.Fact
	later bool       // it is neither: another one is kept when it has ended
	accel qemu.Accel // what is expected to run it

	guest    *kept.Guest // it goes on from this one
	verified chan error
	cancel   context.CancelFunc // ends verifying
	monitor  *qemu.Monitor      // QEMU has its state, and waits

	making *kept.Pending // it becomes this one
	saved  sync.WaitGroup
	failed error // why it does not; read it when the guest has been closed
}

// staleError says that a kept guest cannot be used. Nothing of what was asked for has been done in it.
type staleError struct {
	guest *kept.Guest
	err   error
}

func (e *staleError) Error() string { return fmt.Sprintf("the kept guest cannot be used (%v)", e.err) }

func (e *staleError) Unwrap() error { return e.err }

func (e *staleError) drop() error {
	_ = e.guest.Drop() // a cache that cannot be written to says so elsewhere
	return nil
}

// keeping looks for a kept guest of these options, or gets ready to make one; nil: neither.
func (o *Options) keeping(ctx context.Context, config Config) (*keeping, error) {
	if o.Kept == "" || o.Cold || o.use == "" || config.agent() != nil {
		return nil, nil
	}
	for _, device := range []struct {
		there bool
		what  string
	}{{len(o.Shares) > 0, "shared directories"}, {o.Network.Mode == TAPNet, "a TAP"},
		{o.Snapshot != "", "a snapshot"}, {o.Write, "writes that are kept"}, {len(o.QEMU) > 0, "a --qemu-arg"},
		{!o.form.OnDisk(), "an initramfs"}} {
		if device.there {
			o.say("a guest with %s boots each time: it is not kept", device.what)
			return nil, nil
		}
	}
	probe := qemu.ProbeOwn
	if _, image := o.Toolbox.QEMU(); image != "" { // in a container there is KVM alone
		probe = qemu.ProbeKVM
	}
	if probe(o.arch()) == nil {
		return nil, nil // what a processor has told a guest is in no key yet, and with KVM a boot is short
	}
	k := &keeping{accel: qemu.TCG}
	var err error
	if k.reads, err = o.keptReads(config, k.accel); err != nil || k.reads == nil {
		return nil, err
	}
	store, key := kept.Store(o.Kept), kept.Key(k.reads)
	g, ok, err := o.find(ctx, store, key)
	switch {
	case err != nil:
		return nil, err
	case ok:
		k.guest, k.verified = g, make(chan error, 1)
		ctx, k.cancel = context.WithCancel(ctx)
		go func() { k.verified <- g.Verify(ctx) }()
		return k, nil
	case !o.alone && (!o.KeepItself || o.use != ForCommand):
		_, made := store.Maker(key)
		k.later = !made && !store.Refused(key)
		return k, nil
	}
	k.making, err = store.Make(key, kept.Maker{Aside: o.alone, Boot: o.took})
	switch {
	case errors.Is(err, filelock.ErrHeld) && o.alone:
		return nil, errMaking
	case errors.Is(err, filelock.ErrHeld):
		return nil, nil
	case err != nil && o.alone: // it is all that was asked for
		return nil, err
	case err != nil:
		o.say("%v", err)
		return nil, nil
	}
	return k, nil
}

// errMaking says that another process makes the kept guest.
var errMaking = errors.New("another kimg makes it")

// keptReads is all that a booted guest depends on; nil: it cannot be told.
func (o *Options) keptReads(config Config, accel qemu.Accel) ([]steps.Fact, error) {
	file, image := o.Toolbox.QEMU()
	if file == "" && image == "" {
		return nil, nil
	}
	reads := []steps.Fact{{Name: "QEMU's image", Value: image}}
	for _, f := range []struct{ name, file string }{
		{"QEMU", file},
		{"kernel", filepath.Join(o.Dir, artifact.KernelImage(o.arch()))},
		{"disk", filepath.Join(o.Dir, artifact.Disk)},
	} {
		id := ""
		if f.file != "" {
			var err error
			if id, err = kept.FileID(f.file); err != nil {
				return nil, err
			}
		}
		reads = append(reads, steps.Fact{Name: f.name, Value: id})
	}
	if o.ssh(config) {
		for _, key := range []ssh.Signer{o.Keys.Host, o.Keys.User} {
			reads = append(reads, steps.Fact{Name: "ssh key", Value: ssh.FingerprintSHA256(key.PublicKey())})
		}
	}
	argv := o.keptMachine(config, accel).Argv()
	return append(reads, steps.Fact{Name: "machine", Value: strings.Join(argv, "\n")}), nil
}

// keptMachine is the guest's machine without what is another one each time: directories, sockets, ports of the host.
func (o *Options) keptMachine(config Config, accel qemu.Accel) Machine {
	m := o.machine(config, accel)
	m.Kernel.Terminal.Size = terminal.Size{} // the agent sets it
	m.RAM, m.QMP = qemu.SharedMemory{Size: m.Memory, File: kept.RAM}, qmpSocket
	ports := qemu.Ports{Names: keptPorts, Socket: func(name string) string { return name }}
	if m.Kernel.Keys = o.ssh(config); m.Kernel.Keys {
		ports.Names = append(ports.Names[:len(ports.Names):len(ports.Names)], guest.Keys)
	}
	if model := config.card(o.Network.Mode); model != "" && o.Network.Mode != NoNet {
		m.Card = qemu.UserNet{Card: qemu.Card{Model: model}}
	}
	if m.Kernel.Direct != nil {
		m.Kernel.Direct.UserNet = m.Card != nil
	}
	m.More = append(keptDevices(config), ports)
	return m
}

// keptDevices are those that a guest has because it is kept.
func keptDevices(config Config) []qemu.Device {
	if config["VMGENID"] == "y" {
		return []qemu.Device{qemu.VMGenID{}}
	}
	return nil
}

// dir is the directory of the kept guest's files.
func (k *keeping) dir() (dir string, write bool) {
	switch {
	case !k.used():
		return "", false
	case k.guest != nil:
		return k.guest.Dir, false
	}
	return k.making.Dir, true
}

// files are where QEMU finds them.
func (k *keeping) files(tools *toolbox.Tools) qemu.KeptFiles {
	at := func(name string) string { return tools.Kept + "/" + name }
	return qemu.KeptFiles{RAM: at(kept.RAM), Devices: at(kept.Devices), Disk: at(kept.Disk)}
}

// join makes a machine one that is kept, or was.
func (k *keeping) join(m *Machine, config Config, tools *toolbox.Tools) {
	switch {
	case !k.used():
		return
	case tools.Accel != k.accel, // the key is of another guest
		k.making != nil && tools.Memory == "": // nowhere to take its RAM from
		k.close()
		k.guest, k.making = nil, nil
		return
	case k.making != nil:
		m.RAM = qemu.SharedMemory{Size: m.Memory, File: tools.Memory}
	default:
		files := k.files(tools)
		m.RAM = qemu.KeptMemory{Size: m.Memory, File: files.RAM, ReadOnly: k.guest.QEMU.MapsReadOnly()}
		m.Over = files.Disk
		m.More = append(m.More, qemu.Incoming{})
	}
	m.More = append(m.More, keptDevices(config)...)
}

// used says whether the guest is kept, or was.
func (k *keeping) used() bool { return k != nil && (k.guest != nil || k.making != nil) }

// warm says whether the guest goes on from a kept one.
func (k *keeping) warm() bool { return k != nil && k.guest != nil }

// settle waits for what is still written.
func (k *keeping) settle() {
	if k != nil {
		k.saved.Wait()
	}
}

// close gives up what is not done.
func (k *keeping) close() {
	if k == nil {
		return
	}
	if k.cancel != nil {
		k.cancel()
	}
	if k.monitor != nil {
		k.monitor.Close()
	}
	if k.making != nil {
		_ = k.making.Close() // the next one sweeps it
	}
}

// restore has QEMU read the state of the guest that goes on, and wait.
func (vm *instance) restore(ctx context.Context) error {
	k := vm.keeping
	if !k.warm() {
		return nil
	}
	alive, stop := vm.whileUp(ctx)
	defer stop()
	up, cancel := context.WithTimeoutCause(alive, wakeLimit, errSlow)
	defer cancel()
	conn, err := vm.tools.Dial(up, qmpSocket)
	if err == nil {
		k.monitor, err = qemu.OpenMonitor(up, conn, "go on with a guest")
	}
	if err == nil {
		err = k.monitor.Restore(up, k.files(vm.tools))
	}
	return vm.stale(ctx, err)
}

// wakeLimit is how long it may take to go on with a guest, and how long one that is to be kept may wait for its keys.
const wakeLimit = time.Minute

// loginLimit is how long the first guest may wait for the login on its console.
const loginLimit = 10 * time.Second

// stale is the error of a kept guest that does not go on.
func (vm *instance) stale(ctx context.Context, err error) error {
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, ErrInterrupted):
		return err
	case vm.waitEnd(ctx, time.Second):
		err = vm.endError(ctx)
	}
	return &staleError{guest: vm.keeping.guest, err: err}
}

// ready waits for the guest's agent. A kept guest goes on before that, and one that is to be kept is so after it.
func (vm *instance) ready(ctx context.Context, a *agent) error {
	k := vm.keeping
	if k.warm() {
		return vm.stale(ctx, vm.wake(ctx, a))
	}
	if err := a.awaitReady(ctx, vm.o.Interrupt); err != nil {
		return err
	}
	vm.up(a.rests)
	switch {
	case !k.used():
		return nil
	case !a.rests:
		k.failed = errors.New("its image was built by a kimg that kept no guests")
		return nil
	}
	return vm.keep(ctx, a)
}

// up notes that the guest has booted, and whether its agent can get it ready to be kept.
func (vm *instance) up(rests bool) {
	vm.rests, vm.took = rests, time.Since(vm.started)
}

// wake lets the kept guest go on, once it is known to be whole.
func (vm *instance) wake(ctx context.Context, a *agent) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wakeLimit, errSlow)
	defer cancel()
	k := vm.keeping
	select {
	case err := <-k.verified:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// A report tells of the boot, too. Not before: one that cannot be used would tell it twice, with the boot that
	// comes then.
	prompt := vm.console.recall(k.guest.ConsoleText(), vm.o.use == ForConsole)
	// It waits for this line. It is there already when the guest begins to run.
	if err := a.say("%s", vm.wakeLine(k.guest.Made)); err != nil {
		return errGone
	}
	if err := k.monitor.Do(ctx, "cont", nil, nil); err != nil {
		return err
	}
	k.monitor.Close()
	k.monitor = nil
	err := a.awaitReady(ctx, vm.o.Interrupt)
	if err == nil && vm.o.use == ForConsole {
		// The kernel says there, before the agent is ready, that the guest was kept; where it is quiet, nothing.
		vm.awaitCursor(ctx, time.Second, func(column int, still time.Duration) bool {
			return column == 0 && still > 20*time.Millisecond || still > 200*time.Millisecond
		})
		prompt()
	}
	return err
}

// wakeLine is what a guest needs that goes on: package guest says in which order.
func (vm *instance) wakeLine(made time.Time) string {
	var random [80]byte
	_, _ = rand.Read(random[:]) // it never fails
	seed, machine := random[:64], random[64:]
	machine[6], machine[8] = machine[6]&0x0f|0x40, machine[8]&0x3f|0x80 // RFC 9562, version 4
	now := time.Now()
	return fmt.Sprintf("wake %d %d %x %x %d", now.Unix(), now.Nanosecond(), seed, machine,
		max(0, int(now.Sub(made).Seconds())))
}

// keep keeps the guest, whose agent is ready, and has it go on. That it cannot be kept is no error.
func (vm *instance) keep(ctx context.Context, a *agent) error {
	if vm.link.ssh != nil {
		select { // without its keys, the guest would be another one
		case <-vm.keyed:
		case <-time.After(wakeLimit):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if vm.login != nil && (!vm.o.Direct || vm.o.Session != "") {
		// Else each guest that goes on would log in, beside its command. An image may have no login.
		limit := loginLimit
		if vm.o.alone { // nobody waits
			limit = wakeLimit
		}
		select {
		case <-vm.login:
		case <-time.After(limit):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	_ = a.say("rest") // a guest that is gone ends the lines
	timed, cancel := context.WithTimeoutCause(ctx, vm.limits.silence, errSilent)
	defer cancel()
	answer, err := a.awaitLine(timed, vm.o.Interrupt, "resting", "restless ")
	if err != nil {
		return err
	}
	k := vm.keeping
	if why, no := strings.CutPrefix(answer, "restless "); no {
		k.failed = fmt.Errorf("it could not %.200q", why)
		vm.o.say("the booted guest is not kept: %v", k.failed)
		return nil
	}
	if vm.o.use == ForConsole {
		// Behind a prompt, and not amid a line of the kernel's.
		vm.awaitCursor(ctx, loginLimit, func(column int, still time.Duration) bool {
			return column > 0 && still > 300*time.Millisecond
		})
	}
	if err := vm.save(ctx); err != nil {
		if ctx.Err() != nil || vm.ended() {
			return err
		}
		k.failed = err
		vm.o.say("the booted guest is not kept: %v", err)
	}
	if vm.o.alone {
		return nil
	}
	_ = a.say("%s", vm.wakeLine(time.Now()))
	return a.awaitReady(ctx, vm.o.Interrupt)
}

// awaitCursor waits until the console's cursor is where it should be, for as long as limit.
func (vm *instance) awaitCursor(ctx context.Context, limit time.Duration, there func(int, time.Duration) bool) {
	for late := time.After(limit); !there(vm.console.cursor()); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// save writes the guest's files, and has them kept while the guest goes on.
func (vm *instance) save(ctx context.Context) error {
	k := vm.keeping
	conn, err := vm.connect(ctx, qmpSocket)
	if err != nil {
		return err
	}
	m, err := qemu.OpenMonitor(ctx, conn, "keep a guest")
	if err != nil {
		return err
	}
	defer m.Close()
	about := kept.About{Reads: k.reads}
	if about.QEMU, err = m.Version(ctx); err != nil {
		return err
	}
	disk, err := os.Stat(filepath.Join(vm.o.Dir, artifact.Disk))
	if err != nil {
		return err
	}
	files := k.files(vm.tools)
	if err := m.Save(ctx, files, disk.Size(), func() error { return vm.takeRAM(ctx, files.RAM) }); err != nil {
		return err
	}
	console := vm.console.first()
	k.saved.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit) // the command goes on meanwhile
		defer cancel()
		if k.failed = k.making.Commit(ctx, about, console); k.failed != nil {
			vm.o.say("%v", k.failed)
		}
	})
	return nil
}

// commitLimit is how long the end of a guest may wait until it is kept.
const commitLimit = time.Minute

// takeRAM copies the memory of the guest that is kept. cp leaves holes for zeros.
func (vm *instance) takeRAM(ctx context.Context, file string) error {
	said := &tail{}
	wait, err := vm.tools.Start(ctx, toolbox.Program{
		Args: []string{"cp", "--sparse=always", vm.tools.Memory, file}, Stdout: io.Discard, Stderr: said})
	if err != nil {
		return err
	}
	if err := wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.Join(said.lines(), "; "))
	}
	return nil
}

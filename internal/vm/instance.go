package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/toolbox"
)

// instance is a guest that is prepared, runs or has ended.
type instance struct {
	o       *Options
	config  Config
	machine Machine
	limits  limits
	tools   *toolbox.Tools
	link    *link         // the host's side of its network
	entry   *RunningGuest // what other kimgs read
	unlock  func()        // its disk
	keeping *keeping      // as what it is kept, or was; nil: it is neither

	console *tail
	said    *tail         // what QEMU itself said
	done    chan struct{} // closed when QEMU has ended
	err     error         // QEMU's end; read it after done
	clean   bool          // the guest was seen to shut down
	started time.Time     // when QEMU was
	rests   bool          // the guest can be kept
	took    time.Duration // how long it has booted; 0: it did not
	keyed   chan struct{} // closed once the guest has taken its keys
	login   chan struct{} // closed once a shell has logged in on the console of a guest that is to be kept
	kill    context.CancelFunc
}

// The sockets that are not ports.
const (
	qmpSocket = "qmp"
	gdbSocket = "gdb"
)

// with prepares a guest, has use boot it and work with it, and ends it. files are artifacts that programs need to see.
// Where a kept guest cannot be used, use is called again with one that boots.
func (o *Options) with(ctx context.Context, config Config, files []string, use func(*instance) error) error {
	err := o.once(ctx, config, files, use)
	var stale *staleError
	if !errors.As(err, &stale) || ctx.Err() != nil {
		return err
	}
	o.say("%v: it boots", stale)
	cold := *o
	cold.Kept = ""
	return errors.Join(cold.once(ctx, config, files, use), stale.drop())
}

func (o *Options) once(ctx context.Context, config Config, files []string, use func(*instance) error) (err error) {
	vm, err := o.prepare(ctx, config, files)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, vm.close(ctx)); err == nil {
			vm.leave()
		}
	}()
	return vm.settle(ctx, use(vm))
}

func (o *Options) prepare(ctx context.Context, config Config, files []string) (_ *instance, err error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	shares, err := resolve(o.Shares)
	if err != nil {
		return nil, err
	}
	mounts := toolbox.Mounts{
		Dir: dir, Files: append([]string{artifact.KernelImage(o.arch()), o.form.File()}, files...),
	}
	for _, share := range shares {
		mounts.Shares = append(mounts.Shares, toolbox.Share{Dir: share.Dir, Write: share.Write})
	}
	vm := &instance{o: o, config: config, keyed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, vm.close(ctx))
		}
	}()
	if vm.link, err = o.Network.open(dir); err != nil {
		return nil, err
	}
	if o.keeps() {
		mounts.Write = o.disk()
		vm.unlock, err = holdDisk(ctx, dir, o.Snapshot, o.say)
		if errors.Is(err, ErrDiskInUse) && o.Kept != "" { // by one that nobody waits for, perhaps
			endKeeping(ctx, o.Kept)
			vm.unlock, err = holdDisk(ctx, dir, o.Snapshot, o.say)
		}
	} else {
		vm.unlock, err = shareDisk(dir)
	}
	if err != nil {
		return nil, err
	}
	if vm.keeping, err = o.keeping(ctx, config); err != nil {
		return nil, err
	}
	mounts.Kept, mounts.Keep = vm.keeping.dir()
	if vm.tools, err = o.Toolbox.Open(ctx, mounts); err != nil {
		return nil, err
	}
	vm.entry = newEntry(vm.tools, dir)
	if o.ssh(config) {
		if err := vm.link.openSSH(vm.tools); err != nil {
			return nil, err
		}
	}
	vm.limits = o.limits(vm.tools.Accel)
	vm.machine = o.machine(config, vm.tools.Accel)
	vm.keeping.join(&vm.machine, config, vm.tools)
	vm.machine.Dir, vm.machine.QMP = vm.tools.Dir, vm.tools.Socket(qmpSocket)
	vm.machine.Kernel.Shares, vm.machine.Kernel.Keys = shares, vm.link.ssh != nil
	for n, dir := range vm.tools.Shares {
		vm.machine.Shares = append(vm.machine.Shares, qemu.NineP{Tag: shareTag(n), Dir: dir, Write: shares[n].Write})
	}
	if vm.tools.Accel == qemu.TCG {
		own := qemu.Own
		if vm.tools.Isolated {
			own = qemu.KVM
		}
		o.say("no %s (%s): the guest is emulated, some ten times slower", own.Title(), vm.tools.NoKVM)
	}
	guest := needs.On(o.arch().ConsoleY, needs.Guest)
	if o.Direct {
		guest = slices.DeleteFunc(slices.Clone(guest), func(n needs.Need) bool { return n.What == needs.Systemd.What })
	}
	for _, l := range needs.Lacks(config.get, guest...) {
		o.say("%s", lackNotice(l))
	}
	if o.Network.Mode == TAPNet {
		o.say("the guest on %s: ping %s%%%[1]s", o.Network.TAP, linkLocal(vm.link.mac))
	}
	return vm, nil
}

func (vm *instance) close(ctx context.Context) (err error) {
	if vm.done != nil {
		vm.quit()
	}
	if vm.link != nil {
		vm.link.close()
	}
	vm.keeping.settle()
	if vm.tools != nil {
		err = vm.tools.Close(ctx)
	}
	if vm.unlock != nil {
		vm.unlock()
	}
	vm.keeping.close()
	return err
}

// guestIO is how a guest is connected.
type guestIO struct {
	stdin   io.Reader // to the serial console; nil: none
	mute    func()    // ends a Read of stdin that waits; called at QEMU's end; nil: none would
	console io.Writer // what the serial console says; nil: only kept for an error
	ports   []string  // virtio-serial ports
}

func (vm *instance) boot(ctx context.Context, to guestIO) error {
	vm.machine.Card = vm.link.device(vm.config, vm.tools)
	if vm.machine.Kernel.Direct != nil {
		_, vm.machine.Kernel.Direct.UserNet = vm.machine.Card.(qemu.UserNet)
	}
	used := to.ports
	if vm.keeping.used() {
		to.ports = keptPorts
	}
	if vm.link.ssh != nil {
		to.ports = append(to.ports[:len(to.ports):len(to.ports)], guest.Keys)
	}
	if len(to.ports) > 0 {
		vm.machine.More = append(vm.machine.More, qemu.Ports{Names: to.ports, Socket: vm.tools.Socket})
	}
	// The last byte of the kernel's buffer is a zero; it cuts off the rest.
	if n, most := len(vm.machine.Kernel.String()), vm.machine.Arch.Cmdline-1; n > most {
		return fmt.Errorf("boot: the kernel's command line has %d bytes, and the kernel takes %d: "+
			"use fewer shares, shorter places, or less --append", n, most)
	}
	running, kill := context.WithCancel(ctx)
	vm.kill, vm.console, vm.said = kill, &tail{also: to.console, watch: vm.o.Watch}, &tail{}
	if to.mute != nil {
		context.AfterFunc(running, to.mute)
	}
	argv := vm.machine.Argv()
	if vm.o.alone {
		argv = append([]string{"nice", "-n", "5"}, argv...)
	}
	vm.started = time.Now()
	wait, err := vm.tools.Start(running, toolbox.Program{
		Args: argv, Stdin: to.stdin, Stdout: vm.console, Stderr: vm.said})
	if err != nil {
		kill()
		return err
	}
	vm.done = make(chan struct{})
	var aside sync.WaitGroup
	// Their errors say less than the end of QEMU.
	aside.Go(func() { _ = vm.link.serve(running, vm.tools) })
	if vm.link.ssh != nil {
		aside.Go(func() { vm.giveKeys(running) })
	}
	if vm.keeping.used() && !slices.Contains(used, guest.Login) {
		vm.login = make(chan struct{})
		go vm.drop(running, guest.Login, sync.OnceFunc(func() { close(vm.login) }))
	}
	go func() {
		defer close(vm.done)
		vm.err = wait()
		kill()
		aside.Wait()
	}()
	return vm.restore(ctx)
}

func (vm *instance) connect(ctx context.Context, name string) (*net.UnixConn, error) {
	ctx, cancel := vm.whileUp(ctx)
	defer cancel()
	conn, err := vm.tools.Dial(ctx, name)
	if err != nil && vm.ended() {
		return nil, vm.endError(ctx)
	}
	return conn, err
}

// whileUp is a context that ends with ctx and with the guest: then errGone is its cause.
func (vm *instance) whileUp(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-vm.done:
			cancel(errGone)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (vm *instance) ended() bool {
	select {
	case <-vm.done:
		return true
	default:
		return false
	}
}

// endError is why QEMU ended when it should not have.
func (vm *instance) endError(ctx context.Context) error {
	<-vm.done
	if ctx.Err() != nil && context.Cause(ctx) != context.Canceled {
		return context.Cause(ctx)
	}
	if err := vm.console.panic(); err != nil {
		return err
	}
	console := vm.console.lines()
	if vm.err == nil {
		return &GuestError{What: "the guest ended by itself", Console: console}
	}
	if toolbox.WasKilled(vm.err) {
		return &GuestError{
			What: "QEMU was killed: by a user or, for lack of memory, by the system", Console: console, Err: vm.err}
	}
	what := fmt.Sprintf("QEMU ended: %v", vm.err)
	if said := vm.said.lines(); len(said) > 0 {
		what += ": " + strings.TrimPrefix(said[len(said)-1], vm.machine.Arch.QEMU+": ")
	}
	if _, ran := toolbox.ExitStatus(vm.err); ran && len(console) == 0 {
		return &StartError{What: what, Err: vm.err} // the guest did not come to say a word
	}
	return &GuestError{What: what, Console: console, Err: vm.err}
}

// hung is the error of a guest that did not do in time what it should.
func (vm *instance) hung(what string) error {
	return &GuestError{What: what, Console: vm.console.lines()}
}

// quit ends QEMU at once, and with it what the guest has not written out.
func (vm *instance) quit() {
	vm.kill()
	<-vm.done
}

// powerOff asks the agent, on control, and presses the power button: a guest obeys one of the two.
func (vm *instance) powerOff(ctx context.Context, control io.Writer, limit time.Duration) error {
	if vm.ended() {
		return nil
	}
	_, err := io.WriteString(control, "poweroff\n")
	_, noButton := vm.order(ctx, "system_powerdown", nil)
	err = errors.Join(err, noButton)
	if vm.waitEnd(ctx, limit) {
		vm.clean = vm.err == nil // else QEMU was killed meanwhile
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(vm.hung(fmt.Sprintf("the guest did not shut down in %v", limit)), err)
}

// hurry is how long a guest may take to shut down that the user has interrupted.
const hurry = 10 * time.Second

// part shuts the guest down that err has left running, where its writes are kept. A Ctrl-C ends the wait.
func (vm *instance) part(ctx context.Context, control io.Writer, err error) {
	limit := vm.limits.powerOff
	switch {
	case !vm.o.keeps():
		return
	case errors.Is(err, ErrInterrupted):
		limit = hurry
	case !errors.Is(err, errLong):
		return
	}
	_ = vm.o.interruptible(ctx, func(ctx context.Context) error { return vm.powerOff(ctx, control, limit) })
}

// settle ends the guest and has the disk checked that its writes are kept on, and joins what came of that to err.
func (vm *instance) settle(ctx context.Context, err error) error {
	if vm.done == nil {
		return err
	}
	vm.quit()
	if !vm.o.keeps() {
		return err
	}
	limit := fsckLimit
	if ctx.Err() != nil || errors.Is(err, ErrInterrupted) {
		limit = hurriedFsck
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if !vm.clean { // e2fsck must not meet a QEMU that still writes
		if bad := vm.tools.Kill(ctx); bad != nil {
			return errors.Join(err, fmt.Errorf("check %s: %w", vm.o.disk(), bad))
		}
	}
	return errors.Join(err, vm.o.checkDisk(ctx, vm.tools, vm.clean))
}

func (vm *instance) waitEnd(ctx context.Context, limit time.Duration) bool {
	select {
	case <-vm.done:
		return true
	case <-time.After(limit):
	case <-ctx.Done():
	}
	return vm.ended()
}

// order runs a QMP command and returns QEMU's answer, or nothing where QEMU has ended.
func (vm *instance) order(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	alive, stop := vm.whileUp(ctx)
	defer stop()
	up, cancel := context.WithTimeoutCause(alive, qemu.StartLimit, errors.New("QEMU did not start to listen"))
	defer cancel()
	conn, err := vm.tools.Dial(up, qmpSocket)
	var answer json.RawMessage
	if err == nil {
		answer, err = qemu.Execute(alive, conn, command, arguments)
	}
	switch {
	case err == nil || vm.ended():
		return answer, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, err
}

// sessionEnd is the error of a guest that the user ended: nil where that was by poweroff or by Ctrl-a x.
func (vm *instance) sessionEnd(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := vm.endError(ctx)
	var guest *GuestError
	if errors.As(err, &guest) && guest.Err == nil && !guest.panicked {
		return nil
	}
	return err
}

// listen drops what the guest writes to ports that nothing else reads: its shell would wait for a reader.
func (vm *instance) listen(ctx context.Context, names ...string) {
	for _, name := range names {
		go vm.drop(ctx, name, func() {})
	}
}

// drop drops what the guest writes to a port; wrote is called for each line of it.
func (vm *instance) drop(ctx context.Context, name string, wrote func()) {
	alive, stop := vm.whileUp(ctx)
	defer stop()
	conn, err := vm.connect(alive, name)
	if err != nil {
		return // the guest has ended, which is reported elsewhere
	}
	defer conn.Close()
	defer context.AfterFunc(alive, func() { conn.Close() })()
	for _, err := range reading.Lines(conn, maxLine) {
		if err == nil {
			wrote()
		}
	}
}

// giveKeys gives the guest its keys once it asks. Its entry says that sshd will come, and then that it is about to.
func (vm *instance) giveKeys(ctx context.Context) {
	vm.entry.SSH = &vm.link.ssh.address
	if vm.keeping.warm() { // it has them
		vm.entry.Keyed = true
		close(vm.keyed)
	}
	vm.announce() // else no other kimg finds the guest
	if vm.entry.Keyed {
		return
	}
	conn, err := vm.connect(ctx, guest.Keys)
	if err != nil {
		return // the guest has ended, which is reported elsewhere
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if vm.o.Keys.give(conn) != nil {
		return
	}
	for line, err := range reading.Lines(conn, maxLine) {
		if err == nil && line == "taken" {
			vm.entry.Keyed = true
			vm.announce()
			close(vm.keyed)
			return
		}
	}
}

// announce tells other kimgs that they can log in to the guest.
func (vm *instance) announce() {
	if !vm.o.alone { // that one is nobody's
		_ = vm.entry.write()
	}
}

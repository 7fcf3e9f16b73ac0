package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm/kept"
)

// Use is what a guest is for that can go on from a kept one. Kernels of different uses get different command lines.
type Use string

// The uses.
const (
	ForCommand Use = "command" // [Exec], [RunCheck] and [SSH]
	ForConsole Use = "console" // [Run]
	ForDebug   Use = "debug"   // [Debug] with Running
)

// Keeping is what is made for later guests.
type Keeping struct {
	Use   Use           // what the kept guest is for; empty: none is made
	Term  string        // TERM of the terminal that its console will be on
	Boot  time.Duration // how long the guest took to boot; 0: it is not known
	Index bool          // gdb's index of vmlinux is made, too
}

// leave has Options.Later make what the next guest could have begun with.
func (vm *instance) leave() {
	o, k := vm.o, Keeping{Index: vm.tools.Indexed != nil}
	if vm.keeping != nil && vm.keeping.later && vm.rests {
		k.Use, k.Term, k.Boot = o.use, o.terminal.Term, vm.took
	}
	if o.Later == nil || k.Use == "" && !k.Index {
		return
	}
	if k.Use != "" {
		o.say("a guest that has booted is kept in the background, for the next time")
	}
	o.Later(*o, k)
}

// Keep makes what later guests of the options begin with: it boots one, keeps it, and ends it. Where another process
// makes it, that is waited for.
//
// Where the options' BootLimit is over it gives up. A guest that cannot be kept is not tried again for an hour.
func Keep(ctx context.Context, o Options, k Keeping) error {
	o.Later, o.Stdin, o.Interrupt, o.use, o.alone, o.took = nil, nil, nil, k.Use, true, k.Boot
	if k.Use == ForConsole {
		o.terminal = Terminal{Term: k.Term}
	}
	var err error
	if k.Use != "" {
		err = o.keepGuest(ctx)
	}
	if k.Index && ctx.Err() == nil {
		err = errors.Join(err, o.makeIndex(ctx))
	}
	return err
}

func (o *Options) keepGuest(ctx context.Context) error {
	config, err := o.read(wants{agent: true})
	if err != nil {
		return err
	}
	vm, err := o.prepare(ctx, config, nil)
	for errors.Is(err, errMaking) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		vm, err = o.prepare(ctx, config, nil)
	}
	if err != nil {
		return err
	}
	k := vm.keeping
	if k == nil || k.making == nil {
		return vm.close(ctx)
	}
	err = vm.boot(ctx, guestIO{console: o.Console, ports: commandPorts})
	if err == nil {
		err = vm.onlyKeep(ctx)
	}
	if err = errors.Join(err, vm.close(ctx)); err == nil {
		err = k.failed
	}
	if err != nil && ctx.Err() == nil {
		// Where not even that can be written, another one tries.
		_ = kept.Store(o.Kept).Refuse(kept.Key(k.reads), err.Error())
	}
	return err
}

func (vm *instance) onlyKeep(ctx context.Context) error {
	alive, stop := vm.whileUp(ctx)
	defer stop()
	agent, ports, err := vm.agent(alive)
	if err != nil {
		return vm.explain(ctx, err)
	}
	closePorts(agent, ports)
	return nil
}

// makeIndex has gdb make its index of vmlinux, where it is to be kept.
func (o *Options) makeIndex(ctx context.Context) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	tools, err := o.Toolbox.Open(ctx, toolbox.Mounts{Dir: dir, Files: []string{artifact.Vmlinux}, Index: true})
	if err != nil {
		return err
	}
	if tools.Indexed != nil {
		select {
		case <-tools.Indexed:
		case <-ctx.Done():
		}
	}
	return tools.Close(ctx)
}

// find returns the kept guest of a key, and waits for one that will be there before a boot would be half over.
func (o *Options) find(ctx context.Context, store kept.Store, key string) (*kept.Guest, bool, error) {
	g, ok := store.Find(key)
	maker, made := store.Maker(key)
	if ok || !made || o.alone || !maker.Aside || maker.Boot == 0 {
		return g, ok, nil
	}
	wait := time.Until(maker.Began.Add(maker.Boot + maker.Boot/4 + makeLimit)) // it gives way to others
	if wait > maker.Boot/2 {
		return nil, false, nil
	}
	o.say("the booted guest is about to be kept: waiting for it")
	late := time.After(maker.Boot + makeLimit)
	for {
		if g, ok = store.Find(key); ok {
			return g, true, nil
		}
		if _, made = store.Maker(key); !made {
			g, ok = store.Find(key) // it may just have ended
			return g, ok, nil
		}
		select {
		case <-late:
			return nil, false, nil
		case <-o.Interrupt:
			return nil, false, ErrInterrupted
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// makeLimit is how long it usually takes at most to keep a guest that has booted.
const makeLimit = 3 * time.Second

// endKeeping ends the processes that only make guests to keep in a directory, so that their images can be written to.
func endKeeping(ctx context.Context, dir string) {
	store := kept.Store(dir)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		busy := false
		for _, m := range store.Makers() {
			if m.Aside && m.PID != os.Getpid() {
				busy = true
				_ = syscall.Kill(m.PID, syscall.SIGTERM)
			}
		}
		if !busy {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

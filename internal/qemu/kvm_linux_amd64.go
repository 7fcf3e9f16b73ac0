package qemu

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers from <linux/kvm.h>; the sizes are those of struct kvm_regs and struct kvm_sregs.
const (
	kvmGetVCPUMmapSize     = 0xae04
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmSetTSSAddr          = 0xae47
	kvmRun                 = 0xae80
	kvmGetRegs             = 0x8090ae81
	kvmSetRegs             = 0x4090ae82
	kvmGetSregs            = 0x8138ae83
	kvmSetSregs            = 0x4138ae84

	kvmExitHlt = 5

	kvmSregsSize  = 0x138
	kvmCSBase     = 0 // struct kvm_segment cs is first: base u64, limit u32, selector u16
	kvmCSSelector = 12
)

// kvmCode is what the probe runs, in real mode: it counts down from 5 million and halts. A processor takes some
// three milliseconds for it. A KVM that interprets instructions, as nested ones do with what they cannot execute,
// takes seconds, and would take hours for a boot.
var kvmCode = []byte{
	0x66, 0xb9, 0x40, 0x4b, 0x4c, 0x00, // mov ecx, 5000000
	0x66, 0x49, // dec ecx
	0x75, 0xfc, // jnz back to dec
	0xf4, // hlt
}

const (
	kvmCount = 5_000_000 // what it counts down from
	kvmRCX   = 2         // where struct kvm_regs has the counter
	kvmRIP   = 16        // and where the code is that runs next

	// kvmLimit is how long it may take on a busy machine. Every kvmLook the counter is read: kvmSlow counts per
	// second of the thread's own time are a thirtieth of a processor's, and far more than those of an interpreter.
	kvmLimit = 250 * time.Millisecond
	kvmLook  = 10 * time.Millisecond
	kvmSlow  = 50e6
)

// tryKVM runs code in a virtual machine: it makes one processor and a page of code.
func tryKVM(kvm, vm int) error {
	// Intel processors without unrestricted guests need three pages for real mode.
	if _, err := ioctl(vm, kvmSetTSSAddr, 0xfffbd000); err != nil {
		return fmt.Errorf("set up KVM: %w", err)
	}
	mem, err := unix.Mmap(-1, 0, 0x1000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	copy(mem, kvmCode)
	region := struct {
		slot, flags uint32
		phys, size  uint64
		user        uint64
	}{size: uint64(len(mem)), user: uint64(uintptr(unsafe.Pointer(&mem[0])))}
	if _, err := ioctlPtr(vm, kvmSetUserMemoryRegion, unsafe.Pointer(&region)); err != nil {
		return fmt.Errorf("give KVM memory: %w", err)
	}
	vcpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("create a KVM processor: %w", err)
	}
	defer unix.Close(vcpu)
	return runVCPU(kvm, vcpu)
}

// runVCPU runs a new processor from address 0.
func runVCPU(kvm, vcpu int) error {
	size, err := ioctl(kvm, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return err
	}
	state, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(state)
	var sregs [kvmSregsSize]byte
	if _, err := ioctlPtr(vcpu, kvmGetSregs, unsafe.Pointer(&sregs)); err != nil {
		return fmt.Errorf("read KVM's registers: %w", err)
	}
	clear(sregs[kvmCSBase : kvmCSBase+8])
	clear(sregs[kvmCSSelector : kvmCSSelector+2])
	if _, err := ioctlPtr(vcpu, kvmSetSregs, unsafe.Pointer(&sregs)); err != nil {
		return fmt.Errorf("set KVM's registers: %w", err)
	}
	regs := [18]uint64{17: 2} // all zero, rip too; bit 1 of rflags is always set
	if _, err := ioctlPtr(vcpu, kvmSetRegs, unsafe.Pointer(&regs)); err != nil {
		return fmt.Errorf("set KVM's registers: %w", err)
	}
	return runToHalt(vcpu, state)
}

// kvmRunExitReason is where struct kvm_run has its exit_reason.
const kvmRunExitReason = 8

// errInterpreted is a KVM on which no guest is faster than with QEMU's own emulation.
var errInterpreted = errors.New("KVM interprets a guest's instructions one by one")

// runToHalt enters the guest until it halts, turns out to crawl, or the time is up. It is a signal that brings a
// thread back from a guest; SIGURG is one that Go's runtime lets pass.
func runToHalt(vcpu int, state []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var late atomic.Bool
	defer interruptEvery(kvmLook, unix.Gettid(), func(past time.Duration) { late.Store(past >= kvmLimit) })()
	began := threadTime()
	for {
		_, err := ioctl(vcpu, kvmRun, 0)
		switch {
		case late.Load():
			return errInterpreted
		case errors.Is(err, unix.EINTR):
			if crawls(vcpu, threadTime()-began) {
				return errInterpreted
			}
			continue
		case err != nil:
			return fmt.Errorf("run an instruction on KVM: %w", err)
		}
		if reason := *(*uint32)(unsafe.Pointer(&state[kvmRunExitReason])); reason != kvmExitHlt {
			return fmt.Errorf("run an instruction on KVM: it ended for reason %d, not by halting", reason)
		}
		return nil
	}
}

// interruptEvery signals a thread of this process every d, having called past with the time so far, until stop.
func interruptEvery(d time.Duration, thread int, past func(time.Duration)) (stop func()) {
	ended := make(chan struct{})
	began, tick := time.Now(), time.NewTicker(d)
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				past(time.Since(began))
				unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			}
		}
	}()
	return func() {
		tick.Stop()
		close(ended)
	}
}

// crawls says whether so little was counted in the thread's time, if it has run, that the code is interpreted.
func crawls(vcpu int, spent time.Duration) bool {
	var regs [18]uint64
	if _, err := ioctlPtr(vcpu, kvmGetRegs, unsafe.Pointer(&regs)); err != nil || spent < kvmLook/4 {
		return false
	}
	counted := kvmCount - float64(uint32(regs[kvmRCX]))
	if regs[kvmRIP] == 0 {
		counted = 0 // it has not begun
	}
	return counted < kvmSlow*spent.Seconds()
}

// threadTime is the processor time of the calling thread, its guest's included; zero where it cannot be had.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kimg/kimg/internal/units"
)

// Options say which guest to boot, where, and how it is connected to the person.
type Options struct {
	Dir    string // the out directory that has the artifacts
	Place  Place
	Memory units.Size // 0: 1 GiB
	CPUs   int        // 0: two, or as many as there are; without KVM one
	Append string     // added to the kernel's command line
	Write  bool       // keep what the guest writes to its disk, and end it with a clean shutdown

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Console        io.Writer // what the serial console says where it is not the person's; nil drops it
	Term           string    // TERM of the person's terminal

	// Interrupt has the person's Ctrl-C while a command runs: the first goes to the
	// command as SIGINT, the second ends the guest, with ErrInterrupted.
	Interrupt <-chan os.Signal

	BootLimit time.Duration // from start to a guest that heeds; 0: 2 minutes, without KVM 10
	RunLimit  time.Duration // how long a command may run; 0: for ever, as long as the guest lives
	Say       func(string)  // takes a line for the person, such as why KVM is not used; nil drops it
}

// defaultMemory is what a guest gets that was not given any.
const defaultMemory = units.Size(1 << 30)

// limits are how long things may take. An emulated guest is some ten times slower.
type limits struct{ boot, silence, powerOff time.Duration }

func (o *Options) limits(a Accel) limits {
	l := limits{boot: 2 * time.Minute, silence: time.Minute, powerOff: 2 * time.Minute}
	if a == TCG {
		l = limits{boot: 10 * time.Minute, silence: 3 * time.Minute, powerOff: 6 * time.Minute}
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

// read looks for the artifacts and reads what the kernel can do.
func (o *Options) read(more ...string) (Config, error) {
	config, err := artifacts(o.Dir, append([]string{KernelFile, DiskFile}, more...)...)
	if err != nil {
		return nil, err
	}
	_, err = config.bus()
	return config, err
}

// open readies the place for the artifacts, and for more of them.
func (o *Options) open(ctx context.Context, more ...string) (*Site, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	need := Need{Dir: dir, Files: append([]string{KernelFile, DiskFile}, more...)}
	if o.Write {
		need.Write = DiskFile
	}
	site, err := o.Place.Open(ctx, need)
	if err != nil {
		return nil, err
	}
	if site.Accel == TCG {
		o.say("no KVM (%s): the guest is emulated, some ten times slower", site.Why)
	}
	return site, nil
}

// devices are what every guest of these options has.
func (o *Options) devices(config Config, site *Site, terminal Terminal) []Device {
	bus, _ := config.bus() // read has asked
	memory, cpus := o.Memory, o.CPUs
	if memory == 0 {
		memory = defaultMemory
	}
	if cpus == 0 {
		cpus = min(2, runtime.NumCPU())
		if site.Accel == TCG {
			// QEMU 10's translator aborts now and then when several processors boot
			// (an assertion in iotlb_to_section): not for who did not ask for them.
			cpus = 1
		}
	}
	devices := []Device{
		CPU{Count: cpus}, Memory(memory),
		Kernel{Image: site.Path(KernelFile), Append: Cmdline{Bus: bus, Terminal: terminal, Extra: o.Append}.String()},
		Disk{Image: site.Path(DiskFile), Bus: bus, Write: o.Write},
	}
	if net, ok := config.net(); ok {
		devices = append(devices, net)
	}
	return devices
}

package vm

import (
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/units"
)

// Plain is the guest that Run boots, told to those who boot it without kimg.
type Plain struct {
	Argv   []string // QEMU's, with the artifacts as ./bzImage and ./rootfs.img; qemu.KVM where it works, else qemu.TCG
	Append string   // the kernel's command line
	Bus    qemu.Bus
	Net    string // QEMU's name of the network card; empty: the kernel has a driver of none
	Memory units.Size
	CPUs   int
	Config Config
}

// Describe tells of the guest that the artifacts in dir are. Its processors are
// as many as a guest gets that may have to be emulated.
func Describe(dir string) (*Plain, error) {
	o := Options{Dir: dir, Memory: defaultMemory}
	config, err := o.read()
	if err != nil {
		return nil, err
	}
	// QEMU takes the first of its accelerators that works.
	p := &Plain{Config: config, Memory: o.Memory}
	devices := o.devices(config, &Site{Dir: ".", Accel: qemu.TCG, link: &link{}}, Terminal{})
	for _, d := range devices {
		switch d := d.(type) {
		case qemu.Kernel:
			p.Append = d.Append
		case qemu.CPU:
			p.CPUs = d.Count
		case qemu.Disk:
			p.Bus = d.Bus
		case qemu.UserNet:
			p.Net = d.Model
		}
	}
	p.Argv = qemu.Argv(arch.Default, append(append([]qemu.Device{qemu.Base{Machine: arch.Default.Machine}, qemu.KVM, qemu.TCG, qemu.RNG{}}, devices...), qemu.Serial{Monitor: true})...)
	return p, nil
}

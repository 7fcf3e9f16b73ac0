package qemu

import "fmt"

// Replay has an emulated guest recorded, or replayed: every input that QEMU takes from outside goes into a log, or
// comes from it. (docs/system/replay.rst of QEMU.) A replay needs the machine of its recording to the letter: where
// anything of it differs, it hangs and says nothing.
//
// Its one processor counts instructions, each as 2^Shift ns of the guest's time.
type Replay struct {
	Replay   bool
	Log      string
	Shift    int
	Snapshot string // of the guest's disk: made when the recording begins; where the replay begins
	Global   string // a property of QEMU's devices that is set; empty: none is
	NoHPET   bool   // an x86 machine without that timer
}

// Args implements Device.
func (r Replay) Args() []string {
	mode := "record"
	if r.Replay {
		mode = "replay"
	}
	args := []string{"-accel", "tcg,thread=single"}
	if r.Global != "" {
		args = append(args, "-global", r.Global)
	}
	args = append(args,
		"-icount", fmt.Sprintf("shift=%d,rr=%s,rrfile=%s,rrsnapshot=%s", r.Shift, mode, quote(r.Log), r.Snapshot),
		// A guest that ends stays, to be asked how many instructions it had.
		"-no-shutdown")
	if r.NoHPET {
		args = append(args, "-machine", "hpet=off")
	}
	return args
}

// ReplayDisk is the raw Image of a recorded guest, which stays as it is: what the guest writes goes to Overlay, a
// qcow2 that also has the snapshots. Script is a second disk, read-only. Both are virtio's: a disk of IDE's or of
// AHCI's cannot be read-only in QEMU, and one that can be written to needs snapshots of its own.
//
// Where Below is set, it is that qcow2, which stays as it is and which others may read, too; what would be written to
// it goes to Overlay, another qcow2, as large as one may become. (Snapshots are not seen through a backing file: so
// Overlay lies over Below's bytes, and not over what they mean.)
type ReplayDisk struct{ Image, Overlay, Below, Script string }

// Args implements Device. The image below the overlay is named here, and not by the overlay, which may come from
// anybody.
func (d ReplayDisk) Args() []string {
	file := "file.driver=file,file.filename=" + quote(d.Overlay)
	if d.Below != "" {
		file = "file.driver=qcow2,file.file.driver=file,file.file.filename=" + quote(d.Overlay) +
			",file.backing.driver=raw,file.backing.file.driver=file,file.backing.file.filename=" + quote(d.Below) +
			",file.backing.read-only=on"
	}
	return []string{
		"-drive", "if=none,id=image,driver=qcow2," + file +
			",backing.driver=raw,backing.file.driver=file,backing.file.filename=" + quote(d.Image) +
			",backing.read-only=on",
		"-drive", "driver=blkreplay,if=none,id=disk,image=image",
		"-device", "virtio-blk-pci,drive=disk",
		"-drive", "if=none,id=text,driver=raw,file.driver=file,file.filename=" + quote(d.Script) + ",read-only=on",
		"-drive", "driver=blkreplay,if=none,id=script,image=text,read-only=on",
		"-device", "virtio-blk-pci,drive=script",
	}
}

// SerialFiles are serial ports, from the first. QEMU records those alone that -serial names.
type SerialFiles []SerialFile

// SerialFile is a serial port whose output goes to a file. Its input comes from another one, a FIFO; empty: it has
// none, or a replay has it from the log. Device is QEMU's, where the machine has no such port of its own.
type SerialFile struct{ Output, Input, Device string }

// Args implements Device.
func (s SerialFiles) Args() []string {
	var args []string
	for i, file := range s {
		id := fmt.Sprintf("serial%d", i)
		backend := "file,id=" + id + ",path=" + quote(file.Output)
		if file.Input != "" {
			backend += ",input-path=" + quote(file.Input)
		}
		args = append(args, "-chardev", backend, "-serial", "chardev:"+id)
		if file.Device != "" {
			args = append(args, "-device", file.Device+",chardev="+id)
		}
	}
	return args
}

// ReplayNet is a card on QEMU's own network, whose packets are recorded. It comes to nobody's ports.
type ReplayNet struct{ Card }

// Args implements Device.
func (n ReplayNet) Args() []string {
	args := n.args("user,id=net")
	if n.Model == "virtio-net-pci" {
		// Else loading a state would set a timer that the recording has not (virtio_net_post_load_device).
		args[len(args)-1] += ",guest_announce=off"
	}
	return append(args, "-object", "filter-replay,id=packets,netdev=net")
}

package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/units"
)

// readForm finds out which form the root filesystem has, looks for the artifacts, and reads what the kernel can do.
func (o *Options) readForm(files []string) (Config, error) {
	var err error
	if o.form, err = form.Of(o.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // which artifacts reports
		return nil, fmt.Errorf("look at the root filesystem: %w", err)
	}
	config, err := artifacts(o.Dir, append([]string{artifact.KernelImage(o.arch()), o.form.File()}, files...)...)
	if err != nil {
		return nil, err
	}
	if o.form.ReadOnly() && o.keeps() {
		return nil, &ReadOnlyError{o.form}
	}
	if o.form == form.Initramfs {
		if config["MODULES"] == "y" && !o.Direct { // udev loads them: they are where the kernel looks before any disk
			config = config.loaded()
		}
		err = o.fitInitramfs()
	}
	return config, err
}

// loaded is the configuration of a kernel that can load its modules.
func (c Config) loaded() Config {
	c = maps.Clone(c)
	for symbol, value := range c {
		if value == "m" {
			c[symbol] = "y"
		}
	}
	return c
}

// ReadOnlyError says that nothing of what a guest writes can be kept.
type ReadOnlyError struct{ Form form.Form }

func (e *ReadOnlyError) Error() string {
	if !e.Form.OnDisk() {
		return "keep what the guest writes: it has an initramfs, which is in its memory, and no disk"
	}
	return fmt.Sprintf("keep what the guest writes: rootfs.img is %s, which cannot be written to", e.Form)
}

func (e *ReadOnlyError) Hint() string {
	return "without --write and --snapshot it writes to memory, and that is gone at its end; " +
		"kimg build --fs ext4 makes a disk that keeps it"
}

// MemoryError says that a guest has too little memory for its initramfs.
type MemoryError struct{ Has, Unpacked, Need units.Size }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("boot: the initramfs unpacks to %s in the guest's memory, and %s is too little for that",
		e.Unpacked.Human(), e.Has)
}

func (e *MemoryError) Hint() string { return "give it --memory " + e.Need.String() }

// fitInitramfs sees to it that the guest has the memory for its initramfs: the kernel has both what is packed and what
// is unpacked at first, the latter in a tmpfs that takes half of its memory at the most.
func (o *Options) fitInitramfs() error {
	packed, unpacked, err := sizeOfGzip(filepath.Join(o.Dir, artifact.Initramfs))
	if err != nil {
		return fmt.Errorf("look at the initramfs: %w", err)
	}
	const (
		system = 128 << 20 // for the kernel and what runs
		step   = 256 << 20
	)
	need := packed + 2*(unpacked+unpacked/8) + system // the eighth: each file takes whole pages
	need = (need + step - 1) / step * step
	switch {
	case o.Memory == 0 && need > defaultMemory:
		o.say("the initramfs unpacks to %s: the guest gets %s of memory", unpacked.Human(), need)
		o.Memory = need
	case o.Memory > 0 && o.Memory < need:
		return &MemoryError{o.Memory, unpacked, need}
	}
	return nil
}

// sizeOfGzip is how large a file is, and what it unpacks to, by its last four bytes (RFC 1952, ISIZE).
func sizeOfGzip(name string) (packed, unpacked units.Size, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	end, err := f.Seek(-4, io.SeekEnd)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: it is empty, or cut off", name)
	}
	var b [4]byte
	_, err = io.ReadFull(f, b[:])
	return units.Size(end + 4), units.Size(binary.LittleEndian.Uint32(b[:])), err
}

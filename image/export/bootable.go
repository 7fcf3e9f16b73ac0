package export

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
)

// A bootable disk has a GPT, an EFI system partition with a loader, the kernel and an entry for it, and the root
// filesystem in a partition of its own, which the kernel finds by that partition's identity. An initramfs is on the
// system partition, too, and there is no other.
const (
	sector   = 512
	espStart = 2048 // sectors: whole MiB, as every tool begins
	mib      = 1 << 20
	espLeast = 64 * mib // a FAT32 of 512-byte clusters has 33 at the least
	gptEnd   = mib      // the second copy of the table, and what rounds up
)

// BootableNeeds are the kernel's options without which it does not boot from such a disk.
var BootableNeeds = []string{"EFI", "EFI_STUB", "EFI_PARTITION"}

// LackError says what a kernel lacks to boot from a disk of its own.
type LackError struct{ Without []string }

func (e *LackError) Error() string {
	return "the kernel was built without " + strings.Join(e.Without, ", ")
}

// Hint says what brings it.
func (e *LackError) Hint() string {
	return "build it with --set " + strings.Join(e.Without, "=y --set ") + "=y"
}

// espFile is a file of the system partition: an artifact, or its bytes.
type espFile struct {
	name     string
	artifact string
	data     []byte
	size     int64
}

// disk opens the disk image to be handed on: rootfs.img as it is, or a bootable disk around it.
func (b *Build) disk(ctx context.Context, bootable bool) (*source, error) {
	if !bootable {
		return b.open(ctx, artifact.Disk)
	}
	f, err := os.CreateTemp("", "kimg-disk-*")
	if err != nil {
		return nil, fmt.Errorf("make a bootable disk: %w", err)
	}
	err = os.Remove(f.Name()) // without a name nothing can be left behind
	if err == nil {
		err = b.makeBootable(ctx, f)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a bootable disk: %w", err), f.Close())
	}
	return &source{reading.Until(ctx, f), f}, nil
}

func (b *Build) makeBootable(ctx context.Context, f *os.File) error {
	if b.arch() != arch.AMD64 {
		return fmt.Errorf("kimg has a loader for %s alone, and the build is for %s", arch.AMD64, b.arch())
	}
	lacking := slices.DeleteFunc(slices.Clone(BootableNeeds), b.Guest.builtIn)
	if len(lacking) > 0 {
		return &LackError{lacking}
	}
	loader, err := b.Loader(ctx)
	if err != nil {
		return err
	}
	root := b.id("root partition")
	files := []espFile{
		{name: "/EFI/BOOT/BOOTX64.EFI", data: loader},
		{name: "/loader/loader.conf", data: []byte("timeout 0\n")},
		{name: "/loader/entries/kimg.conf", data: []byte(b.entry(root.String()))},
		{name: "/" + artifact.KernelImage(b.arch()), artifact: artifact.KernelImage(b.arch())},
	}
	if !b.Guest.Form.OnDisk() {
		files = append(files, espFile{name: "/" + b.Guest.Form.File(), artifact: b.Guest.Form.File()})
	}
	esp := int64(0)
	for i := range files {
		files[i].size = int64(len(files[i].data))
		if files[i].artifact != "" {
			st, err := os.Stat(b.path(files[i].artifact))
			if err != nil {
				return err
			}
			files[i].size = st.Size()
		}
		esp += files[i].size
	}
	esp = max(espLeast, (esp+esp/16+2*mib)/mib*mib) // the sixteenth: 8 bytes of two tables for each 512
	end := espStart*sector + esp
	table := &gpt.Table{ProtectiveMBR: true, GUID: b.id("disk").String(), LogicalSectorSize: sector,
		PhysicalSectorSize: sector, Partitions: []*gpt.Partition{{Index: 1, Start: espStart, Size: uint64(esp),
			Type: gpt.EFISystemPartition, Name: "EFI system", GUID: b.id("system partition").String()}}}
	var src *source
	if b.Guest.Form.OnDisk() {
		if src, err = b.open(ctx, artifact.Disk); err != nil {
			return err
		}
		defer src.Close()
		st, err := src.At.Stat()
		if err != nil {
			return err
		}
		size := (st.Size() + sector - 1) / sector * sector
		table.Partitions = append(table.Partitions, &gpt.Partition{Index: 2, Start: uint64(end / sector),
			Size: uint64(size), Type: gpt.LinuxRootX86_64, Name: "root", GUID: root.String()})
		if err := writeAt(ctx, f, end, src); err != nil {
			return err
		}
		end += size
	}
	whole := (end + gptEnd + mib - 1) / mib * mib
	if err := f.Truncate(whole); err != nil {
		return err
	}
	if err := b.makeESP(ctx, f, esp, files); err != nil {
		return fmt.Errorf("fill the system partition: %w", err)
	}
	w, err := file.New(f, false).Writable()
	if err != nil {
		return err
	}
	return table.Write(w, whole)
}

// entry is the loader's (the Boot Loader Specification, type 1). A panic does not boot again and again: whoever has the
// disk wants to read it.
func (b *Build) entry(root string) string {
	words := slices.DeleteFunc(strings.Fields(b.Guest.Append), func(w string) bool { return w == "panic=-1" })
	for i, w := range words {
		if strings.HasPrefix(w, "root=") {
			words[i] = "root=PARTUUID=" + root + " rootwait" // NVMe and USB may be there after the kernel has looked
		}
	}
	text := fmt.Sprintf("title Linux %s (%s)\nlinux /%s\n", b.Kernel, b.Suite, artifact.KernelImage(b.arch()))
	if !b.Guest.Form.OnDisk() {
		text += "initrd /" + b.Guest.Form.File() + "\n"
	}
	return text + "options " + strings.Join(words, " ") + "\n"
}

// writeAt copies an image to its place, with holes for its zeros.
func writeAt(ctx context.Context, f *os.File, at int64, src *source) error {
	extents, _, err := sparse.Map(src)
	if err != nil {
		return err
	}
	for _, e := range extents {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		to := io.NewOffsetWriter(f, at+e.Offset)
		if _, err := io.Copy(to, io.NewSectionReader(src.At, e.Offset, e.Length)); err != nil {
			return err
		}
	}
	return nil
}

// makeESP makes the FAT and its files.
func (b *Build) makeESP(ctx context.Context, f *os.File, size int64, files []espFile) error {
	storage := backend.Sub(file.New(f, false), espStart*sector, size)
	fs, err := fat32.Create(storage, size, 0, sector, "KIMG-ESP", true)
	if err != nil {
		return err
	}
	for _, x := range files {
		if err := fs.Mkdir(path.Dir(x.name)); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		to, err := fs.OpenFile(x.name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		data := x.data
		if x.artifact != "" {
			if data, err = b.readAll(ctx, x.artifact); err != nil {
				return err
			}
		}
		// In one piece: the library looks for free clusters from the beginning with each.
		if n, err := to.Write(data); err != nil || int64(n) != x.size {
			return errors.Join(fmt.Errorf("%s: %d bytes of %d were written", x.name, n, x.size), err)
		}
	}
	return sameFAT(f, espStart*sector, b.Epoch)
}

func (b *Build) readAll(ctx context.Context, name string) ([]byte, error) {
	src, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return io.ReadAll(src)
}

// sameFAT gives every entry of a FAT32's directories one time: the library has that of a clock in some that its own
// Chtimes does not reach. (Microsoft's "FAT: General Overview of On-Disk Format", FAT 32 Byte Directory Entry
// Structure.)
func sameFAT(f *os.File, start int64, when time.Time) error {
	le := binary.LittleEndian
	boot := make([]byte, sector)
	if _, err := f.ReadAt(boot, start); err != nil {
		return err
	}
	perCluster := int64(le.Uint16(boot[11:])) * int64(boot[13])
	tables := start + int64(le.Uint16(boot[14:]))*sector
	data := tables + int64(boot[16])*int64(le.Uint32(boot[36:]))*sector
	when = when.UTC()
	date := uint16(max(0, when.Year()-1980)<<9 | int(when.Month())<<5 | when.Day())
	clock := uint16(when.Hour()<<11 | when.Minute()<<5 | when.Second()/2)
	const (
		entry, last     = 32, 0x0ffffff8
		longName, isDir = 0x0f, 0x10
	)
	todo, seen := []uint32{le.Uint32(boot[44:])}, map[uint32]bool{}
	cluster, next := make([]byte, perCluster), make([]byte, 4)
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		if n < 2 || n >= last || seen[n] {
			continue
		}
		seen[n] = true
		at := data + int64(n-2)*perCluster
		if _, err := f.ReadAt(cluster, at); err != nil {
			return err
		}
		for e := cluster; len(e) >= entry && e[0] != 0; e = e[entry:] {
			if e[11] == longName {
				continue
			}
			e[13] = 0
			le.PutUint16(e[14:], clock) // created
			le.PutUint16(e[16:], date)
			le.PutUint16(e[18:], date)  // read
			le.PutUint16(e[22:], clock) // written
			le.PutUint16(e[24:], date)
			if e[11]&isDir != 0 && e[0] != '.' {
				todo = append(todo, uint32(le.Uint16(e[20:]))<<16|uint32(le.Uint16(e[26:])))
			}
		}
		if _, err := f.WriteAt(cluster, at); err != nil {
			return err
		}
		if _, err := f.ReadAt(next, tables+4*int64(n)); err != nil {
			return err
		}
		todo = append(todo, le.Uint32(next)&0x0fffffff)
	}
	return nil
}

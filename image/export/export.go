// Package export hands the artifacts of a build to other tools: as disk images, as tars, and as descriptions of the
// guest that they are. Begin with a [Build], which says what there is, and a form of it: [Tar], [Qcow2], [OCI] and so
// on, each a [Format]. [Formats] is the table of them all.
//
// The same artifacts give the same bytes, whoever exports them and when. What names the artifacts by their paths
// (libvirt, firecracker, qemu) differs by these alone.
package export

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/reading"
)

// Arch is an architecture that guests may have; image.ParseArch returns one.
type Arch = arch.Arch

// Form is what a root filesystem is made as; image.ParseForm returns one. The zero value is ext4.
type Form = form.Form

// Build is what a build left in its out directory.
type Build struct {
	Dir    string    // of the artifacts, absolute
	Arch   Arch      // zero: the default
	Kernel string    // its version
	Suite  string    // of the root filesystem
	Epoch  time.Time // the build's own time
	Files  []File    // the artifacts, by path
	Guest  Guest

	// Imaging gives the engine, and the image in it that has qemu-img and GNU tar.
	Imaging func(context.Context) (eng container.Engine, image string, err error)
	Loader  func(context.Context) ([]byte, error) // gives what firmware runs first, of a bootable disk
	Log     io.Writer                             // gets what programs print; nil drops it
	Warn    func(string)                          // gets a line for the user; nil drops it
}

// File is an artifact, or what stands in for one.
type File struct {
	Path   string // relative to Dir, with slashes
	Mode   fs.FileMode
	SHA256 string // as the build made it, in hex; empty: not looked at
	Data   []byte // not nil: the bytes, whatever is on the disk
}

// Guest is the guest that the artifacts are, as kimg itself boots it.
type Guest struct {
	Argv    []string          // QEMU's, with the artifacts' paths relative to Dir
	Append  string            // the kernel's command line
	Form    Form              // of the root filesystem
	Disk    string            // virtio, ide or ahci; empty: there is none
	Net     string            // QEMU's name of the network card; empty: the kernel has a driver of none
	Memory  int64             // MiB
	CPUs    int               // virtual processors
	Options map[string]string // the kernel's configuration, without CONFIG_
}

// builtIn says whether the kernel has an option built in.
func (g *Guest) builtIn(option string) bool { return g.Options[option] == "y" }

// arch is the guest's architecture.
func (b *Build) arch() Arch {
	if b.Arch == (Arch{}) {
		return arch.Default
	}
	return b.Arch
}

// path is where an artifact is.
func (b *Build) path(file string) string { return filepath.Join(b.Dir, filepath.FromSlash(file)) }

// warn passes a warning on, if anybody wants it.
func (b *Build) warn(text string) {
	if b.Warn != nil {
		b.Warn(text)
	}
}

// open opens an artifact for one reading that ends with ctx.
func (b *Build) open(ctx context.Context, file string) (*source, error) {
	f, err := os.Open(b.path(file))
	if err != nil {
		return nil, fmt.Errorf("open artifact: %w", err)
	}
	return &source{reading.Until(ctx, f), f}, nil
}

// source is an artifact. It is read from its beginning to its end, or here and there by At.
type source struct {
	io.Reader
	At *os.File
}

func (s *source) Close() error { return s.At.Close() }

// Format is a form in which artifacts are handed on.
type Format interface {
	// Export writes the whole of it to w, which may be a file, to be written from its beginning, or any stream.
	Export(ctx context.Context, b *Build, w io.Writer) error
}

// Options are what the user may choose of a format.
type Options struct {
	Compress bool // inside of the format itself, where Kind.Compresses
	Bootable bool // a disk that firmware boots, where Kind.Boots, and not the bare file system
}

// Kind is a row of the table of formats.
type Kind struct {
	Name       string      // what --to takes
	About      string      // one line, for the help
	File       string      // the usual name
	Mode       fs.FileMode // of the file; 0: 0644
	Text       bool        // it may be shown on a terminal
	Packs      bool        // a name that ends in .gz or .zst has it compressed
	Compresses bool        // Options.Compress means something
	Boots      bool        // Options.Bootable does
	Holes      bool        // an empty file may be written with holes, not only as a stream
	Guest      bool        // Build.Guest must be there
	Kernel     bool        // it needs the kernel image, which each architecture names in its own way
	Root       bool        // it needs the root filesystem, whichever form that has
	Ext4       bool        // it reads the disk image as ext4
	Needs      []string    // the other artifacts that it needs
	New        func(Options) Format
}

// With is the kind with what the options ask of it.
func (k *Kind) With(o Options) *Kind {
	with := *k
	if o.Bootable {
		with.Kernel, with.Root, with.Guest, with.Needs = true, true, true, nil
	}
	return &with
}

// Artifacts are the names of all artifacts that the format needs, of a root filesystem of a form.
func (k *Kind) Artifacts(a Arch, f Form) (names []string) {
	if k.Kernel {
		names = append(names, artifact.KernelImage(a))
	}
	names = append(names, k.Needs...)
	if k.Root {
		names = append(names, f.File())
	}
	return names
}

// Takes says whether the format is one of a root filesystem of the form.
func (k *Kind) Takes(f Form) bool {
	return (f.OnDisk() || !slices.Contains(k.Needs, artifact.Disk)) && (f == form.Ext4 || !k.Ext4)
}

// Formats is the table.
var Formats = []Kind{
	{Name: "raw", About: "the disk image; zeros become holes", File: "rootfs.raw",
		Needs: []string{artifact.Disk}, Holes: true, Boots: true,
		New: func(o Options) Format { return Raw{o.Bootable} }},
	{Name: "qcow2", About: "the disk image in QEMU's own format", File: "rootfs.qcow2",
		Needs: []string{artifact.Disk}, Compresses: true, Boots: true, New: func(o Options) Format { return Qcow2(o) }},
	{Name: "vhd", About: "the disk image for Hyper-V", File: "rootfs.vhd",
		Needs: []string{artifact.Disk}, Boots: true, New: func(o Options) Format { return VHD{o.Bootable} }},
	{Name: "vmdk", About: "the disk image for VMware and VirtualBox", File: "rootfs.vmdk",
		Needs: []string{artifact.Disk}, Boots: true, New: func(o Options) Format { return VMDK{o.Bootable} }},
	{Name: "tar", About: "the root filesystem's files", File: "rootfs.tar",
		Needs: []string{artifact.Disk}, Ext4: true, Packs: true, New: func(Options) Format { return Tar{} }},
	{Name: "oci", About: "the root filesystem, for docker load or podman load", File: "rootfs-oci.tar",
		Needs: []string{artifact.Disk}, Ext4: true, Packs: true, New: func(Options) Format { return OCI{} }},
	{Name: "bundle", About: "all artifacts, and a script that boots them", File: "kimg-bundle.tar.zst",
		Kernel: true, Root: true, Packs: true, Guest: true,
		New: func(Options) Format { return Bundle{} }},
	{Name: "qemu", About: "a script with the plain QEMU command", File: "run-qemu", Mode: 0o755,
		Kernel: true, Root: true, Text: true, Guest: true,
		New: func(Options) Format { return Script{} }},
	{Name: "libvirt", About: "a domain for virsh create or virsh define", File: "kimg.xml",
		Kernel: true, Root: true, Text: true, Guest: true,
		New: func(Options) Format { return Libvirt{} }},
	{Name: "firecracker", About: "for firecracker --config-file", File: "firecracker.json",
		Needs: []string{artifact.Vmlinux}, Root: true, Text: true, Guest: true,
		New: func(Options) Format { return Firecracker{} }},
}

// otherNames are what other tools call a format, or have in its place.
var otherNames = map[string]string{"img": "raw", "vpc": "vhd", "vdi": "vmdk", "docker": "oci", "podman": "oci"}

// Find returns the row of a name.
func Find(name string) (*Kind, error) {
	if i := slices.IndexFunc(Formats, func(k Kind) bool { return k.Name == name }); i >= 0 {
		return &Formats[i], nil
	}
	small := strings.TrimPrefix(strings.ToLower(name), ".")
	near := cmp.Or(otherNames[small], editdist.Nearest(small, slices.Values(Names()), 2))
	if near != "" {
		near = fmt.Sprintf(" (did you mean %s?)", near)
	}
	return nil, fmt.Errorf("unknown format %q%s: want %s", name, near, strings.Join(Names(), ", "))
}

// Names are the formats' names, in the table's order.
func Names() []string {
	var names []string
	for _, k := range Formats {
		names = append(names, k.Name)
	}
	return names
}

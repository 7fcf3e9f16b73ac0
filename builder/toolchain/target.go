package toolchain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/suite"
)

// Target is one image: an image of a suite's toolchain by its name (see suite.Suite.Images), or Imaging.
type Target string

// Targets that are asked for by name.
const (
	Bullseye Target = "bullseye"
	Trixie   Target = "trixie"
	Imaging  Target = "imaging" // debootstrap, e2fsprogs, QEMU and gdb, for guests of the default architecture

	// ImagingForms is Imaging with what other forms of a root filesystem than ext4 take.
	ImagingForms Target = "imaging-forms"
)

// ImagingFor is the imaging image of guests of an architecture. Each has one of its own: nobody downloads another's
// QEMU.
func ImagingFor(a arch.Arch) Target {
	if a = a.Or(); a == arch.Default {
		return Imaging
	}
	return Imaging + "-" + Target(a.Name)
}

// imagingArch is the architecture that an imaging image is for.
func (t Target) imagingArch() (arch.Arch, bool) {
	i := slices.IndexFunc(arch.All, func(a arch.Arch) bool { return ImagingFor(a) == t })
	if i < 0 {
		return arch.Arch{}, false
	}
	return arch.All[i], true
}

// kernelTools is what a kernel build calls besides the compiler: no config of its own Kconfig asks for more, but
// for Rust and for documentation. Perl is the base's perl-base; nothing in a build needs Python.
var kernelTools = []string{
	"binutils", "bc", "bison", "flex", "make", "patch", // the build itself
	"libelf-dev", "libssl-dev", "openssl", // objtool; certificates and signed modules
	"libncurses-dev",                   // menuconfig
	"bzip2", "lz4", "xz-utils", "zstd", // what a kernel or its source may be compressed with
	"cpio", "kmod", // initramfs, modules
	"dwarves", // BTF
	"ccache",
}

// imagingSuite is whose packages the imaging image is made of, and imagingTools are
// those that do not depend on guests' architectures.
const imagingSuite = "trixie"

var imagingTools = []string{
	"debootstrap", "debian-archive-keyring", "ubuntu-keyring",
	"e2fsprogs", "libarchive13t64", // mke2fs opens it at run time to fill a file system from a tar
	"qemu-utils", "gdb", "socat",
	"bzip2", "xz-utils", "zstd",
}

// formTools make and check file systems other than ext4, and have what a disk boots with: a loader, and the firmware
// for a QEMU that is to boot it.
var formTools = []string{
	"squashfs-tools", "erofs-utils", "btrfs-progs", "xfsprogs", "f2fs-tools", "fakeroot",
	"systemd-boot-efi", "ovmf",
}

// contents are what a target is made of.
type contents struct {
	suite    suite.Suite
	packages []string
}

// contents looks the target up in the table of suites, for an engine of an architecture. A compiler for the engine's
// own comes with the one for what runs in the build; others are cross compilers.
func (t Target) contents(engine arch.Arch) (contents, error) {
	if t == ImagingForms {
		c, err := Imaging.contents(engine)
		c.packages = slices.Concat(c.packages, formTools)
		return c, err
	}
	if a, ok := t.imagingArch(); ok {
		s, err := suite.Parse(imagingSuite)
		packages := slices.Concat(imagingTools, strings.Fields(a.QEMUPackages))
		if a != engine {
			// What runs its packages' scripts, and what has the kernel take that for it.
			packages = append(packages, "qemu-user", "mount")
		}
		if a != engine && a == arch.Default { // whose gdb is elsewhere as good as none
			packages = append(packages, "gdb-multiarch")
		}
		return contents{s, packages}, err
	}
	for _, s := range suite.All() {
		for _, image := range s.Images() {
			if image.Name == string(t) {
				packages := slices.Concat(image.Compilers, image.Packages, kernelTools)
				a := arch.Default
				if image.Arch != "" {
					var err error
					if a, err = arch.Parse(image.Arch); err != nil {
						return contents{}, fmt.Errorf("toolchain %s: %w", t, err)
					}
				}
				if a != engine {
					for _, cc := range image.Compilers {
						packages = append(packages, cc+"-"+a.Package())
					}
					// For programs of the user's: a kernel has no C library.
					packages = append(packages, "libc6-dev-"+a.Name+"-cross")
				}
				return contents{s, packages}, nil
			}
		}
	}
	var known []string
	for _, t := range Targets() {
		known = append(known, string(t))
	}
	return contents{}, fmt.Errorf("unknown toolchain %q: want one of %s", t, strings.Join(known, ", "))
}

// Engines are the architectures of engines that the target's image is for, the default first.
func (t Target) Engines() []arch.Arch {
	all := []arch.Arch{arch.Default}
	c, err := t.contents(arch.Default)
	// The loader of the first is amd64's, and packages for dpkg have programs in them that the engine runs itself.
	if err != nil || t == ImagingForms || strings.HasSuffix(string(t), "-deb") {
		return all
	}
	for _, name := range c.suite.Toolchain.Engines {
		if a, err := arch.Parse(name); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// Targets returns every target.
func Targets() []Target {
	var all []Target
	for _, s := range suite.All() {
		for _, image := range s.Images() {
			all = append(all, Target(image.Name))
		}
	}
	for _, a := range arch.All {
		all = append(all, ImagingFor(a))
	}
	return append(all, ImagingForms)
}

// ParseTarget reads a target's name.
func ParseTarget(s string) (Target, error) {
	_, err := Target(s).contents(arch.Default)
	if err != nil {
		return "", err
	}
	return Target(s), nil
}

// Suite is the one whose packages the target is made of.
func (t Target) Suite() (suite.Suite, error) {
	c, err := t.contents(arch.Default)
	return c.suite, err
}

// stage is the target's in Dockerfile.builder. All images of a suite have one: they differ only in their packages.
func (t Target) stage() string {
	suite, _, _ := strings.Cut(string(t), "-")
	return suite
}

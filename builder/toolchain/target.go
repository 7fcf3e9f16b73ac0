package toolchain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/archive"
)

// Target is one image. The kernel toolchains have their suite's name, which is
// also that of their stage of Dockerfile.builder; see stage.
type Target string

// The targets.
const (
	Bullseye Target = "bullseye" // gcc-9 and gcc-10
	Bookworm Target = "bookworm" // gcc-12
	Trixie   Target = "trixie"   // gcc-14

	// Compilers beside the one of their suite, for who asks for them.
	BookwormGCC11 Target = "bookworm-gcc-11"
	TrixieGCC12   Target = "trixie-gcc-12"
	TrixieGCC13   Target = "trixie-gcc-13"

	// A suite's compilers and what packs a kernel for dpkg, for who asks for that.
	BullseyeDeb Target = "bullseye-deb"
	BookwormDeb Target = "bookworm-deb"
	TrixieDeb   Target = "trixie-deb"

	Imaging Target = "imaging" // debootstrap, e2fsprogs, QEMU and gdb, on trixie
)

// kernelTools is what a kernel build calls besides the compiler: no config of
// its own Kconfig asks for more, but for Rust and for documentation. Perl is
// the base's perl-base; nothing in a build needs Python.
var kernelTools = []string{
	"binutils", "bc", "bison", "flex", "make", "patch", // the build itself
	"libelf-dev", "libssl-dev", "openssl", // objtool; certificates and signed modules
	"libncurses-dev",                   // menuconfig
	"bzip2", "lz4", "xz-utils", "zstd", // what a kernel or its source may be compressed with
	"cpio", "kmod", // initramfs, modules
	"dwarves", // BTF
	"ccache",
}

// packTools is what kbuild's bindeb-pkg calls besides kernelTools: rsync for the
// headers (5.10 does, 4.19 does not), debhelper (6.12 does, 6.1 does not). fakeroot
// has no part in it; see package kernel.
var packTools = []string{"dpkg-dev", "debhelper", "rsync"}

// recipe is what a target is made of.
type recipe struct {
	name     Target
	suite    string
	base     []string // decides alternatives that the base's own dependencies leave open
	packages []string
}

var targets = []recipe{
	// pkg-config is left out of bullseye: it brings all of Perl there, a sixth of
	// the image, and every user of it in kernels of that era has a default.
	{Bullseye, "bullseye", []string{"mawk"}, append([]string{"gcc-9", "gcc-10"}, kernelTools...)},
	{Bookworm, "bookworm", []string{"mawk", "usr-is-merged"}, append([]string{"gcc-12", "pkgconf"}, kernelTools...)},
	{Trixie, "trixie", []string{"mawk"}, append([]string{"gcc-14", "pkgconf"}, kernelTools...)},
	{BookwormGCC11, "bookworm", []string{"mawk", "usr-is-merged"}, append([]string{"gcc-11", "pkgconf"}, kernelTools...)},
	{TrixieGCC12, "trixie", []string{"mawk"}, append([]string{"gcc-12", "pkgconf"}, kernelTools...)},
	{TrixieGCC13, "trixie", []string{"mawk"}, append([]string{"gcc-13", "pkgconf"}, kernelTools...)},
	// No kernel of bullseye's compilers calls debhelper.
	{BullseyeDeb, "bullseye", []string{"mawk"}, append([]string{"gcc-9", "gcc-10", "dpkg-dev", "rsync"}, kernelTools...)},
	{BookwormDeb, "bookworm", []string{"mawk", "usr-is-merged"}, slices.Concat([]string{"gcc-12", "pkgconf"}, packTools, kernelTools)},
	{TrixieDeb, "trixie", []string{"mawk"}, slices.Concat([]string{"gcc-14", "pkgconf"}, packTools, kernelTools)},
	{Imaging, "trixie", []string{"mawk"}, []string{
		"debootstrap", "debian-archive-keyring", "ubuntu-keyring",
		"e2fsprogs", "libarchive13t64", // mke2fs opens it at run time to fill a file system from a tar
		"qemu-system-x86", "qemu-utils", "seabios", "ipxe-qemu", // the last: e1000 and virtio-net ask for its ROMs
		"gdb", "socat",
		"bzip2", "xz-utils", "zstd",
	}},
}

// Targets returns every target.
func Targets() []Target {
	var all []Target
	for _, t := range targets {
		all = append(all, t.name)
	}
	return all
}

// ParseTarget reads a target's name.
func ParseTarget(s string) (Target, error) {
	r, err := Target(s).recipe()
	return r.name, err
}

func (t Target) recipe() (recipe, error) {
	var known []string
	for _, r := range targets {
		if r.name == t {
			return r, nil
		}
		known = append(known, string(r.name))
	}
	return recipe{}, fmt.Errorf("unknown toolchain %q: kimg knows %s", t, strings.Join(known, ", "))
}

// Suite is the one whose packages the target is made of.
func (t Target) Suite() (archive.Suite, error) {
	r, err := t.recipe()
	if err != nil {
		return archive.Suite{}, err
	}
	return archive.ParseSuite(r.suite)
}

// stage is the target's in Dockerfile.builder. Compilers beside the one of their
// suite, and what packs, have that suite's: what tells them apart is in their packages.
func (t Target) stage() string {
	suite, _, _ := strings.Cut(string(t), "-")
	return suite
}

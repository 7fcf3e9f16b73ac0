package toolchain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/deb"
)

// baseVersion is raised by changes of this file or of package deb that change the bytes of a base. It
// goes into the images' tags; TestBaseVersion says when.
const baseVersion = "1"

// dropped are the files that are left out of the images, as dpkg's path-exclude: a * matches slashes too. Manuals
// are not read in a toolchain image, and each file that is not written shortens a cold build. Packages' own records
// (dpkg's lists) still name them.
var dropped = []string{
	"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
	"/usr/share/lintian/*", "/usr/share/bug/*", "/usr/share/doc-base/*", "/usr/share/bash-completion/*",
	"/usr/share/zsh/*", "/usr/share/applications/*", "/usr/share/icons/*", "/usr/share/pixmaps/*",
	"/usr/share/zoneinfo/*", "/usr/share/alsa/*", pythonTests,
	// What gcc has for programs other than a kernel: half of its files' size.
	// A kernel with link-time optimisation wants clang.
	"/usr/bin/*lto-dump*", "/usr/lib*/gcc/*/lto1",
	"/usr/lib/*/libasan.*", "/usr/lib/*/libhwasan.*", "/usr/lib/*/liblsan.*", "/usr/lib/*/libtsan.*",
	"/usr/lib/*/libubsan.*",
	"/usr/lib/*/libcrypto.a", "/usr/lib/*/libssl.a",
	// QEMU's other machines.
	"/usr/bin/qemu-system-i386", "/usr/bin/qemu-system-x86_64-microvm", "/usr/bin/qemu-storage-daemon",
	"/usr/share/qemu/hppa-*", "/usr/share/qemu/openbios-*", "/usr/share/qemu/opensbi-*", "/usr/share/qemu/palcode-*",
	"/usr/share/qemu/s390-*", "/usr/share/qemu/skiboot*", "/usr/share/qemu/slof*", "/usr/share/qemu/u-boot*",
	"/usr/share/qemu/qemu_vga.ndrv", "/usr/share/qemu/vof*", "/usr/share/qemu/petalogix-*",
	"/usr/share/qemu/bamboo.dtb",
}

const pythonTests = "/usr/lib/python3*/test/*"

// emulators are qemu-user's programs, 15 MB each: the prefixes of their names behind "qemu-".
var emulators = []string{
	"aarch64", "alpha", "arm", "hexagon", "hppa", "i386", "loongarch64", "m68k", "microblaze", "mips", "or1k", "ppc",
	"riscv32", "riscv64", "s390x", "sh4", "sparc", "x86_64", "xtensa",
}

// dropped are the files that are left out of the target's image for an engine of an architecture.
func (t Target) dropped(engine arch.Arch) []string {
	if t == ImagingForms { // xfsprogs has Python, which compiles its tests, too, and fails where they are not
		return slices.DeleteFunc(slices.Clone(dropped), func(p string) bool { return p == pythonTests })
	}
	a, ok := t.imagingArch()
	if !ok || a == arch.Default && engine == arch.Default {
		return dropped
	}
	list := slices.DeleteFunc(slices.Clone(dropped), func(p string) bool { return p == a.Firmware })
	for _, e := range emulators {
		if !strings.HasPrefix(a.Emulator, "qemu-"+e) {
			list = append(list, "/usr/bin/qemu-"+e+"*")
		}
	}
	return list
}

// layBase writes the tar of a root filesystem in which the packages (in order) are unpacked and none is configured,
// with dpkg's database saying just that: so "dpkg --configure -a" in a container finishes it. The packages are for
// engines of an architecture; when dates what belongs to no package, dropped is left out. The packages come from next,
// which returns io.EOF after the last; the same packages give the same bytes.
//
// dpkg --install of the same packages over the tree, as debootstrap does it,
// would write every file a second time and keep both in the image.
func layBase(ctx context.Context, w io.Writer, engine arch.Arch, dropped []string, when time.Time,
	next func() (*deb.Package, error)) error {
	links := strings.Fields(engine.UsrLinks)
	l := deb.NewLayout(w, links, when, func(p string) bool { return drop(dropped, p) })
	// First, so that everything after them can only land behind them.
	for _, d := range links {
		if err := l.MergeUsr(d); err != nil {
			return fmt.Errorf("lay base: %w", err)
		}
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("lay base: %w", err)
		}
		u, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = l.Add(u)
		}
		if err != nil {
			return fmt.Errorf("lay base: %w", err)
		}
	}
	if err := finishBase(l, dropped); err != nil {
		return fmt.Errorf("lay base: %w", err)
	}
	return nil
}

// finishBase lays what belongs to no package and ends the tar.
func finishBase(l *deb.Layout, dropped []string) error {
	var cfg strings.Builder
	cfg.WriteString("# What this image does without.\nforce-unsafe-io\n")
	for _, p := range dropped {
		cfg.WriteString("path-exclude=" + p + "\n")
	}
	for _, f := range []struct{ name, body string }{
		{deb.DpkgDir + "/status", string(l.Status(func(string) deb.State { return deb.Unpacked }))},
		{deb.DpkgDir + "/available", ""},
		{deb.InfoDir + "/format", "1\n"},
		{"etc/dpkg/dpkg.cfg.d/kimg", cfg.String()},
	} {
		if err := l.File(f.name, 0o644, []byte(f.body)); err != nil {
			return err
		}
	}
	// Scripts call awk before mawk's own has made this link an alternative.
	if l.Has("usr/bin/mawk") {
		if err := l.Symlink("usr/bin/awk", "mawk"); err != nil {
			return err
		}
	}
	return l.Close()
}

// drop reports whether a file with this absolute path is one of those that are left out.
func drop(dropped []string, p string) bool {
	for _, pattern := range dropped {
		if ok := matchSlashes(pattern, p); ok {
			return true
		}
	}
	return false
}

// matchSlashes matches as fnmatch(3) does without FNM_PATHNAME, for patterns
// that have no other special character than the star.
func matchSlashes(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for i, part := range parts[1:] {
		if i == len(parts)-2 {
			return strings.HasSuffix(rest, part)
		}
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return rest == ""
}

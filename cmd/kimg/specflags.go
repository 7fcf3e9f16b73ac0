package main

import (
	"reflect"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/suite"
	"github.com/spf13/pflag"
)

// specFlag is a flag that says what to build, and the field of a Spec that it sets.
type specFlag struct {
	name  string
	field func(*spec.Spec) any // a pointer to a text, a list, a size, a number or a switch
	usage string
}

// specFlagTable is all of them, in the order of the help.
var specFlagTable = []specFlag{
	{"kernel", func(s *spec.Spec) any { return &s.Kernel },
		"`SOURCE`: suite (the suite's own kernel package), suite:linux-source-X.Y, a kernel.org version\n" +
			"(6.12.y: its newest), a directory, a tarball (FILE:DIR: the kernel in DIR of it), or the URL of one"},
	{"suite", func(s *spec.Spec) any { return &s.Suite },
		"`SUITE` of the root filesystem: " + strings.Join(suite.Names(), ", ")},
	{"arch", func(s *spec.Spec) any { return &s.Arch },
		"`ARCH` of kernel and root filesystem: " + strings.Join(arch.Names(), ", ") + ", whatever this machine is"},
	{"config", func(s *spec.Spec) any { return &s.Config },
		"base kernel `CONFIG`: defconfig (with debug info, for a guest), vm (small), or a file"},
	{"patch", func(s *spec.Spec) any { return &s.Patches },
		"apply `PATH` to the kernel's source: a patch, a directory of patches, or a series file\n" +
			"(repeatable; after those of kimg.yaml)"},
	{"no-fixes", func(s *spec.Spec) any { return &s.NoFixes },
		"do not apply kimg's own patches for kernels that the toolchain cannot compile without them"},
	{"fragment", func(s *spec.Spec) any { return &s.Fragments },
		"merge config fragment `FILE` over the base (repeatable; after those of kimg.yaml)"},
	{"set", func(s *spec.Spec) any { return &s.Set },
		"set a config symbol, `SYM=VALUE`, over base and fragments (repeatable; after those of kimg.yaml)"},
	{"size", func(s *spec.Spec) any { return &s.Size },
		"`SIZE` of rootfs.img, such as 2G, or min: the smallest that holds its files, and 16M to live in"},
	{"fs", func(s *spec.Spec) any { return &s.FS },
		"file system of rootfs.img, `NAME`: " + strings.Join(form.FileSystems(), ", ")},
	{"initramfs", func(s *spec.Spec) any { return &s.Initramfs },
		"make an initramfs of the root filesystem, rootfs.cpio.gz, for a guest without a disk, in place of rootfs.img"},
	{"include", func(s *spec.Spec) any { return &s.Include },
		"also install `PKG,...`, of the suite's archive or a .deb file (repeatable; besides those of kimg.yaml);\n" +
			"PKG=VERSION is that version"},
	{"components", func(s *spec.Spec) any { return &s.Components },
		"read the components `NAME,...` of the suite's archive, such as main,non-free-firmware\n" +
			"(default: main; of Ubuntu main,universe)"},
	{"archive", func(s *spec.Spec) any { return &s.Archives },
		"also read the archive that `LINE` names as apt does: 'deb [signed-by=KEY] URL SUITE COMPONENT...'\n" +
			"(repeatable; after those of kimg.yaml)"},
	{"variant", func(s *spec.Spec) any { return (*string)(&s.Variant) },
		"packages to start from, `NAME`: minbase or standard"},
	{"overlay", func(s *spec.Spec) any { return &s.Overlay },
		"lay `PATH` over the root filesystem: a directory, whose files become root's, or a tar with its own owners\n" +
			"(repeatable; after those of kimg.yaml)"},
	{"hostname", func(s *spec.Spec) any { return &s.Hostname },
		"`NAME` of the guest (default: kimg)"},
	{"timezone", func(s *spec.Spec) any { return &s.Timezone },
		"`ZONE` of the guest, such as Europe/Berlin"},
	{"locale", func(s *spec.Spec) any { return &s.Locale },
		"`LOCALE` of the guest, such as de_DE.UTF-8"},
	{"run", func(s *spec.Spec) any { return &s.Run },
		"run the script `FILE` in the root filesystem, as root, without a network, before the image is made\n" +
			"(repeatable; after those of kimg.yaml)"},
	{"out", func(s *spec.Spec) any { return &s.Out },
		"put the artifacts into `DIR`"},
	{"mirror", func(s *spec.Spec) any { return &s.Mirror },
		"take packages from `URL` (default: KIMG_MIRROR, this machine's own, or the snapshot service)"},
	{"jobs", func(s *spec.Spec) any { return &s.Jobs },
		"compile with `N` jobs (default: the engine's processors)"},
	{"kernel-mirror", func(s *spec.Spec) any { return &s.KernelMirror },
		"take kernel.org's kernels from `URL` (default: KIMG_KERNEL_MIRROR, or kernel.org itself)"},
	{"kernel-keyring", func(s *spec.Spec) any { return &s.KernelKeyrings },
		"also trust the keys in `FILE` to sign kernels (repeatable)"},
	{"verify-tar", func(s *spec.Spec) any { return &s.VerifyTar },
		"also check the signature of the kernel's uncompressed tar"},
	{"allow-unsigned", func(s *spec.Spec) any { return &s.AllowUnsigned },
		"take a kernel that no known key has signed"},
	{"toolchain", func(s *spec.Spec) any { return &s.Toolchain },
		"compile with `SUITE/GCC`, such as bookworm/gcc-12 (default: the one of the kernel's era)"},
	{"target", func(s *spec.Spec) any { return &s.Targets },
		"also make `TARGET` of the kernel's makefiles, such as fs/open.i or bindeb-pkg; the file, or the packages,\n" +
			"are put into targets/ (repeatable; after those of kimg.yaml)"},
	{"export-source", func(s *spec.Spec) any { return &s.ExportSource },
		"put source/ (unless --kernel is a directory), generated/, compile_commands.json and kimg.gdb\n" +
			"into the out directory, for clangd and gdb"},
	{"privileged", func(s *spec.Spec) any { return &s.Privileged },
		"bootstrap in a fully privileged container, for engines that need it"},
	{"frozen", func(s *spec.Spec) any { return &s.Frozen },
		"refuse what kimg.lock does not pin"},
}

// commaLists are the lists whose values may also be given apart by commas.
var commaLists = []string{"include", "components"}

// add defines the flag, with what is in given as its default.
func (f specFlag) add(flags *pflag.FlagSet, given *spec.Spec) {
	switch at := f.field(given).(type) {
	case *string:
		flags.StringVar(at, f.name, *at, f.usage)
	case *[]string:
		if slices.Contains(commaLists, f.name) {
			flags.StringSliceVar(at, f.name, nil, f.usage)
		} else {
			flags.StringArrayVar(at, f.name, nil, f.usage)
		}
	case *spec.DiskSize:
		flags.TextVar(at, f.name, *at, f.usage)
	case *int:
		flags.IntVar(at, f.name, *at, f.usage)
	case *bool:
		flags.BoolVar(at, f.name, *at, f.usage)
	default:
		panic("flag --" + f.name + " has no type")
	}
}

// take lays what was given over spec: a list goes behind the list that is there.
func (f specFlag) take(sp, given *spec.Spec) {
	to, from := reflect.ValueOf(f.field(sp)).Elem(), reflect.ValueOf(f.field(given)).Elem()
	if slices.Contains(commaLists, f.name) { // as in kimg.yaml
		var all []string
		for _, text := range *f.field(given).(*[]string) {
			all = append(all, spec.Split(f.name, text)...)
		}
		from = reflect.ValueOf(all)
	}
	if to.Kind() == reflect.Slice {
		from = reflect.AppendSlice(to, from)
	}
	to.Set(from)
}

type specFlags struct {
	flags *pflag.FlagSet
	given spec.Spec
}

func addSpecFlags(flags *pflag.FlagSet) *specFlags {
	f := &specFlags{flags: flags, given: spec.Default()}
	flags.SortFlags = false
	for _, flag := range specFlagTable {
		flag.add(flags, &f.given)
	}
	return f
}

// addLock adds --lock, for the commands that can build from a lock file alone.
func (f *specFlags) addLock() {
	f.flags.StringVar(&f.given.Lock, "lock", "",
		"build exactly what the lock `FILE` pins; flags must not contradict it")
}

// spec returns the flags over dir's kimg.yaml over the defaults.
func (f *specFlags) spec(dir string) (spec.Spec, error) {
	sp, err := spec.Load(dir)
	if err != nil {
		return sp, err
	}
	for _, flag := range specFlagTable {
		if f.flags.Changed(flag.name) {
			flag.take(&sp, &f.given)
		}
	}
	if f.given.Lock != "" {
		return f.locked(sp), nil // the lock's values are checked where it is read
	}
	return sp, sp.Check()
}

// locked is a Spec that is held against a lock: kimg.yaml says where and how things are done, flags the rest.
func (f *specFlags) locked(merged spec.Spec) spec.Spec {
	sp := f.given
	sp.Sources, sp.Options = merged.Sources, merged.Options
	f.flags.Visit(func(flag *pflag.Flag) { sp.Given = append(sp.Given, flag.Name) })
	return sp
}

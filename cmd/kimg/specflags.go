package main

import (
	"slices"

	"github.com/spf13/pflag"

	"github.com/kimg/kimg/builder"
)

// specFlags are the flags that say what to build.
type specFlags struct {
	flags *pflag.FlagSet
	given builder.Spec
}

func addSpecFlags(flags *pflag.FlagSet) *specFlags {
	f := &specFlags{flags: flags, given: builder.Default()}
	s := &f.given
	flags.SortFlags = false
	flags.StringVar(&s.Kernel, "kernel", s.Kernel,
		"`SOURCE`: suite (the suite's own kernel package), suite:linux-source-X.Y, a kernel.org version,\n"+
			"a directory, a tarball, or the URL of one")
	flags.StringVar(&s.Suite, "suite", s.Suite,
		"`SUITE` of the root filesystem: bullseye, bookworm, trixie, sid, bionic, focal, jammy, noble")
	flags.StringVar(&s.Config, "config", s.Config,
		"base kernel `CONFIG`: defconfig (with debug info, for a guest), vm (small), or a file")
	flags.StringArrayVar(&s.Patches, "patch", nil,
		"apply `PATH` to the kernel's source: a patch, a directory of patches, or a series file\n"+
			"(repeatable; after those of kimg.yaml)")
	flags.StringArrayVar(&s.Fragments, "fragment", nil,
		"merge config fragment `FILE` over the base (repeatable; after those of kimg.yaml)")
	flags.StringArrayVar(&s.Set, "set", nil,
		"set a config symbol, `SYM=VALUE`, over base and fragments (repeatable; after those of kimg.yaml)")
	flags.TextVar(&s.Size, "size", s.Size, "`SIZE` of rootfs.img")
	flags.StringSliceVar(&s.Include, "include", nil,
		"install `PKG,...` too (repeatable; besides those of kimg.yaml)")
	flags.StringVar((*string)(&s.Variant), "variant", string(s.Variant),
		"packages to start from, `NAME`: minbase or standard")
	flags.StringVar(&s.Out, "out", s.Out, "put the artifacts into `DIR`")
	flags.StringVar(&s.Mirror, "mirror", "",
		"take packages from `URL` (default: KIMG_MIRROR, this machine's own, or the snapshot service)")
	flags.IntVar(&s.Jobs, "jobs", 0, "compile with `N` jobs (default: the engine's processors)")
	flags.StringVar(&s.KernelMirror, "kernel-mirror", "",
		"take kernel.org's kernels from `URL` (default: KIMG_KERNEL_MIRROR, or kernel.org itself)")
	flags.StringArrayVar(&s.KernelKeyrings, "kernel-keyring", nil,
		"trust the keys in `FILE` to sign kernels, too (repeatable)")
	flags.BoolVar(&s.VerifyTar, "verify-tar", false, "check the signature of the kernel's uncompressed tar, too")
	flags.BoolVar(&s.AllowUnsigned, "allow-unsigned", false, "take a kernel that no known key has signed")
	flags.StringVar(&s.Toolchain, "toolchain", "",
		"compile with `SUITE/GCC`, such as bookworm/gcc-12 (default: the one of the kernel's era)")
	flags.StringArrayVar(&s.Targets, "target", nil,
		"make `TARGET` of the kernel's makefiles, too, such as fs/open.i; the file of that name is put below\n"+
			"targets/ (repeatable; after those of kimg.yaml)")
	flags.BoolVar(&s.ExportSource, "export-source", false,
		"put source/ (unless --kernel is a directory), generated/, compile_commands.json and kimg.gdb\n"+
			"into the out directory, for clangd and gdb")
	flags.BoolVar(&s.Privileged, "privileged", false,
		"bootstrap in a fully privileged container, for engines that need it")
	flags.BoolVar(&s.Frozen, "frozen", false, "refuse whatever kimg.lock does not name")
	return f
}

// addLock adds --lock, for the commands that can build from a lock file alone.
func (f *specFlags) addLock() {
	f.flags.StringVar(&f.given.Lock, "lock", "",
		"build what the lock `FILE` pins and nothing else; flags may not ask for something else")
}

// spec returns the flags over dir's kimg.yaml over the defaults.
func (f *specFlags) spec(dir string) (builder.Spec, error) {
	spec, err := builder.Load(dir)
	if err != nil {
		return spec, err
	}
	f.flags.Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "kernel":
			spec.Kernel = f.given.Kernel
		case "suite":
			spec.Suite = f.given.Suite
		case "config":
			spec.Config = f.given.Config
		case "patch":
			spec.Patches = slices.Concat(spec.Patches, f.given.Patches)
		case "fragment":
			spec.Fragments = slices.Concat(spec.Fragments, f.given.Fragments)
		case "set":
			spec.Set = slices.Concat(spec.Set, f.given.Set)
		case "size":
			spec.Size = f.given.Size
		case "include":
			spec.Include = slices.Concat(spec.Include, f.given.Include)
		case "variant":
			spec.Variant = f.given.Variant
		case "out":
			spec.Out = f.given.Out
		case "mirror":
			spec.Mirror = f.given.Mirror
		case "jobs":
			spec.Jobs = f.given.Jobs
		case "kernel-mirror":
			spec.KernelMirror = f.given.KernelMirror
		case "kernel-keyring":
			spec.KernelKeyrings = slices.Concat(spec.KernelKeyrings, f.given.KernelKeyrings)
		case "verify-tar":
			spec.VerifyTar = f.given.VerifyTar
		case "allow-unsigned":
			spec.AllowUnsigned = f.given.AllowUnsigned
		case "toolchain":
			spec.Toolchain = f.given.Toolchain
		case "target":
			spec.Targets = slices.Concat(spec.Targets, f.given.Targets)
		case "export-source":
			spec.ExportSource = f.given.ExportSource
		case "privileged":
			spec.Privileged = f.given.Privileged
		case "frozen":
			spec.Frozen = f.given.Frozen
		}
	})
	if f.given.Lock != "" {
		return f.locked(spec), nil // the lock's values are checked where it is read
	}
	return spec, spec.Check()
}

// locked is a Spec whose values come from a lock: kimg.yaml says where and how
// things are done, and flags what the lock is held against.
func (f *specFlags) locked(merged builder.Spec) builder.Spec {
	spec := f.given
	spec.Out, spec.Mirror, spec.Jobs, spec.Privileged = merged.Out, merged.Mirror, merged.Jobs, merged.Privileged
	spec.KernelMirror, spec.KernelKeyrings, spec.SignKey = merged.KernelMirror, merged.KernelKeyrings, merged.SignKey
	f.flags.Visit(func(flag *pflag.Flag) { spec.Given = append(spec.Given, flag.Name) })
	return spec
}

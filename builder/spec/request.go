package spec

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// Request is what is wanted, with the user's own files in it: what a Spec and a Lock have in common.
type Request struct {
	Arch      Arch
	Kernel    string // as Spec.Kernel
	Suite     string
	Variant   Variant
	Include   []string // sorted, without repeats: the order does not change what is installed
	Config    ConfigLock
	Patches   []PatchLock
	NoFixes   bool
	Targets   []string
	Toolchain string
	Size      DiskSize // Smallest where the form has no choice
	Form      Form
	Custom    Custom // an overlay of a Spec has no digest yet

	Components []string       // in a lock's order; none: the family's own
	Archives   []OtherArchive // in the order in which they count
	Debs       []Deb          // those of a Spec have no digest yet
}

// Request reads the files that a Spec names and checks them. Errors are *InputError where the user can mend them.
func (s Spec) Request() (Request, error) {
	a, err := arch.Parse(s.Arch)
	if err != nil {
		return Request{}, s.Wrong("--arch", s.Arch, err)
	}
	config, err := s.config(a)
	if err != nil {
		return Request{}, err
	}
	if _, err := kernel.ParseSource(s.Kernel); err != nil {
		return Request{}, s.Wrong("--kernel", s.Kernel, err)
	}
	patches, err := readPatches(s.Patches, s.Wrong)
	if err != nil {
		return Request{}, err
	}
	as, err := s.form()
	if err != nil {
		return Request{}, err
	}
	own, err := s.custom()
	if err != nil {
		return Request{}, err
	}
	archives, err := readArchives(s.Archives, a, s.Wrong)
	if err != nil {
		return Request{}, err
	}
	return Request{
		Custom: own, Components: s.components(), Archives: archives, Debs: s.Debs(),
		Arch: a, Kernel: s.Kernel, Suite: s.Suite, Variant: s.Variant, Include: s.includes(),
		Config: config, Patches: patches, NoFixes: s.NoFixes, Targets: s.Targets, Toolchain: s.Toolchain,
		Size: s.formSize(as), Form: as,
	}, nil
}

// Request is what the lock was made for.
func (l *Lock) Request() Request {
	return Request{
		Arch: l.Arch, Kernel: l.Kernel.Request,
		Suite: l.Rootfs.Suite, Variant: l.Rootfs.Variant, Include: l.Rootfs.Include,
		Config: l.Config, Patches: l.Kernel.Patches, NoFixes: l.Kernel.NoFixes, Targets: l.Kernel.Targets,
		Toolchain: l.Toolchain.Request, Size: l.Image.Size, Form: l.Image.Form, Custom: l.Custom,
		Components: l.Rootfs.Components, Archives: l.Rootfs.archives(), Debs: l.Rootfs.debs(),
	}
}

// Check validates a request that came from a lock, which may be anybody's.
func (q Request) Check() error {
	s := Default()
	s.Kernel, s.Suite, s.Arch, s.Variant, s.Include = q.Kernel, q.Suite, q.Arch.Name, q.Variant, q.Include
	s.Set, s.Targets, s.Size, s.Components = q.Config.Set, q.Targets, q.Size, q.Components
	if s.Initramfs = q.Form == form.Initramfs; !s.Initramfs {
		s.FS = q.Form.String()
	}
	if i := slices.IndexFunc(q.Include, isDeb); i >= 0 {
		return fmt.Errorf("%q is not a package name", q.Include[i])
	}
	if err := s.CheckValues(); err != nil {
		return err
	}
	for _, a := range q.Archives {
		if err := a.check(); err != nil {
			return err
		}
	}
	return q.Custom.Check()
}

// Includes reports whether a package was asked for by its name.
func (q Request) Includes(name string) bool {
	return slices.ContainsFunc(q.Include, func(p string) bool {
		is, _, _ := archive.CutVersion(p)
		return is == name
	})
}

// includes are the names of --include in one order and without repeats, with what else is asked for needs.
func (s Spec) includes() []string {
	need := custom.Custom{Timezone: s.Timezone, Locale: s.Locale}
	if len(s.AuthorizedKeys) > 0 {
		need.AuthorizedKeys = []custom.Keys{{}}
	}
	return include(s.Include, need)
}

// include adds to packages those that something else needs.
func include(list []string, need Custom) []string {
	names := slices.DeleteFunc(slices.Concat(list, need.Packages(list)), isDeb)
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

func (s Spec) config(a Arch) (ConfigLock, error) {
	c := ConfigLock{Base: s.Config, Set: s.Set}
	if !kernel.Builtin(s.Config) {
		f, err := lockFile(s.Config)
		if err != nil {
			return c, s.Wrong("--config", s.Config, err)
		}
		if c.Base, c.SHA256, c.Text = f.Path, f.SHA256, f.Text; kernel.Builtin(c.Base) {
			c.Base = "./" + c.Base // a file that is called so
		}
	}
	for _, name := range s.Fragments {
		f, err := lockFile(name)
		if err != nil {
			return c, s.Wrong("--fragment", name, err)
		}
		c.Fragments = append(c.Fragments, f)
	}
	parsed, err := c.Parse(a)
	if err == nil {
		err = parsed.Check()
	}
	if err != nil { // before anything is made for it
		return c, &InputError{Field: "config", Err: err}
	}
	return c, nil
}

// MaxConfig bounds a config or a fragment, in bytes: a distribution's has 300 KB.
const MaxConfig = 4 << 20

// lockFile pins one of the user's own small files, without its compression.
func lockFile(name string) (FileLock, error) {
	b, err := reading.Small(name, MaxConfig)
	if err != nil {
		return FileLock{}, fmt.Errorf("read config: %w", err)
	}
	if suffix, ok := decompress.Suffix(b); ok { // such as /proc/config.gz
		if b, err = unpack(b, suffix); err != nil {
			return FileLock{}, fmt.Errorf("read config %s: %w", name, err)
		}
	}
	return FileLock{Path: filepath.Base(name), SHA256: units.DigestOf(b), Text: string(b)}, nil
}

func unpack(b []byte, suffix string) ([]byte, error) {
	plain, err := decompress.NewReader(bytes.NewReader(b), suffix)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	return io.ReadAll(reading.Bounded(plain, MaxConfig, fmt.Errorf("it unpacks to more than %d bytes", MaxConfig)))
}

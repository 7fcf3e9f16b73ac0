package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/units"
)

// SpecFile is where a project keeps its Spec.
const SpecFile = "kimg.yaml"

// Spec is what is wanted, as the person wrote it: flags over kimg.yaml over
// defaults.
type Spec struct {
	Kernel    string          `yaml:"kernel"`    // "suite", "suite:linux-source-X.Y", a version, a directory or a tarball
	Suite     string          `yaml:"suite"`     // trixie, bionic, ...
	Config    string          `yaml:"config"`    // "defconfig", "vm" or a file
	Fragments []string        `yaml:"fragments"` // config fragment files, merged in this order
	Set       []string        `yaml:"set"`       // SYM=VALUE, merged last
	Size      units.Size      `yaml:"size"`      // of rootfs.img
	Include   []string        `yaml:"include"`   // packages on top of the variant's
	Variant   archive.Variant `yaml:"variant"`   // minbase or standard
	Targets   []string        `yaml:"targets"`   // further make targets
	Patches   []string        `yaml:"patches"`   // patch files, directories of them and series files, applied in this order
	Toolchain string          `yaml:"toolchain"` // "suite/gcc-N" over the era's choice; empty: the era's

	NoFixes bool `yaml:"no-fixes"` // none of kimg's own patches

	KernelMirror   string   `yaml:"kernel-mirror"`  // base of kernel.org's layout; empty: kernel.org's own
	KernelKeyrings []string `yaml:"kernel-keyring"` // files of more keys that may sign kernels
	VerifyTar      bool     `yaml:"verify-tar"`     // check the signature of the uncompressed tar, too
	AllowUnsigned  bool     `yaml:"allow-unsigned"` // take a kernel that no known key signed

	ExportSource bool `yaml:"export-source"` // write the source, compile_commands.json and kimg.gdb for tools

	SignKey string `yaml:"sign-key"` // file of the private key that signs the provenance; cmd reads it

	Out        string `yaml:"out"`        // directory of the artifacts
	Mirror     string `yaml:"mirror"`     // of the suite's archive; empty: see archive.FindMirror
	Jobs       int    `yaml:"jobs"`       // of make; 0: as many as the engine has processors
	Privileged bool   `yaml:"privileged"` // the bootstrap container is fully privileged
	Frozen     bool   `yaml:"-"`          // refuse what the lock does not name

	Lock  string   `yaml:"-"` // a lock file that all of the above up to Toolchain comes from; see replay
	Given []string `yaml:"-"` // with Lock: the flags that the person gave all the same, such as "suite"
}

// Default is the Spec of a person who asks for nothing.
func Default() Spec {
	return Spec{
		Kernel: "suite", Suite: "trixie", Config: "defconfig", Size: 1 << 30,
		Variant: archive.Minbase, Out: "kimg-out",
	}
}

// Load returns the defaults with dir's kimg.yaml, where there is one, over them.
// Paths in the file are relative to it.
func Load(dir string) (Spec, error) {
	s := Default()
	name := filepath.Join(dir, SpecFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read spec: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return s, &SpecError{Field: SpecFile, Err: fmt.Errorf("read %s: %w", name, err)}
	}
	rel := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	for i := range s.Fragments {
		s.Fragments[i] = rel(s.Fragments[i])
	}
	for i := range s.Patches {
		s.Patches[i] = rel(s.Patches[i])
	}
	for i := range s.KernelKeyrings {
		s.KernelKeyrings[i] = rel(s.KernelKeyrings[i])
	}
	s.Out, s.SignKey = rel(s.Out), rel(s.SignKey)
	if !kernel.Builtin(s.Config) {
		s.Config = rel(s.Config)
	}
	if strings.Contains(s.Kernel, "/") && !strings.Contains(s.Kernel, "://") {
		s.Kernel = rel(s.Kernel)
	}
	return s, nil
}

// SpecError is a Spec that cannot be meant: the field as the flag spells it, and
// what is wrong with it.
type SpecError struct {
	Field string
	Err   error
}

func (e *SpecError) Error() string { return fmt.Sprintf("%s: %v", e.Field, e.Err) }

// Unwrap gives the reason.
func (e *SpecError) Unwrap() error { return e.Err }

// packageName is Debian policy 5.6.1.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// setting is SYM=VALUE, with or without CONFIG_.
var setting = regexp.MustCompile(`^(CONFIG_)?[A-Za-z0-9_]+=[^\n]*$`)

// maxSize bounds --size: ext4's own limit with 4 KiB blocks is far above what a
// laptop can hold, so a larger number is a slip of the keyboard.
const maxSize = units.Size(1 << 40)

// minSize holds a file system with a journal; the tree's own need is checked
// against its real size later.
const minSize = units.Size(64 << 20)

// Check validates what can be judged without meeting the world.
func (s Spec) Check() error {
	if err := s.checkValues(); err != nil {
		return err
	}
	if err := kernelorg.CheckKeyrings(s.KernelKeyrings...); err != nil {
		return &SpecError{"--kernel-keyring", err}
	}
	files := slices.Clone(s.Fragments)
	if !kernel.Builtin(s.Config) {
		files = append(files, s.Config)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil {
			return &SpecError{"config", fmt.Errorf("read %s: %w (a base config is defconfig, vm or a file)", f, err)}
		} else if !st.Mode().IsRegular() {
			return &SpecError{"config", fmt.Errorf("read %s: not a regular file", f)}
		}
	}
	return nil
}

// checkValues is Check without the files.
func (s Spec) checkValues() error {
	if _, err := archive.ParseSuite(s.Suite); err != nil {
		return &SpecError{"--suite", err}
	}
	if s.Variant != archive.Minbase && s.Variant != archive.Standard {
		return &SpecError{"--variant", fmt.Errorf("unknown variant %q: want %s or %s", s.Variant, archive.Minbase, archive.Standard)}
	}
	if s.Size < minSize || s.Size > maxSize || s.Size%(1<<20) != 0 {
		return &SpecError{"--size", fmt.Errorf("%s is not a size for a root filesystem: want %s to %s, in whole MiB", s.Size, minSize, maxSize)}
	}
	if s.Jobs < 0 || s.Jobs > 4096 {
		return &SpecError{"--jobs", fmt.Errorf("%d is not a number of jobs", s.Jobs)}
	}
	for _, p := range s.Include {
		if !packageName.MatchString(p) {
			return &SpecError{"--include", fmt.Errorf("%q is not a package name", p)}
		}
	}
	for _, v := range s.Set {
		if !setting.MatchString(v) {
			return &SpecError{"--set", fmt.Errorf("%q: want SYM=VALUE, such as KASAN=y", v)}
		}
	}
	for _, t := range s.Targets {
		if err := kernel.CheckTarget(t); err != nil {
			return &SpecError{"--target", err}
		}
	}
	if err := kernelorg.CheckBase(s.KernelMirror); err != nil {
		return &SpecError{"--kernel-mirror", err}
	}
	if err := archive.CheckMirror(s.Mirror); err != nil {
		return &SpecError{"--mirror", err}
	}
	if s.Kernel == "" {
		return &SpecError{"--kernel", errors.New("is empty: want suite, a version, a directory or a tarball")}
	}
	if s.Out == "" {
		return &SpecError{"--out", errors.New("is empty")}
	}
	return nil
}

// Package spec is what is wanted and what is pinned: a Spec is what the user wrote, a Lock is that with every
// outside thing pinned by digest, and a Request is what the two have in common. It is data, read and checked; it
// knows no engine and asks no server.
package spec

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/yamlfile"
)

// File is where a project keeps its Spec.
const File = "kimg.yaml"

// Spec is what is wanted, as the user wrote it: flags over kimg.yaml over defaults.
type Spec struct {
	Kernel    string   `yaml:"kernel"`    // "suite", "suite:linux-source-X.Y", a version, a directory or a tarball
	Suite     string   `yaml:"suite"`     // trixie, bionic, ...
	Arch      string   `yaml:"arch"`      // amd64, arm64, riscv64 or ppc64el: the guest's, whatever this machine is
	Config    string   `yaml:"config"`    // "defconfig", "vm" or a file
	Fragments []string `yaml:"fragments"` // config fragment files, merged in this order
	Set       []string `yaml:"set"`       // SYM=VALUE, merged last
	Size      DiskSize `yaml:"size"`      // of rootfs.img
	FS        string   `yaml:"fs"`        // of rootfs.img: ext4, squashfs, ...
	Initramfs bool     `yaml:"initramfs"` // an initramfs in its place
	Include   []string `yaml:"include"`   // packages on top of the variant's, and .deb files
	Variant   Variant  `yaml:"variant"`   // minbase or standard
	Targets   []string `yaml:"targets"`   // further make targets
	Patches   []string `yaml:"patches"`   // patch files, directories of them and series files, applied in this order
	Toolchain string   `yaml:"toolchain"` // "suite/gcc-N" over the era's choice; empty: the era's
	NoFixes   bool     `yaml:"no-fixes"`  // none of kimg's own patches

	Components []string `yaml:"components"` // of the suite's archive; none: what a plain installation draws from
	Archives   []string `yaml:"archives"`   // further ones, as lines of apt's sources.list

	Customs `yaml:",inline"`
	Sources `yaml:",inline"`
	Options `yaml:",inline"`

	Lock  string   `yaml:"-"` // a lock file that all of the above up to NoFixes comes from
	Given []string `yaml:"-"` // with Lock: the fields, as kimg.yaml and the flags call them, that were set all the same

	places places // where in kimg.yaml its values are
}

// Sources is where things come from and who may vouch for them. It is in no lock: another mirror has the same bits.
type Sources struct {
	Mirror         string   `yaml:"mirror"`         // of the suite's archive; empty: the machine's own, or the default
	KernelMirror   string   `yaml:"kernel-mirror"`  // base of kernel.org's layout; empty: kernel.org's own
	KernelKeyrings []string `yaml:"kernel-keyring"` // files of more keys that may sign kernels
	VerifyTar      bool     `yaml:"verify-tar"`     // check the signature of the uncompressed tar, too
	AllowUnsigned  bool     `yaml:"allow-unsigned"` // take a kernel that no known key signed
	Frozen         bool     `yaml:"-"`              // refuse what the lock does not name
}

// Options is how a build runs on this machine and what it leaves there. It is in no lock and no artifact.
type Options struct {
	Out          string `yaml:"out"`           // directory of the artifacts
	Engine       string `yaml:"engine"`        // the container engine, as container.Choice names it; empty: auto
	Jobs         int    `yaml:"jobs"`          // of make; 0: as many as the engine has processors
	Privileged   bool   `yaml:"privileged"`    // the bootstrap container is fully privileged
	ExportSource bool   `yaml:"export-source"` // write the source, compile_commands.json and kimg.gdb for tools
	SignKey      string `yaml:"sign-key"`      // file of the private key that signs the provenance; cmd reads it
}

// Default is the Spec of a user who asks for nothing.
func Default() Spec {
	return Spec{
		Kernel: "suite", Suite: "trixie", Arch: arch.Default.Name, Config: "defconfig", Size: 1 << 30,
		FS:      form.Ext4.String(),
		Variant: Minbase, Options: Options{Out: "kimg-out"},
	}
}

// maxFile bounds a kimg.yaml, in bytes.
const maxFile = 1 << 20

// Load returns the defaults with dir's kimg.yaml over them, its paths relative to it.
func Load(dir string) (Spec, error) {
	s := Default()
	name := filepath.Join(dir, File)
	b, err := reading.Small(name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		other := filepath.Join(dir, strings.TrimSuffix(File, "yaml")+"yml")
		if _, err := os.Lstat(other); err == nil {
			return s, &InputError{Err: fmt.Errorf("there is %s, which kimg does not read: call it %s", other, File)}
		}
		return s, nil
	}
	if err != nil {
		return s, &InputError{Field: File, Err: err}
	}
	r := &fileReader{Reader: yamlfile.Reader{File: name}}
	values := r.spec(b, &s)
	if err := r.Err(); err != nil {
		return s, &InputError{Err: err}
	}
	rel := func(p string) string {
		p = inHome(p)
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	for _, list := range [][]string{s.Fragments, s.Patches, s.KernelKeyrings, s.Overlay, s.Run} {
		for i := range list {
			list[i] = rel(list[i])
		}
	}
	for i := range s.Files {
		s.Files[i].Source = rel(s.Files[i].Source)
	}
	for i, p := range s.Include {
		if !isDeb(p) {
			continue
		}
		if s.Include[i] = rel(p); !isDeb(s.Include[i]) { // ./x becomes x
			s.Include[i] = "./" + s.Include[i]
		}
	}
	for i, text := range s.Archives {
		if archive.IsAptFile(text) {
			s.Archives[i] = rel(text)
		} else if l, err := archive.ParseLine(text); err == nil { // else Request says what is wrong
			keys := strings.Split(l.Key, ",")
			for i := range keys {
				keys[i] = rel(keys[i])
			}
			l.Key = strings.Join(keys, ",")
			s.Archives[i] = l.String()
		}
	}
	for i, k := range s.AuthorizedKeys {
		if !custom.IsKey(k.Key) && !strings.Contains(k.Key, "://") {
			s.AuthorizedKeys[i].Key = rel(k.Key)
		}
	}
	s.Out, s.SignKey = rel(s.Out), rel(s.SignKey)
	if !kernel.Builtin(s.Config) {
		s.Config = rel(s.Config)
	}
	if strings.Contains(s.Kernel, "/") && !strings.Contains(s.Kernel, "://") {
		s.Kernel = rel(s.Kernel)
	}
	s.places = placesOf(name, values, &s)
	return s, nil
}

// inHome is a path where no shell was there to put the home directory into it.
func inHome(p string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return p
}

// InputError reports an invalid field of what the user asked for.
type InputError struct {
	Field string // as the flag or the file spells it, with its line there; empty: Err says it
	Err   error
}

func (e *InputError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%s: %v", e.Field, e.Err)
}

func (e *InputError) Unwrap() error { return e.Err }

// packageName is Debian policy 5.6.1.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// packageVersion is what a version is made of, Debian policy 5.6.12.
var packageVersion = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~:-]*$`)

// setting is SYM=VALUE, with or without CONFIG_.
var setting = regexp.MustCompile(`^(CONFIG_)?[A-Za-z0-9_]+=[^\n]*$`)

// Check validates what can be judged on this machine.
func (s Spec) Check() error {
	if err := s.CheckValues(); err != nil {
		return err
	}
	for _, f := range s.KernelKeyrings {
		if err := kernelorg.CheckKeyrings(f); err != nil {
			return s.Wrong("--kernel-keyring", f, err)
		}
	}
	check := func(flag, f, or string) error {
		if st, err := os.Stat(f); err != nil {
			return s.Wrong(flag, f, fmt.Errorf("read %s: %w%s", f, err, or))
		} else if !st.Mode().IsRegular() {
			return s.Wrong(flag, f, fmt.Errorf("read %s: it is %s: want a file", f, reading.Kind(st.Mode())))
		}
		return nil
	}
	for _, f := range s.Fragments {
		if err := check("--fragment", f, ""); err != nil {
			return err
		}
	}
	if err := s.checkDebs(); err != nil {
		return err
	}
	if kernel.Builtin(s.Config) {
		return nil
	}
	return check("--config", s.Config, " (a base config is defconfig, vm or a file)"+meantBase(s.Config))
}

// meantBase names the base config that was probably meant by a file's name.
func meantBase(file string) string {
	if near := editdist.Near(filepath.Base(file), kernel.Bases()); near != "" {
		return ": did you mean " + near + "?"
	}
	return ""
}

// CheckValues is Check without the files.
func (s Spec) CheckValues() error {
	of, err := suite.Parse(s.Suite)
	if err != nil {
		if _, source := kernel.ParseSource("suite:" + s.Suite); source == nil && s.Suite != "" {
			err = fmt.Errorf("%s is a kernel's source, and a package: want kernel: suite:%s (--kernel), and a suite "+
				"that has it: %s", s.Suite, s.Suite, strings.Join(suite.Names(), ", "))
		}
		return s.Wrong("--suite", s.Suite, err)
	}
	a, err := arch.Parse(s.Arch)
	if err == nil && !of.Has(a.Name) {
		err = fmt.Errorf("%s is not made for %s: want %s, or another suite", of, a, strings.Join(of.Arches, " or "))
	}
	if err != nil {
		return s.Wrong("--arch", s.Arch, err)
	}
	if s.Variant != Minbase && s.Variant != Standard {
		return s.Wrong("--variant", s.Variant,
			fmt.Errorf("unknown variant %q: want %s or %s", s.Variant, Minbase, Standard))
	}
	if err := s.Size.check(); err != nil {
		return s.Wrong("--size", s.Size, err)
	}
	if err := s.checkForm(); err != nil {
		return err
	}
	if s.Jobs < 0 || s.Jobs > 4096 {
		return s.Wrong("--jobs", s.Jobs, fmt.Errorf("%d is not a number of jobs", s.Jobs))
	}
	exact := map[string]string{}
	for _, p := range s.Include {
		if isDeb(p) {
			continue
		}
		name, version, pin := archive.CutVersion(p)
		switch {
		case !packageName.MatchString(name):
			more := ""
			if own, _, of := strings.Cut(name, ":"); of && packageName.MatchString(own) {
				more = ": packages are those of the guest's own architecture: leave out what follows the colon"
			}
			return s.Wrong("--include", p, fmt.Errorf("%q is not a package name%s", name, more))
		case pin && !packageVersion.MatchString(version):
			return s.Wrong("--include", p, fmt.Errorf("%q is not a version of a package: want %s=VERSION, as apt "+
				"has it", version, name))
		case pin && exact[name] != "" && exact[name] != version:
			return s.Wrong("--include", p, fmt.Errorf("%s is to be both %s and %s", name, exact[name], version))
		}
		exact[name] = cmp.Or(version, exact[name])
	}
	for _, v := range s.Set {
		if !setting.MatchString(v) {
			return s.Wrong("--set", v, fmt.Errorf("%q: want SYM=VALUE, such as KASAN=y", v))
		}
	}
	if err := kernel.CheckToolchain(s.Toolchain); err != nil {
		return s.Wrong("--toolchain", s.Toolchain, err)
	}
	for _, t := range s.Targets {
		if err := kernel.CheckTarget(t); err != nil {
			return s.Wrong("--target", t, err)
		}
	}
	if err := archive.CheckComponents(s.Components); err != nil {
		return s.Wrong("--components", s.Components[0], err)
	}
	if err := s.checkCustoms(); err != nil {
		return err
	}
	if err := kernelorg.CheckBase(s.KernelMirror); err != nil {
		return s.Wrong("--kernel-mirror", s.KernelMirror, err)
	}
	if err := archive.CheckMirror(s.Mirror); err != nil {
		return s.Wrong("--mirror", s.Mirror, err)
	}
	if s.Kernel == "" {
		return s.Wrong("--kernel", s.Kernel, errors.New("is empty: want suite, a version, a directory or a tarball"))
	}
	if s.Config == "" {
		return s.Wrong("--config", s.Config, errors.New("is empty: want defconfig, vm or a file"))
	}
	if s.Out == "" {
		return s.Wrong("--out", s.Out, errors.New("is empty"))
	}
	return nil
}

// The values that Specs and Locks are made of. Each validates itself when it is read.
type (
	// Digest is a sha256 in lower-case hexadecimal; empty: none.
	Digest = units.Digest
	// Size is a number of bytes; ParseSize reads one.
	Size = units.Size
	// KernelVersion is a kernel's version, as its Makefile has it.
	KernelVersion = units.KernelVersion
	// Arch is an architecture.
	Arch = arch.Arch
	// Suite is a release of a distribution.
	Suite = suite.Suite
	// Variant says which packages a root filesystem has at the least.
	Variant = archive.Variant
	// Package is a package of an archive, pinned.
	Package = archive.Locked
	// Download is a kernel that was downloaded, and who vouched for it.
	Download = kernelorg.Verified
	// ActionID names all that a step reads, in hexadecimal.
	ActionID = steps.ActionID
)

// The variants.
const (
	Minbase  = archive.Minbase
	Standard = archive.Standard
)

// ParseSize reads a size as people write it for disks: 1G, 512M, 2GiB (powers of 1024).
func ParseSize(s string) (Size, error) { return units.ParseSize(s) }

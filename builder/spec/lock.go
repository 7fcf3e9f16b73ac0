package spec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
	"go.yaml.in/yaml/v3"
)

// LockFile is the lock's name beside the artifacts.
const LockFile = artifact.Lock

// LockVersion is the form of the lock; a lock of another form is not guessed at. What version 2 pins is all read,
// so that Update can renew it; it has actions of another kind, so that nothing is built from it.
const LockVersion = 3

const oldVersion = 2

// Lock is the Spec with every outside thing pinned. A section whose request is unchanged keeps its pins from build
// to build: what is built moves only when something else is asked for or the lock is removed.
type Lock struct {
	Version   int           `yaml:"version"`
	Arch      Arch          `yaml:"arch"`
	Kernel    KernelLock    `yaml:"kernel"`
	Config    ConfigLock    `yaml:"config"`
	Toolchain ToolchainLock `yaml:"toolchain"` // what the kernel compiles in
	Imaging   ToolchainLock `yaml:"imaging"`   // what the file system is made in
	Rootfs    RootfsLock    `yaml:"rootfs"`
	Custom    Custom        `yaml:"custom,omitempty"` // what is done to it
	Image     ImageLock     `yaml:"image"`
	Actions   ActionsLock   `yaml:"actions"`
	Digest    Digest        `yaml:"digest,omitempty"` // of all lines before it; the file's last line
}

// ActionsLock records the action IDs that the rest of the lock had in the kimg that wrote it. A kimg that makes the
// artifacts in another way, and so might make other bits, has other ones.
type ActionsLock struct {
	Kernel ActionID `yaml:"kernel"`
	Image  ActionID `yaml:"image"`
}

// KernelLock pins the kernel's source.
type KernelLock struct {
	Request  string        `yaml:"request"`                // --kernel
	Epoch    int64         `yaml:"epoch"`                  // seconds since 1970: the build time that the kernel has
	Targets  []string      `yaml:"targets,omitempty,flow"` // --target
	Patches  []PatchLock   `yaml:"patches,omitempty"`      // --patch, in the order in which they are applied
	Fixes    []FixLock     `yaml:"fixes,omitempty"`        // that the source may need, applied before them
	NoFixes  bool          `yaml:"no-fixes,omitempty"`     // --no-fixes
	Suite    string        `yaml:"suite,omitempty"`
	Version  KernelVersion `yaml:"version"`           // as its Makefile says
	Release  string        `yaml:"release,omitempty"` // what it calls itself once it is made, where that is not Version
	Source   string        `yaml:"source"`            // as kernel.Kind
	SHA256   Digest        `yaml:"sha256,omitempty"`  // of the tarball or package; of the listing of a directory
	Archive  *ArchiveLock  `yaml:"archive,omitempty"`
	Package  *Package      `yaml:"package,omitempty"`
	Download *Download     `yaml:"download,omitempty"`
}

// Name is the source without the directory that it is in: where the user keeps it is not what it is.
func (l KernelLock) Name() string {
	if l.Local() {
		return filepath.Base(l.Request)
	}
	return l.Request
}

// Called is what the kernel calls itself, as uname -r has it: what make computes is known once it is made.
func (l KernelLock) Called() string { return cmp.Or(l.Release, l.Version.String()) }

// Local reports whether the source is a directory or tarball of the user's own.
func (l KernelLock) Local() bool {
	return l.Source == string(kernel.Directory) || l.Source == string(kernel.Tarball)
}

// ArchiveLock pins one state of a package archive.
type ArchiveLock struct {
	Suite     string    `yaml:"suite"`
	Date      time.Time `yaml:"date"` // the InRelease's own
	InRelease Digest    `yaml:"inrelease"`
	SignedBy  []string  `yaml:"signed-by,flow"` // fingerprints of the keys
}

// ConfigLock pins what the kernel is configured from: files are in it whole.
type ConfigLock struct {
	Base      string     `yaml:"base"`             // defconfig, vm or a file's name, without its directory
	SHA256    Digest     `yaml:"sha256,omitempty"` // of a file
	Text      string     `yaml:"text,omitempty"`   // of a file
	Fragments []FileLock `yaml:"fragments,omitempty"`
	Set       []string   `yaml:"set,omitempty"`
}

// Parse reads what the kernel, for an architecture, is configured from, all of which is in the lock.
func (c ConfigLock) Parse(a Arch) (kernel.Config, error) {
	out := kernel.Config{Arch: a, Base: c.Base}
	var errs []error
	if !kernel.Builtin(c.Base) {
		out.File = kconfig.Trim([]byte(c.Text))
	}
	for _, f := range c.Fragments {
		r, err := kernel.ParseFragment(strings.NewReader(f.Text), f.Path, a)
		out.Requests, errs = append(out.Requests, r...), append(errs, err)
	}
	for _, set := range c.Set {
		r, err := kernel.ParseSet(set)
		out.Requests, errs = append(out.Requests, r), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// FileLock pins one of the user's own files.
type FileLock struct {
	Path   string `yaml:"path"` // without its directory, which is the user's own business
	SHA256 Digest `yaml:"sha256"`
	Text   string `yaml:"text,omitempty"`
}

// ToolchainLock pins a toolchain image.
type ToolchainLock struct {
	Request  string           `yaml:"request,omitempty"` // --toolchain
	Target   toolchain.Target `yaml:"target"`
	Compiler string           `yaml:"compiler,omitempty"`
	Why      string           `yaml:"why,omitempty"`
	Origin   string           `yaml:"origin"` // "shipped" with kimg, or "resolved" anew from the archive
	Image    string           `yaml:"image"`
	Lock     *toolchain.Lock  `yaml:"lock"`

	// Engines are the same compilers or tools for engines of other architectures than the default, which Image and Lock
	// are for.
	Engines []*toolchain.Lock `yaml:"engines,omitempty"`
}

// On is the lock of the image for engines of an architecture; else an *EngineError.
func (t ToolchainLock) On(engine Arch) (*toolchain.Lock, error) {
	for _, l := range append([]*toolchain.Lock{t.Lock}, t.Engines...) {
		if l.Arch() == engine {
			return l, nil
		}
	}
	return nil, &EngineError{t.Target, engine}
}

// EngineError says that a toolchain's image is not for engines of an architecture.
type EngineError struct {
	Target toolchain.Target
	Engine Arch
}

func (e *EngineError) Error() string {
	return fmt.Sprintf("the lock has no packages of the toolchain %s for an engine of %s", e.Target, e.Engine)
}

// Hint says whether there are any.
func (e *EngineError) Hint() string {
	if slices.Contains(e.Target.Engines(), e.Engine) {
		return "kimg lock update toolchain"
	}
	if strings.HasPrefix(string(e.Target), string(toolchain.Imaging)) {
		return "there are none: use an engine of " + arch.Default.Name
	}
	return "there are none that make the same bits: use another with --toolchain (kimg toolchain ls), or an engine " +
		"of " + arch.Default.Name
}

// The origins of a toolchain's lock.
const (
	Shipped  = "shipped"
	Resolved = "resolved"
)

// RootfsLock pins the root filesystem's packages.
type RootfsLock struct {
	Suite   string   `yaml:"suite"`
	Variant Variant  `yaml:"variant"`
	Include []string `yaml:"include,flow"`

	Components []string    `yaml:"components,omitempty,flow"` // of the suite's archive; none: its family's own
	Archives   []OtherLock `yaml:"archives,omitempty"`        // besides the suite's

	Epoch    int64       `yaml:"epoch"` // seconds since 1970: no file is newer
	Archive  ArchiveLock `yaml:"archive"`
	Required []Package   `yaml:"required"` // in debootstrap's order
	Base     []Package   `yaml:"base"`
}

// Packages are all of them.
func (r RootfsLock) Packages() []Package { return slices.Concat(r.Required, r.Base) }

// Asks reports whether the lock was made for this request.
func (r RootfsLock) Asks(q Request) bool {
	return r.of(q.Arch) && r.Suite == q.Suite && r.Variant == q.Variant && slices.Equal(r.Include, q.Include) &&
		slices.Equal(r.Components, q.Components) && SameDebs(r.debs(), q.Debs) &&
		slices.EqualFunc(r.archives(), q.Archives, OtherArchive.same)
}

// of reports whether no package is another architecture's.
func (r RootfsLock) of(a Arch) bool {
	return !slices.ContainsFunc(r.Required, func(p Package) bool {
		return p.Arch != "" && p.Arch != "all" && p.Arch != a.Name
	})
}

// ImageLock pins what the root filesystem is made as, and what mke2fs and its like would otherwise draw at random.
type ImageLock struct {
	Form     Form      `yaml:"form,omitempty"` // empty: ext4
	Size     DiskSize  `yaml:"size"`
	UUID     uuid.UUID `yaml:"uuid"`
	HashSeed uuid.UUID `yaml:"hash-seed"`
}

// idSpace is the name space of kimg's version 5 UUIDs (RFC 9562 5.5).
var idSpace = uuid.MustParse("8f3d4c0e-52a5-4f0b-9a43-6b696d672031")

// NewImageLock derives the identifiers from what is in the image: the same packages, customised alike, give the same
// file system, and two file systems that differ can be told apart on one machine.
func NewImageLock(size DiskSize, r RootfsLock, c Custom) ImageLock {
	var b bytes.Buffer
	for _, p := range r.Packages() {
		fmt.Fprintln(&b, p.SHA256)
	}
	if c.Any() {
		fmt.Fprintln(&b, c.Digest())
	}
	id := uuid.NewSHA1(idSpace, b.Bytes())
	return ImageLock{Size: size, UUID: id, HashSeed: uuid.NewSHA1(id, []byte("hash seed"))}
}

// Marshal writes the lock as YAML; the same lock is the same bytes.
func (l *Lock) Marshal() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Written by kimg: everything outside that this build stands on, pinned. " +
		"Review it, keep it, do not edit it.\n")
	bare := *l
	bare.Digest = ""
	var doc yaml.Node
	if err := doc.Encode(&bare); err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	onePackageALine(&doc)
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	fmt.Fprintf(&b, "%s%s\n", digestKey, units.DigestOf(b.Bytes()))
	return b.Bytes(), nil
}

// digestKey begins the last line.
const digestKey = "digest: "

// MaxLock bounds a lock, in bytes; that of a defconfig build has 100 KB, and a
// whole .config in it as many again. Patches may be maxPatchText, indented.
const MaxLock = 32 << 20

// onePackageALine writes each package on a line of its own, for reviews.
func onePackageALine(n *yaml.Node) {
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 && n.Content[0].Value == "name" {
		n.Style = yaml.FlowStyle
	}
	for _, c := range n.Content {
		onePackageALine(c)
	}
}

// ReadLock reads a lock file. A missing file is fs.ErrNotExist.
func ReadLock(name string) (*Lock, error) {
	b, err := reading.Small(name, MaxLock)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read lock: %w", err)
	case err != nil:
		return nil, &LockError{File: name, Err: err}
	}
	l, err := ParseLock(b)
	if err != nil {
		return nil, &LockError{File: name, Err: err}
	}
	return l, nil
}

// ParseLock reads what Marshal writes, and refuses it when a single byte of it is another.
func ParseLock(b []byte) (*Lock, error) {
	if len(b) > MaxLock {
		return nil, fmt.Errorf("it has more than %d bytes", MaxLock)
	}
	if err := checkSeal(b); err != nil { // first: of what is damaged, the YAML's faults are no news
		return nil, err
	}
	var l struct {
		Lock  `yaml:",inline"`
		Means ActionsLock `yaml:"means"` // what version 2 called the actions
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&l); err != nil {
		return nil, err
	}
	switch l.Version {
	case LockVersion:
		if l.Means != (ActionsLock{}) {
			return nil, errors.New("it has a field that only an older version has: means")
		}
	case oldVersion:
		l.Arch, l.Actions = arch.AMD64, l.Means // there was no other
	default:
		return nil, fmt.Errorf("its version is %d, this kimg reads %d", l.Version, LockVersion)
	}
	l.Digest = "" // of the file; what becomes of the lock is another one
	if err := l.whole(); err != nil {
		return nil, err
	}
	return &l.Lock, nil
}

// Current reports why nothing can be built from a lock of an older version; nil: it is of this one.
func (l *Lock) Current() error {
	if l.Version == LockVersion {
		return nil
	}
	return fmt.Errorf("it is of version %d, and a build takes version %d", l.Version, LockVersion)
}

// errSeal is a lock without the last line that it must have.
var errSeal = errors.New("it is damaged or was changed: its last line is not its digest")

// checkSeal compares a lock with its last line, before anything in it is read as a lock.
func checkSeal(b []byte) error {
	end := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n') + 1
	last := string(b[end:])
	said, err := units.ParseDigest(strings.TrimSuffix(strings.TrimPrefix(last, digestKey), "\n"))
	if err != nil || last != digestKey+string(said)+"\n" {
		return errSeal
	}
	if got := units.DigestOf(b[:end]); got != said {
		return fmt.Errorf("it is damaged or was changed: its digest is %s, and it says %s", got, said)
	}
	return nil
}

// whole refuses a lock without the parts that it must have: its readers rely on them.
func (l *Lock) whole() error {
	k := l.Kernel
	if err := l.Rootfs.checkFrom(); err != nil {
		return err
	}
	if l.Toolchain.Lock == nil || l.Imaging.Lock == nil || len(l.Rootfs.Required) == 0 {
		return errors.New("it names no packages: is it cut off?")
	}
	for _, t := range []ToolchainLock{l.Toolchain, l.Imaging} {
		for i, of := range append([]*toolchain.Lock{t.Lock}, t.Engines...) {
			if of == nil || of.Target != t.Target || (i > 0) != (of.Engine != "") {
				return fmt.Errorf("its packages of %s are another toolchain's, or for another engine", t.Target)
			}
		}
	}
	if k.SHA256 == "" {
		return errors.New("it has no digest of the kernel's source")
	}
	if l.Arch == (Arch{}) {
		return errors.New("it names no architecture")
	}
	if (k.Package == nil) != (k.Archive == nil) {
		return errors.New("it has the kernel's package without its archive, or the archive without the package")
	}
	var pinned, downloaded bool
	switch kernel.Kind(k.Source) {
	case kernel.Suite:
		pinned = true
	case kernel.Release, kernel.URL:
		downloaded = true
	case kernel.Directory, kernel.Tarball:
	default:
		return fmt.Errorf("it has a kernel from %q, which this kimg does not know", k.Source)
	}
	if pinned != (k.Package != nil) || downloaded != (k.Download != nil) {
		return fmt.Errorf("its fields do not fit a kernel from a %s", k.Source)
	}
	if pinned && k.Package.SHA256 != k.SHA256 || downloaded && k.Download.SHA256 != k.SHA256 {
		return errors.New("it has two digests of the kernel's source")
	}
	return nil
}

// NamedLock reads a lock that the user named. One that is not there is a *NoLockError.
func NamedLock(name string) (*Lock, error) {
	l, err := ReadLock(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoLockError{name}
	}
	return l, err
}

// NoLockError is a lock that is not there.
type NoLockError struct{ File string }

func (e *NoLockError) Error() string { return fmt.Sprintf("read lock: there is no %s", e.File) }

// Hint says where locks are.
func (e *NoLockError) Hint() string {
	return "kimg build writes one into the out directory; --lock names another"
}

// LockError is a lock file that cannot be used.
type LockError struct {
	File string
	Err  error
}

func (e *LockError) Error() string { return fmt.Sprintf("read lock %s: %v", e.File, e.Err) }

func (e *LockError) Unwrap() error { return e.Err }

// Hint says what to do without it.
func (e *LockError) Hint() string {
	return "take it from where it was whole (a backup, version control); a build without it pins everything anew"
}

package builder

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/units"
)

// written is a fixture as a build would have written it, with a config and a
// fragment of the person's own in it.
func written(t *testing.T) (file string, l *Lock) {
	t.Helper()
	l = fixture(t)
	base := "CONFIG_X=y\n\ttab, \"quotes\" and no end"
	l.Config = ConfigLock{Base: "my.config", SHA256: units.DigestOf([]byte(base)), Text: base, Set: []string{"KASAN=y"},
		Fragments: []FileLock{
			{
				Path:   "debug.fragment",
				SHA256: units.DigestOf([]byte("CONFIG_DEBUG_LIST=y\n")),
				Text:   "CONFIG_DEBUG_LIST=y\n",
			},
		}}
	patch := "From: x\n\n" + aPatch("open.c", "\ty")
	l.Kernel.Patches = []PatchLock{
		{Path: "open.patch", Strip: 1, SHA256: units.DigestOf([]byte(patch)), Text: spec.PatchText(patch)},
	}
	for _, tl := range []*ToolchainLock{&l.Toolchain, &l.Imaging} {
		tl.Image = tl.Lock.Ref()
	}
	l.Kernel.Fixes = spec.FixLocks(l.Kernel.KimgFixes(l.Toolchain.Request))
	l.Actions = testSession(t).plan(l).actions()
	return writeLock(t, l), l
}

func replayOf(t *testing.T, file string, edit func(*Spec)) (*Plan, error) {
	t.Helper()
	s := testSession(t)
	s.spec.Lock = file
	if edit != nil {
		edit(&s.spec)
	}
	w, err := want(s.spec)
	if err != nil {
		return nil, err
	}
	s.from, s.suite, s.kernel = w.from, w.q.Suite, w.q.Kernel
	return s.prepare(t.Context(), w, s.spec.Out)
}

func TestLockIsWrittenAsRead(t *testing.T) {
	file, l := written(t)
	got, err := spec.ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := got.Marshal(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("what was read is not written as it was: %v", err)
	}
	if !reflect.DeepEqual(got.Config, l.Config) {
		t.Errorf("config %+v", got.Config)
	}
}

// Every byte of a lock counts.
func TestLockDamaged(t *testing.T) {
	file, _ := written(t)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if len(b) > 4000 {
		step = len(b) / 80
	}
	flip := func(i int) {
		t.Helper()
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := spec.ParseLock(bad); err == nil || !strings.Contains(err.Error(), "damaged or was changed") {
			t.Errorf("byte %d (%q) flipped: %v", i, b[i], err)
		}
	}
	for i := 0; i < len(b); i += step {
		flip(i)
	}
	for i := len(b) - 76; i < len(b); i++ {
		flip(i)
	}
	for i := range 130 {
		flip(i)
	}
	last := bytes.Clone(b) // of the digest, where a short form of it shows nothing
	last[len(b)-2] = "ab"[last[len(b)-2]%2]
	if _, err := spec.ParseLock(last); err == nil || !strings.Contains(err.Error(), string(last[len(b)-65:len(b)-1])) {
		t.Errorf("the digests are not told in full: %v", err)
	}
	for _, cut := range []int{0, 1, len(b) / 2, len(b) - 1, bytes.LastIndex(b, []byte("digest:"))} {
		if _, err := spec.ParseLock(b[:cut]); err == nil {
			t.Errorf("cut off after %d of %d bytes: no error", cut, len(b))
		}
	}
}

// TestLockIsWhole: a lock may be anybody's, with a digest that fits, and lack what
// all of its readers take to be there.
func TestLockIsWhole(t *testing.T) {
	for name, edit := range map[string]func(*Lock){
		"a package and no archive":  func(l *Lock) { l.Kernel.Archive = nil },
		"an archive and no package": func(l *Lock) { l.Kernel.Package = nil },
		"no package":                func(l *Lock) { l.Kernel.Package, l.Kernel.Archive = nil, nil },
		"no download": func(l *Lock) {
			l.Kernel.Package, l.Kernel.Archive, l.Kernel.Source = nil, nil,
				"release"
		},
		"a package of a directory": func(l *Lock) { l.Kernel.Source = "directory" },
		"two digests":              func(l *Lock) { l.Kernel.SHA256 = units.DigestOf(nil) },
		"an unknown source":        func(l *Lock) { l.Kernel.Source = "moon" },
		"no toolchain":             func(l *Lock) { l.Toolchain.Lock = nil },
		"no imaging":               func(l *Lock) { l.Imaging.Lock = nil },
		"no root filesystem":       func(l *Lock) { l.Rootfs.Required = nil },
	} {
		l := fixture(t)
		edit(l)
		b, err := l.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := spec.ParseLock(b); err == nil || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadLockOfNoFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), LockFile)
	if err := syscall.Mkfifo(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := spec.ReadLock(name); err == nil || !strings.Contains(err.Error(), "not a plain file") {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := spec.ReadLock(name + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

func TestReplayIsTheLocksOwn(t *testing.T) {
	file, l := written(t)
	p, err := replayOf(t, file, func(s *Spec) { s.Out, s.Jobs = "elsewhere", 7 })
	if err != nil {
		t.Fatal(err)
	}
	if got := p.actions(); got != l.Actions {
		t.Errorf("it means %v, want %v", got, l.Actions)
	}
	if b, err := p.Lock.Marshal(); err != nil || !strings.Contains(string(b), string(l.Actions.Kernel)) {
		t.Errorf("the lock it leaves: %v", err)
	}
}

func TestReplayRefusesContradictions(t *testing.T) {
	file, _ := written(t)
	other := filepath.Join(t.TempDir(), "other.fragment")
	same := filepath.Join(t.TempDir(), "renamed.fragment")
	for name, text := range map[string]string{other: "CONFIG_DEBUG_LIST=n\n", same: "CONFIG_DEBUG_LIST=y\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		flag string
		edit func(*Spec)
		ok   bool
	}{
		{"suite", func(s *Spec) { s.Suite = "trixie" }, false},
		{"suite", func(s *Spec) { s.Suite = "bullseye" }, true},
		{"arch", func(s *Spec) { s.Arch = "arm64" }, false},
		{"arch", func(s *Spec) { s.Arch = "amd64" }, true},
		{"kernel", func(s *Spec) { s.Kernel = "6.12" }, false},
		{"kernel", func(s *Spec) { s.Kernel = "suite" }, true},
		{"size", func(s *Spec) { s.Size = 2 << 30 }, false},
		{"include", func(s *Spec) { s.Include = []string{"strace"} }, false},
		{"set", func(s *Spec) { s.Set = []string{"KASAN=n"} }, false},
		{"set", func(s *Spec) { s.Set = []string{"KASAN=y"} }, true},
		{"config", func(s *Spec) { s.Config = "vm" }, false},
		{"fragment", func(s *Spec) { s.Fragments = []string{other} }, false},
		{"fragment", func(s *Spec) { s.Fragments = []string{same} }, true},
		{"toolchain", func(s *Spec) { s.Toolchain = "bookworm/gcc-12" }, false},
		{"out", func(s *Spec) { s.Out = "x" }, true},
	} {
		_, err := replayOf(t, file, func(s *Spec) { c.edit(s); s.Given = []string{c.flag} })
		var bad *InputError
		if c.ok && err != nil ||
			!c.ok && (!errors.As(err, &bad) || bad.Field != "--"+c.flag || !strings.Contains(err.Error(), file)) {
			t.Errorf("--%s (fits: %v): %v", c.flag, c.ok, err)
		}
	}
}

// A kimg that would make other bits from a lock says so.
func TestReplayRefusesAnotherMeaning(t *testing.T) {
	for name, edit := range map[string]func(*Lock){
		"kernel":    func(l *Lock) { l.Actions.Kernel = "0" },
		"image":     func(l *Lock) { l.Actions.Image = "0" },
		"toolchain": func(l *Lock) { l.Imaging.Image += "0" },
		"compiler":  func(l *Lock) { l.Toolchain.Compiler = "gcc-9" },
	} {
		file, _ := written(t)
		l, err := spec.ReadLock(file)
		if err != nil {
			t.Fatal(err)
		}
		edit(l)
		b, err := l.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		var refused *ReplayError
		if _, err := replayOf(t, file, nil); !errors.As(err, &refused) || refused.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A tree of the person's own may lie elsewhere, and must be the same.
func TestReplayOfALocalTree(t *testing.T) {
	tree := func(extra string) string {
		dir := filepath.Join(t.TempDir(), "linux")
		files(t, dir, "Kconfig", "", "Kbuild", "",
			"Makefile", "VERSION = 5\nPATCHLEVEL = 10\nSUBLEVEL = 7\nEXTRAVERSION =\n"+extra)
		return dir
	}
	here := tree("")
	_, l := written(t)
	s := testSession(t)
	s.spec.Kernel = here
	var err error
	if l.Kernel, err = s.resolveKernel(t.Context(), KernelLock{}); err != nil {
		t.Fatal(err)
	}
	l.Kernel.Epoch = 1
	l.Kernel.Fixes = spec.FixLocks(l.Kernel.KimgFixes(l.Toolchain.Request))
	l.Actions = s.plan(l).actions()
	if got := outdir.Inputs(l)[0].Name; got != "linux" {
		t.Errorf("the manifest calls the source %q", got)
	}
	b, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), LockFile)
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(here, here+"-moved"); err != nil {
		t.Fatal(err)
	}
	var refused *ReplayError
	if _, err := replayOf(t, file, nil); !errors.As(err, &refused) {
		t.Errorf("the tree is gone: %v", err)
	}
	at := func(dir string) func(*Spec) {
		return func(s *Spec) { s.Kernel, s.Given = dir, []string{"kernel"} }
	}
	if _, err := replayOf(t, file, at(here+"-moved")); err != nil {
		t.Errorf("the tree elsewhere: %v", err)
	}
	if _, err := replayOf(t, file, at(tree("# edited\n"))); !errors.As(err, &refused) {
		t.Errorf("another tree: %v", err)
	}
}

// Where a person keeps their files is in no part of a build that must be the same.
func TestLockNamesNoDirectories(t *testing.T) {
	dir := t.TempDir()
	s := testSession(t)
	for _, name := range []string{"vm", "b.fragment"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("CONFIG_X=y\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.spec.Config, s.spec.Fragments = filepath.Join(dir, "vm"), []string{filepath.Join(dir, "b.fragment")}
	q, err := s.spec.Request()
	if err != nil {
		t.Fatal(err)
	}
	c := q.Config
	if c.Base != "./vm" || c.Fragments[0].Path != "b.fragment" || c.Text != "CONFIG_X=y\n" {
		t.Errorf("lock is %+v", c)
	}
	k, err := c.Parse(q.Arch)
	if err != nil || string(k.File) != "CONFIG_X=y\n" || len(k.Requests) != 1 {
		t.Errorf("config is %+v, %v", k, err)
	}
}

// What a lock pins is built, and not what would follow from it anew: a lock whose toolchain was renewed in the middle
// of a build, by an older kimg, has a build time that is not the toolchain's.
func TestReplayIsToTheLetter(t *testing.T) {
	_, l := written(t)
	l.Kernel.Epoch = l.Toolchain.Lock.Date.Unix() - 1
	l.Actions = testSession(t).plan(l).actions()
	p, err := replayOf(t, writeLock(t, l), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.actions() != l.Actions || p.Lock.Kernel.Epoch != l.Kernel.Epoch {
		t.Errorf("built is %v with the time %d, want %v and %d",
			p.actions(), p.Lock.Kernel.Epoch, l.Actions, l.Kernel.Epoch)
	}
}

// A toolchain that is renewed in the middle of a build gives its date to the kernel, as in the next build.
func TestRenewedToolchainDatesTheKernel(t *testing.T) {
	s, l := resolved(t)
	want := s.plan(l).actions()
	l.Kernel.Epoch--
	(&resolver{q: l.Request()}).derive(l)
	if got := s.plan(l).actions(); got != want {
		t.Errorf("derived is %v, want %v", got, want)
	}
}

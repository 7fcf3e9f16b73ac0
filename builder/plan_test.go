package builder

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

func TestPlanAsText(t *testing.T) {
	s := testSession(t)
	l := fixture(t)
	p := s.plan(l)
	var list []steps.Status
	for _, step := range p.All {
		list = append(list, steps.Status{Step: step, Needed: true, Why: []string{"not made before"}})
	}
	var got strings.Builder
	if err := writePlan(&got, p, list); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(got.String()) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "run" {
			lines = append(
				lines,
				f[1]+": "+strings.Join(f[3:], " "),
			) // without the ActionID, which changes with kimg's own recipes
		}
	}
	want := []string{
		"toolchain-bullseye: make the toolchain image bullseye (" + l.Toolchain.Lock.Digest().Short() + ")",
		"source: fetch linux-source-5.10 1.0-1",
		"kernel: compile Linux 5.10.223 (vm, gcc-10)",
		"toolchain-imaging: make the toolchain image imaging (" + l.Imaging.Lock.Digest().Short() + ")",
		"packages: fetch 3 packages of bullseye",
		"rootfs: bootstrap bullseye (minbase)",
		"image: make the ext4 image of 1G",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("plan is\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if !strings.HasPrefix(got.String(), "5.10.223 -> bullseye, gcc-10: because\n") {
		t.Errorf("the plan does not begin with the era:\n%s", got.String())
	}
}

// Another architecture is named where it is, and only what it makes is another.
func TestPlanOfAnotherArch(t *testing.T) {
	titles := func(a arch.Arch) map[string]string {
		l := fixture(t)
		l.Arch = a
		m := map[string]string{}
		for _, s := range testSession(t).plan(l).All {
			m[s.ID] = s.Title
		}
		return m
	}
	got := titles(arch.ARM64)
	for id, want := range map[string]string{
		"kernel": "compile Linux 5.10.223 (vm, gcc-10, arm64)", "rootfs": "bootstrap bullseye (minbase, arm64)",
		"packages": titles(arch.AMD64)["packages"],
	} {
		if got[id] != want {
			t.Errorf("%s: %s", id, got[id])
		}
	}
	l := fixture(t)
	if f := testSession(t).plan(l).fields(nil); f.Arch != "" {
		t.Errorf("the manifest has the architecture %q, which older ones lack", f.Arch)
	}
	l.Arch = arch.RISCV64
	f := testSession(t).plan(l).fields(nil)
	if f.Arch != "riscv64" || !strings.Contains(f.Steps[len(f.Steps)-2].Allowed, "user namespaces") {
		t.Errorf("the manifest has the architecture %q, and %s", f.Arch, f.Steps[len(f.Steps)-2].Allowed)
	}
}

// Each edit of the lock changes the actions of the steps that read it, and of no
// other.
func TestPlanFollowsTheLock(t *testing.T) {
	ids := func(l *Lock) map[string]steps.ActionID {
		m := map[string]steps.ActionID{}
		for _, s := range testSession(t).plan(l).All {
			m[s.ID] = s.ActionID()
		}
		return m
	}
	unfixed := func() *Lock {
		l := fixture(t)
		l.Kernel.Version.Minor = 9 // for which kimg has no fixes, with its own toolchain
		return l
	}
	before := ids(unfixed())
	for _, c := range []struct {
		name    string
		edit    func(*Lock)
		changed []string
	}{
		{"nothing", func(*Lock) {}, nil},
		{"a setting", func(l *Lock) { l.Config.Set = []string{"KASAN=y"} }, []string{"kernel"}},
		{"a patch", func(l *Lock) {
			l.Kernel.Patches = []PatchLock{{Path: "a",
				SHA256: units.DigestOf([]byte("a"))}}
		}, []string{"kernel"}},
		{"a toolchain that needs fixes", func(l *Lock) { l.Toolchain.Request = "trixie" }, []string{"kernel"}},
		{"a toolchain that needs fixes, without them", func(l *Lock) {
			l.Toolchain.Request,
				l.Kernel.NoFixes = "trixie", true
		}, nil},
		{"a make target", func(l *Lock) { l.Kernel.Targets = []string{"fs/open.i"} }, []string{"kernel"}},
		{"modules", func(l *Lock) { l.Config.Set = []string{"MODULES=y"} }, []string{"image", "kernel"}},
		{"a patch whose digest begins alike", func(l *Lock) {
			d := units.DigestOf([]byte("a"))
			l.Kernel.Patches = []PatchLock{{Path: "a", SHA256: d[:63] + "0"}}
		}, []string{"kernel"}},
		{"the base config", func(l *Lock) { l.Config.Base = "defconfig" }, []string{"kernel"}},
		{"the compiler", func(l *Lock) { l.Toolchain.Compiler = "gcc-9" }, []string{"kernel"}},
		{"the kernel's source", func(l *Lock) { l.Kernel.SHA256 = units.DigestOf([]byte("x")) }, []string{"kernel"}},
		{"the image's size", func(l *Lock) { l.Image.Size = 2 << 30 }, []string{"image"}},
		{"a size that follows from the tree", func(l *Lock) { l.Image.Size = spec.Smallest }, []string{"image"}},
		{"a package", func(l *Lock) { l.Rootfs.Base[0].SHA256 = units.DigestOf([]byte("y")) }, []string{"image",
			"packages", "rootfs"}},
		{"a package of the imaging image", func(l *Lock) {
			lock := *l.Imaging.Lock
			lock.Packages = append(slices.Clone(lock.Packages), lock.Packages[0])
			l.Imaging.Lock = &lock
		}, []string{"image", "rootfs", "toolchain-imaging"}},
		{"the imaging image", func(l *Lock) { l.Imaging.Image += "0" }, []string{"image", "rootfs",
			"toolchain-imaging"}},
		{"a kernel whose ext4 knows less", func(l *Lock) { l.Kernel.Version.Minor = 4 }, nil},
	} {
		l := unfixed()
		c.edit(l)
		var changed []string
		for id, action := range ids(l) {
			if before[id] != action {
				changed = append(changed, id)
			}
		}
		slices.Sort(changed)
		if !slices.Equal(changed, c.changed) {
			t.Errorf("%s changes %q, want %q", c.name, changed, c.changed)
		}
	}
}

// Digests that differ in what a short form does not show are other actions.
func TestActionsAreOfWholeDigests(t *testing.T) {
	alike := func(d units.Digest) units.Digest {
		last := byte('0')
		if d[63] == last {
			last = '1'
		}
		return d[:63] + units.Digest(last)
	}
	unfixed := func() *Lock {
		l := fixture(t)
		l.Kernel.Version.Minor = 9
		l.Kernel.Patches = []PatchLock{{Path: "a", SHA256: units.DigestOf([]byte("a"))}}
		return l
	}
	before := testSession(t).plan(unfixed())
	for name, edit := range map[string]func(*Lock){
		"source":   func(l *Lock) { l.Kernel.SHA256 = alike(l.Kernel.SHA256) },
		"patch":    func(l *Lock) { l.Kernel.Patches[0].SHA256 = alike(l.Kernel.Patches[0].SHA256) },
		"required": func(l *Lock) { l.Rootfs.Required[0].SHA256 = alike(l.Rootfs.Required[0].SHA256) },
		"base":     func(l *Lock) { l.Rootfs.Base[0].SHA256 = alike(l.Rootfs.Base[0].SHA256) },
		"package":  func(l *Lock) { l.Kernel.Package.SHA256 = alike(l.Kernel.Package.SHA256) },
	} {
		l := unfixed()
		edit(l)
		same := true
		for i, s := range testSession(t).plan(l).All {
			same = same && s.ActionID() == before.All[i].ActionID()
		}
		if same {
			t.Errorf("%s: another digest, the same actions", name)
		}
	}
	for _, s := range before.All {
		for _, f := range s.Reads {
			if strings.Contains(f.Shown, "...") || len(f.Shown) > len(f.Value) && !strings.Contains(f.Shown, " ") {
				t.Errorf("%s shows %q of %s", f.Name, f.Shown, f.Value)
			}
		}
	}
}

// What is wanted otherwise in the tree is a step of its own: the tree is not bootstrapped anew for it.
func TestCustomIsAStepOfItsOwn(t *testing.T) {
	l := fixture(t)
	bare := testSession(t).plan(l)
	l.Custom.Hostname = "vm1"
	p := testSession(t).plan(l)
	for i, s := range bare.All[:len(bare.All)-1] {
		if p.All[i].ActionID() != s.ActionID() {
			t.Errorf("%s has another action", s.ID)
		}
	}
	if got := p.All[len(p.All)-2]; got.ID != customStep || got.Title != "lay over the tree: settings" {
		t.Errorf("the step before the image is %s: %s", got.ID, got.Title)
	}
	if p.Image.ActionID() == bare.Image.ActionID() {
		t.Error("another tree gives the same image")
	}
}

// Every field of a lock is in a key, or is here with the reason why it need not be.
func TestEveryFieldOfTheLockIsInAKey(t *testing.T) {
	notInAKey := map[string]string{
		"Version":                         "the form of the file",
		"Digest":                          "of the file, whose fields are",
		"Actions.Kernel":                  "a key itself",
		"Actions.Image":                   "a key itself",
		"Kernel.Request":                  "how the source was asked for; SHA256 says what it is",
		"Kernel.Release":                  "follows from all the rest",
		"Kernel.Suite":                    "where the source was found",
		"Kernel.NoFixes":                  "with it there are no fixes, which are",
		"Kernel.Fixes":                    "follow from the version and the toolchain; kimg's own texts are hashed",
		"Kernel.Archive.Suite":            "where a package is from",
		"Kernel.Archive.Date":             "where a package is from",
		"Kernel.Archive.InRelease":        "where a package is from",
		"Kernel.Archive.SignedBy":         "who vouched for it",
		"Kernel.Package.Name":             "for users; its digest is in the key",
		"Kernel.Package.Version":          "for users; its digest is in the key",
		"Kernel.Package.Arch":             "for users; its digest is in the key",
		"Kernel.Package.Filename":         "where it is",
		"Kernel.Package.Size":             "of what the digest is of",
		"Kernel.Download.URL":             "where it is",
		"Kernel.Download.SHA256":          "is Kernel.SHA256, which whole() holds",
		"Kernel.Download.SignedBy":        "who vouched for it",
		"Kernel.Download.TarSignedBy":     "who vouched for it",
		"Kernel.Download.Unsigned":        "who vouched for it",
		"Kernel.Download.Why":             "who vouched for it",
		"Kernel.Download.Pinned":          "how it was checked",
		"Config.Base":                     "what a file is called changes nothing; whether it is one is in the key",
		"Kernel.Patches.Path":             "what a patch is called changes nothing",
		"Kernel.Patches.Text":             "its digest is in the key, and checked when it is applied",
		"Custom.Overlays.Path":            "what an overlay is called changes nothing",
		"Custom.Overlays.From":            "is in no lock",
		"Config.SHA256":                   "of Text, which is hashed",
		"Config.Fragments.Path":           "names the file in errors",
		"Config.Fragments.SHA256":         "of Text, which is hashed",
		"Toolchain.Request":               "chose the compiler, which is in the key",
		"Toolchain.Target":                "in its step's name and lock",
		"Toolchain.Why":                   "for users",
		"Toolchain.Origin":                "for users",
		"Imaging.Request":                 "of the kernel's toolchain only",
		"Imaging.Compiler":                "of the kernel's toolchain only",
		"Imaging.Why":                     "for users",
		"Imaging.Origin":                  "for users",
		"Toolchain.Engines":               "the same compilers elsewhere, which make the same bits",
		"Toolchain.Lock.Engine":           "whose packages they are, whose digests are in the key",
		"Imaging.Engines":                 "the same tools elsewhere, which make the same bits",
		"Imaging.Lock.Engine":             "whose packages they are, whose digests are in the key",
		"Toolchain.Lock.InRelease":        "where the packages are from, whose digests are in the key",
		"Imaging.Lock.InRelease":          "where the packages are from, whose digests are in the key",
		"Toolchain.Lock.Suite":            "where the packages are from",
		"Toolchain.Lock.Base.Name":        "for users; the digest is in the key",
		"Toolchain.Lock.Base.Version":     "for users; the digest is in the key",
		"Toolchain.Lock.Base.Arch":        "for users; the digest is in the key",
		"Toolchain.Lock.Base.Size":        "of what the digest is of",
		"Toolchain.Lock.Packages.Name":    "for users; the digest is in the key",
		"Toolchain.Lock.Packages.Version": "for users; the digest is in the key",
		"Toolchain.Lock.Packages.Arch":    "for users; the digest is in the key",
		"Toolchain.Lock.Packages.Size":    "of what the digest is of",
		"Imaging.Lock.Suite":              "where the packages are from",
		"Imaging.Lock.Base.Name":          "for users; the digest is in the key",
		"Imaging.Lock.Base.Version":       "for users; the digest is in the key",
		"Imaging.Lock.Base.Arch":          "for users; the digest is in the key",
		"Imaging.Lock.Base.Size":          "of what the digest is of",
		"Imaging.Lock.Packages.Name":      "for users; the digest is in the key",
		"Imaging.Lock.Packages.Version":   "for users; the digest is in the key",
		"Imaging.Lock.Packages.Arch":      "for users; the digest is in the key",
		"Imaging.Lock.Packages.Size":      "of what the digest is of",
		"Rootfs.Required.Arch":            "for users; the digest is in the key",
		"Rootfs.Required.Filename":        "where it is",
		"Rootfs.Required.Size":            "of what the digest is of",
		"Rootfs.Base.Arch":                "for users; the digest is in the key",
		"Rootfs.Base.Filename":            "where it is",
		"Rootfs.Base.Size":                "of what the digest is of",
		"Rootfs.Include":                  "chose the packages, which are in the key",
		"Kernel.Package.From":             "is the suite's own, as empty says",
		"Toolchain.Lock.Base.From":        "is the suite's own, as empty says",
		"Toolchain.Lock.Packages.From":    "is the suite's own, as empty says",
		"Imaging.Lock.Base.From":          "is the suite's own, as empty says",
		"Imaging.Lock.Packages.From":      "is the suite's own, as empty says",
		"Rootfs.Required.From":            "where it is from",
		"Rootfs.Base.From":                "where it is from",
		"Rootfs.Archives":                 "where the packages are from, and who vouched for them",
		"Rootfs.Archive.Suite":            "where the packages are from",
		"Rootfs.Archive.Date":             "where the packages are from; Epoch is in the key",
		"Rootfs.Archive.InRelease":        "where the packages are from",
		"Rootfs.Archive.SignedBy":         "who vouched for them",
	}
	whole := func() *Lock {
		l := fixture(t)
		l.Kernel.Patches = []PatchLock{{Path: "p", Strip: 1, SHA256: units.DigestOf([]byte("p")), Text: "p"}}
		l.Kernel.Targets, l.Kernel.Fixes = []string{"fs/open.i"}, []spec.FixLock{{Name: "f"}}
		l.Kernel.Download = &kernelorg.Verified{}
		l.Custom = spec.Custom{
			Overlays: []custom.Overlay{{Path: "o", SHA256: units.DigestOf([]byte("o"))}},
			Files:    []custom.File{{Path: "/f", Mode: 0o644, Owner: "root", Text: "f"}},
			Hostname: "h", Timezone: "UTC", RootPassword: "none", Locale: "C.UTF-8",
			Users: []custom.User{{Name: "u", UID: 1, Groups: []string{"g"}, Shell: "/s", Home: "/h",
				Password: "none"}},
			AuthorizedKeys: []custom.Keys{{User: "u", Keys: []string{"k"}}},
			Run:            []custom.Script{{Name: "s", Text: "#!/bin/sh\n"}},
			Units: custom.Units{Enable: []string{"a.service"}, Disable: []string{"b.service"},
				Mask: []string{"c.service"}},
		}
		l.Config = ConfigLock{
			Base:      "my.config",
			Text:      "CONFIG_A=y\n",
			Set:       []string{"B=y"},
			Fragments: []FileLock{{Path: "f", Text: "CONFIG_C=y\n"}},
		}
		return l
	}
	key := func(l *Lock) string {
		p, err := NewPlan(l)
		if err != nil {
			return err.Error() // refused, which is no other lock's key
		}
		var all []string
		for _, s := range p.All {
			all = append(all, string(s.ActionID()))
		}
		return strings.Join(all, " ")
	}
	before := key(whole())
	seen := map[string]bool{}
	for _, field := range leaves(reflect.ValueOf(whole()).Elem(), "", nil) {
		l := whole()
		change(t, field.at(reflect.ValueOf(l).Elem()))
		name, moved := field.name, key(l) != before
		reason, listed := notInAKey[name]
		for group := name; !listed && strings.Contains(group, "."); {
			group = group[:strings.LastIndexByte(group, '.')]
			reason, listed = notInAKey[group]
			if listed {
				name = group
			}
		}
		seen[name] = seen[name] || listed
		// Of some, only a part of the values makes a difference: a name that chooses a
		// file of the same content, say.
		if !moved && !listed {
			t.Errorf("%s is in no key: a lock that differs in it is taken for the same (%s)", field.name, reason)
		}
	}
	for name := range notInAKey {
		if !seen[name] {
			t.Errorf("%s is listed, and no field of a lock", name)
		}
	}
}

// leaf is a value that a lock is made of, and how to find it.
type leaf struct {
	name string
	at   func(lock reflect.Value) reflect.Value
}

// leaves finds the leaves below v, a list's in its first element.
func leaves(v reflect.Value, name string, at func(reflect.Value) reflect.Value) (all []leaf) {
	if at == nil {
		at = func(v reflect.Value) reflect.Value { return v }
	}
	switch v.Interface().(type) {
	case time.Time, arch.Arch, uuid.UUID, units.KernelVersion, suite.Suite:
		return []leaf{{name, at}}
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			path := strings.TrimPrefix(name+"."+v.Type().Field(i).Name, ".")
			all = append(
				all,
				leaves(v.Field(i), path, func(l reflect.Value) reflect.Value { return at(l).Field(i) })...)
		}
		return all
	case reflect.Pointer:
		return leaves(v.Elem(), name, func(l reflect.Value) reflect.Value { return at(l).Elem() })
	case reflect.Slice:
		if v.Len() > 0 && v.Index(0).Kind() == reflect.Struct {
			return leaves(v.Index(0), name, func(l reflect.Value) reflect.Value { return at(l).Index(0) })
		}
	}
	return []leaf{{name, at}}
}

// change gives a leaf another value.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = x.Add(time.Hour)
	case *arch.Arch:
		x.Name += "x"
	case *uuid.UUID:
		x[0] ^= 1
	case *units.KernelVersion:
		x.Major, x.Minor, x.Patch = 3, 2, 1 // no ext4 features, and no fixes, of the fixture's
	case *suite.Suite:
		of, err := suite.Parse("sid")
		if err != nil {
			t.Fatal(err)
		}
		*x = of
	default:
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Uint32:
			v.SetUint(v.Uint() + 1)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		default:
			v.SetInt(v.Int() + 1)
		}
	}
}

// A lock is planned alike whatever a Spec says, and a config that cannot be read is
// reported, and not taken for one without modules.
func TestPlanIsAFunctionOfTheLock(t *testing.T) {
	l := fixture(t)
	l.Kernel.Targets = []string{"fs/open.i"}
	a, b := testSession(t), testSession(t)
	b.spec.Targets, b.spec.Jobs, b.jobs = []string{"fs/read_write.i"}, 7, 7
	if x, y := a.plan(l).actions(), b.plan(l).actions(); x != y {
		t.Errorf("one lock, two plans: %v and %v", x, y)
	}
	l.Config.Fragments = []FileLock{{Path: "f", Text: "fine=y\nno line of a config\n"}}
	var bad *InputError
	if _, err := NewPlan(l); !errors.As(err, &bad) {
		t.Errorf("a fragment that cannot be read: %v", err)
	}
	for _, tl := range []*ToolchainLock{&l.Toolchain, &l.Imaging} {
		tl.Image = tl.Lock.Ref()
	}
	l.Kernel.Targets = nil
	if err := Compatible(l); !errors.As(err, &bad) {
		t.Errorf("a lock with such a fragment: %v", err)
	}
}

// A lock of the version before is read, so that it can be renewed, and refused by a
// build, which says how.
func TestOldLockIsRenewed(t *testing.T) {
	s, l := resolved(t)
	b, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "version: 3\narch: amd64\n", "version: 2\n", 1)
	text = strings.Replace(text, "actions:\n", "means:\n", 1)
	text = text[:strings.LastIndex(text, "digest: ")]
	text += "digest: " + string(units.DigestOf([]byte(text))) + "\n"
	file := filepath.Join(t.TempDir(), LockFile)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var refused *ReplayError
	if _, err := replayOf(t, file, nil); !errors.As(err, &refused) ||
		!strings.Contains(refused.Hint(), "kimg lock update") {
		t.Fatalf("a build from it: %v", err)
	}
	sp := spec.Default()
	sp.Lock = file
	if c, err := Update(t.Context(), s.env, sp, UpdateRequest{Parts: []string{"toolchain"}}); err != nil || !c.Written {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := replayOf(t, file, nil); err != nil {
		t.Errorf("a build from the renewed lock: %v", err)
	}
	fresh, err := spec.ReadLock(file)
	if err != nil || !reflect.DeepEqual(fresh.Rootfs, l.Rootfs) || fresh.Kernel.SHA256 != l.Kernel.SHA256 {
		t.Errorf("its pins moved: %v", err)
	}
}

func TestLockRoundTrip(t *testing.T) {
	l := fixture(t)
	text, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), LockFile)
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := spec.ReadLock(name)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l, back) {
		t.Errorf("read back %+v\nwrote %+v", back, l)
	}
	for _, bad := range []string{
		"", "version: 1\n", "version: 99\n", "\x00", string(text[:len(text)/3]),
		strings.Replace(string(text), "version: 3\n", "version: 3\nextra: 2\n", 1),
		strings.Replace(string(text), string(l.Kernel.SHA256), "abc", 1),
	} {
		if err := os.WriteFile(name, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		var le *spec.LockError
		if _, err := spec.ReadLock(name); !errors.As(err, &le) || le.File != name {
			t.Errorf("a lock that begins %.20q: %v", bad, err)
		}
	}
}

func TestLockKeepsWhatWasAskedBefore(t *testing.T) {
	s := testSession(t)
	s.spec.Suite, s.spec.Kernel, s.spec.Config = "bullseye", "suite", "vm"
	s.spec.Mirror = "http://127.0.0.1:1/" // nothing answers there
	l := fixture(t)
	got, err := s.resolve(t.Context(), l)
	if err != nil {
		t.Fatalf("an unchanged spec asked the archive: %v", err)
	}
	if !reflect.DeepEqual(got.Rootfs, l.Rootfs) || !reflect.DeepEqual(got.Image, l.Image) {
		t.Error("pins moved")
	}
	s.spec.Include = []string{"strace"}
	s.spec.Frozen = true
	var frozen *FrozenError
	if _, err := s.resolve(t.Context(), l); !errors.As(err, &frozen) {
		t.Errorf("--frozen with another request: %v", err)
	}
}

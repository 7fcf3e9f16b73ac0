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

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/units"
)

// fixture is a lock as resolve would have made it.
func fixture(t *testing.T) *Lock {
	t.Helper()
	when := time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC)
	from := ArchiveLock{Suite: "bullseye", Date: when, InRelease: units.DigestOf([]byte("InRelease")), SignedBy: []string{"A4285295FC7B1A81600062A9605C66F00D6C9793"}}
	pkg := func(name string) archive.Locked {
		return archive.Locked{Name: name, Version: "1.0-1", Arch: "amd64", Filename: "pool/" + name + ".deb", Size: 7, SHA256: units.DigestOf([]byte(name))}
	}
	l := &Lock{Version: lockVersion}
	source := pkg("linux-source-5.10")
	l.Kernel = KernelLock{Request: "suite", Suite: "bullseye", Source: "suite", Version: units.KernelVersion{Major: 5, Minor: 10, Patch: 223},
		SHA256: source.SHA256, Package: &source, Archive: &from, Epoch: when.Unix()}
	l.Config = ConfigLock{Base: "vm"}
	l.Rootfs = RootfsLock{Suite: "bullseye", Variant: archive.Minbase, Include: []string{}, Epoch: when.Unix(), Archive: from,
		Required: []archive.Locked{pkg("dpkg")}, Base: []archive.Locked{pkg("systemd-sysv"), pkg("udev")}}
	l.Image = imageLock(1<<30, l.Rootfs)
	for target, to := range map[toolchain.Target]*ToolchainLock{"bullseye": &l.Toolchain, toolchain.Imaging: &l.Imaging} {
		lock, err := toolchain.Load(target)
		if err != nil {
			t.Fatal(err)
		}
		*to = ToolchainLock{Target: target, Origin: Shipped, Image: "kimg-toolchain:" + string(target) + "-0123456789ab", Lock: lock}
	}
	l.Toolchain.Compiler, l.Toolchain.Why = "gcc-10", "5.10.223 -> bullseye, gcc-10: because"
	return l
}

func testSession(t *testing.T) *session {
	t.Helper()
	s, err := open(Env{Cache: t.TempDir(), Host: t.TempDir()}, Default())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlanAsText(t *testing.T) {
	s := testSession(t)
	p := s.plan(fixture(t))
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
			lines = append(lines, f[1]+": "+strings.Join(f[3:], " ")) // without the ActionID, which changes with kimg's own recipes
		}
	}
	want := []string{
		"toolchain-bullseye: make the toolchain image kimg-toolchain:bullseye-0123456789ab",
		"source: fetch linux-source-5.10 1.0-1",
		"kernel: compile Linux 5.10.223 (vm, gcc-10)",
		"toolchain-imaging: make the toolchain image kimg-toolchain:imaging-0123456789ab",
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
		{"a patch", func(l *Lock) { l.Kernel.Patches = []PatchLock{{Path: "a", SHA256: units.DigestOf([]byte("a"))}} }, []string{"kernel"}},
		{"a toolchain that needs fixes", func(l *Lock) { l.Toolchain.Request = "trixie" }, []string{"kernel"}},
		{"a toolchain that needs fixes, without them", func(l *Lock) { l.Toolchain.Request, l.Kernel.NoFixes = "trixie", true }, nil},
		{"the base config", func(l *Lock) { l.Config.Base = "defconfig" }, []string{"kernel"}},
		{"the compiler", func(l *Lock) { l.Toolchain.Compiler = "gcc-9" }, []string{"kernel"}},
		{"the kernel's source", func(l *Lock) { l.Kernel.SHA256 = units.DigestOf([]byte("x")) }, []string{"kernel"}},
		{"the image's size", func(l *Lock) { l.Image.Size = 2 << 30 }, []string{"image"}},
		{"a package", func(l *Lock) { l.Rootfs.Base[0].SHA256 = units.DigestOf([]byte("y")) }, []string{"image", "packages", "rootfs"}},
		{"the imaging image", func(l *Lock) { l.Imaging.Image += "0" }, []string{"image", "rootfs", "toolchain-imaging"}},
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
	back, err := ReadLock(name)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l, back) {
		t.Errorf("read back %+v\nwrote %+v", back, l)
	}
	for _, bad := range []string{
		"", "version: 1\n", "version: 99\n", "\x00", string(text[:len(text)/3]),
		strings.Replace(string(text), "version: 2\n", "version: 2\nextra: 2\n", 1),
		strings.Replace(string(text), string(l.Kernel.SHA256), "abc", 1),
	} {
		if err := os.WriteFile(name, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		var le *LockError
		if _, err := ReadLock(name); !errors.As(err, &le) || le.File != name {
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

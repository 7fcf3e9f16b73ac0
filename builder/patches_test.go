package builder

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/units"
)

// TestPatchesPinned holds how patches are pinned, frozen, replayed and reported.
func TestPatchesPinned(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, "one.patch", aPatch("a", "1"), "two.patch", aPatch("b", "1"), "same.patch", aPatch("a", "1"))
	read := func(names ...string) []PatchLock {
		t.Helper()
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		list, err := spec.ReadPatches(names)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	l := fixture(t)
	l.Kernel.Patches = read("one.patch", "two.patch")
	patchFact := func(list []PatchLock) string {
		l := fixture(t)
		l.Kernel.Patches = list
		for _, f := range testSession(t).plan(l).Kernel.Reads {
			if f.Name == "patches" {
				return f.String()
			}
		}
		return ""
	}
	if fact := patchFact(l.Kernel.Patches); !strings.HasSuffix(fact, " one.patch two.patch") ||
		strings.Contains(fact, dir) {
		t.Errorf("what plan shows: %q", fact)
	}
	if a, b := patchFact(read("one.patch", "two.patch")), patchFact(read("two.patch", "one.patch")); a == b {
		t.Errorf("the order of patches does not count: %s", a)
	}
	in := outdir.Inputs(l)
	if i := slices.IndexFunc(in, func(i outdir.Input) bool {
		return i.Kind == "patch" &&
			i.Name == "two.patch"
	}); i < 0 ||
		in[i].SHA256 != units.DigestOf([]byte(aPatch("b", "1"))) {
		t.Errorf("the manifest does not name the patch: %+v", in[:3])
	}
	for _, c := range []struct {
		now  []PatchLock
		same bool
	}{{read("one.patch", "two.patch"), true}, {read("same.patch", "two.patch"), true}, {read("two.patch",
		"one.patch"), false}, {read("one.patch"), false}, {nil, false}} {
		now := fixture(t)
		now.Kernel.Patches = c.now
		var frozen *FrozenError
		if err := now.Unmoved(l); errors.As(err, &frozen) == c.same {
			t.Errorf("--frozen with %s: %v", patchFact(c.now), err)
		}
	}
	for _, c := range []struct {
		asked []string
		ok    bool
	}{{[]string{"one.patch", "two.patch"}, true}, {[]string{"same.patch", "two.patch"}, true}, {[]string{"two.patch"},
		false}} {
		s := spec.Default()
		s.Lock, s.Given = "l", []string{"patch"}
		for _, name := range c.asked {
			s.Patches = append(s.Patches, filepath.Join(dir, name))
		}
		var bad *InputError
		if err := s.Conflict(l); (err == nil) != c.ok || !c.ok && (!errors.As(err, &bad) || bad.Field != "--patch") {
			t.Errorf("--patch %v over the lock: %v", c.asked, err)
		}
	}
	l.Toolchain.Request = "trixie/gcc-14"
	l.Kernel.Fixes = spec.FixLocks(l.Kernel.KimgFixes(l.Toolchain.Request))
	if i := slices.IndexFunc(outdir.Inputs(l), func(i outdir.Input) bool {
		return i.Kind == "fix" && i.Name == "subcmd-realloc" && i.Version == "52a9dab6d892"
	}); i < 0 {
		t.Errorf("the manifest names no fix of a chosen toolchain: %+v", l.Kernel.Fixes)
	}
	var frozen *FrozenError
	if err := fixture(t).Unmoved(l); !errors.As(err, &frozen) {
		t.Errorf("--frozen with other fixes: %v", err)
	}
	s := spec.Default()
	s.NoFixes, s.Given = true, []string{"no-fixes"}
	if err := s.Conflict(l); err == nil || s.Conflict(&Lock{Kernel: KernelLock{NoFixes: true}}) != nil {
		t.Errorf("--no-fixes over a lock: %v", err)
	}
	damaged := l.Kernel
	damaged.Patches = slices.Clone(damaged.Patches)
	damaged.Patches[0].Text += "x"
	if _, err := damaged.UserPatches(); err == nil {
		t.Error("a lock's text that is not that of its digest is used")
	}
	if list, err := l.Kernel.UserPatches(); err != nil || len(list) != 2 || list[1].Name != "two.patch" ||
		list[1].Strip != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

package outdir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/lettercase"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

type outFixture struct {
	*testing.T
	dir, state string
	store      *store.Store
}

func newOutFixture(t *testing.T) *outFixture {
	t.Helper()
	base := t.TempDir()
	st, err := store.Open(filepath.Join(base, "store"))
	if err != nil {
		t.Fatal(err)
	}
	return &outFixture{t, filepath.Join(base, "out"), filepath.Join(base, "state"), st}
}

func (f *outFixture) artifact(path, content string) Artifact {
	f.Helper()
	w, err := f.store.Create()
	if err != nil {
		f.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write([]byte(content)); err != nil {
		f.Fatal(err)
	}
	d, n, err := w.Commit()
	if err != nil {
		f.Fatal(err)
	}
	return Artifact{Path: path, SHA256: d, Size: n, Mode: 0o644}
}

func (f *outFixture) put(list ...Artifact) map[string]string {
	f.Helper()
	o, err := Open(f.dir, f.state)
	if err != nil {
		f.Fatal(err)
	}
	kept, err := o.Put(f.Context(), f.store, list)
	if err != nil {
		f.Fatal(err)
	}
	return kept
}

func (f *outFixture) read(name string) string {
	f.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.Error(err)
	}
	return string(b)
}

func TestPutLeavesKnownFilesAlone(t *testing.T) {
	f := newOutFixture(t)
	a := f.artifact("scripts/gdb/x.py", "one")
	f.put(a)
	if err := os.Remove(f.store.Path(a.SHA256)); err != nil {
		t.Fatal(err)
	}
	f.put(a) // would fail if it read the store again
	if got := f.read("scripts/gdb/x.py"); got != "one" {
		t.Errorf("content %q", got)
	}
}

func TestPutMendsAChangedArtifact(t *testing.T) {
	f := newOutFixture(t)
	a := f.artifact("bzImage", "kernel")
	f.put(a)
	if err := os.WriteFile(filepath.Join(f.dir, "bzImage"), []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.put(a)
	if got := f.read("bzImage"); got != "kernel" {
		t.Errorf("content %q", got)
	}
}

func TestPutKeepsAnImageThePersonChanged(t *testing.T) {
	f := newOutFixture(t)
	a := f.artifact(artifact.Disk, "pristine")
	f.put(a)
	if err := os.WriteFile(filepath.Join(f.dir, artifact.Disk), []byte("my work"), 0o644); err != nil {
		t.Fatal(err)
	}
	kept := f.put(a)
	if got := f.read(artifact.Disk); got != "pristine" {
		t.Errorf("image %q", got)
	}
	if b, err := os.ReadFile(kept[artifact.Disk]); err != nil || string(b) != "my work" {
		t.Errorf("kept %q: %q, %v", kept[artifact.Disk], b, err)
	}
	if kept := f.put(f.artifact(artifact.Disk, "next build")); len(kept) != 0 {
		t.Errorf("a build's own image was kept: %v", kept)
	}
}

func TestPutFailingLeavesTheOldArtifacts(t *testing.T) {
	f := newOutFixture(t)
	f.put(f.artifact("bzImage", "old kernel"), f.artifact("vmlinux", "old symbols"))
	fresh, lost := f.artifact("bzImage", "new kernel"), f.artifact("vmlinux", "new symbols")
	if err := os.Remove(f.store.Path(lost.SHA256)); err != nil {
		t.Fatal(err)
	}
	o, err := Open(f.dir, f.state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Put(t.Context(), f.store, []Artifact{fresh, lost}); err == nil {
		t.Fatal("no error")
	}
	if f.read("bzImage") != "old kernel" || f.read("vmlinux") != "old symbols" {
		t.Error("an artifact of the failed build is there")
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// TestPutInterruptedLeavesNoDirectories: it made them, and nothing is in them.
func TestPutInterruptedLeavesNoDirectories(t *testing.T) {
	for name, before := range map[string]func(f *outFixture) []string{
		"a new directory": func(f *outFixture) []string { return nil },
		"one with a file in it": func(f *outFixture) []string {
			f.put(f.artifact("scripts/other", "stays"))
			return []string{".", "scripts", "scripts/other"}
		},
		"an empty one": func(f *outFixture) []string {
			if err := os.MkdirAll(filepath.Join(f.dir, "scripts"), 0o755); err != nil {
				t.Fatal(err)
			}
			return []string{".", "scripts"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newOutFixture(t)
			want := before(f)
			o, err := Open(f.dir, f.state)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			script := f.artifact("scripts/gdb/linux/x.py", "script")
			list := []Artifact{f.artifact("bzImage", "kernel"), script}
			if _, err := o.Put(ctx, f.store, list); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			list = []Artifact{script, {Path: "bzImage", SHA256: units.DigestOf(nil)}}
			if _, err := o.Put(t.Context(), f.store, list); err == nil {
				t.Fatal("what is not in the store was put there")
			}
			var got []string
			if err := filepath.WalkDir(f.dir, func(name string, _ fs.DirEntry, err error) error {
				if rel, _ := filepath.Rel(f.dir, name); err == nil {
					got = append(got, rel)
				}
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("left are %q, want %q", got, want)
			}
		})
	}
}

func TestDropRemovesWhatIsNoLongerMade(t *testing.T) {
	f := newOutFixture(t)
	keep, old := f.artifact("bzImage", "kernel"), f.artifact("scripts/gdb/old.py", "old")
	edited := f.artifact("scripts/gdb/mine.py", "theirs")
	f.put(keep, old, edited)
	if err := os.WriteFile(filepath.Join(f.dir, edited.Path), []byte("the user's own"), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := Open(f.dir, f.state)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Drop([]Artifact{keep}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(f.dir, old.Path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old artifact: %v", err)
	}
	if f.read(keep.Path) != "kernel" || f.read(edited.Path) != "the user's own" {
		t.Error("a file that had to stay is gone")
	}
}

func TestGuardRefusesForeignFiles(t *testing.T) {
	f := newOutFixture(t)
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(f.dir, "config")
	if err := os.WriteFile(mine, []byte("my own"), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := Open(f.dir, f.state)
	if err != nil {
		t.Fatal(err)
	}
	var foreign *ForeignError
	if err := o.Guard([]string{"bzImage", "config"}); !errors.As(err, &foreign) || foreign.File != mine {
		t.Errorf("got %v, want a ForeignError of %s", err, mine)
	}
	m := &Manifest{Version: manifestVersion, Build: BuildFacts{Artifacts: []Artifact{{Path: "config"}}}}
	text, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Write(artifact.Manifest, text); err != nil {
		t.Fatal(err)
	}
	if err := o.Guard(artifact.TopLevel(arch.AMD64)); err != nil {
		t.Errorf("what an earlier build made: %v", err)
	}
	if err := o.Guard([]string{"bzImage"}); err != nil {
		t.Errorf("nothing in the way: %v", err)
	}
}

func TestReady(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		out, want string
	}{
		{filepath.Join(dir), ""},
		{filepath.Join(dir, "a", "b"), ""},
		{filepath.Join(dir, "file"), "file is not a directory"},
		{filepath.Join(dir, "file", "b"), "file is not a directory"},
		{"/proc/kimg-out", "write to /proc/kimg-out: "},
		{filepath.Join(dir, strings.Repeat("x", 300)), "file name too long"},
	} {
		o, err := Open(tt.out, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		err = o.Ready()
		var slip *spec.InputError
		if (tt.want == "") != (err == nil) || err != nil &&
			(!errors.As(err, &slip) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.out, err, tt.want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// Where a file system takes two names for one, two artifacts of such names are refused before anything is replaced.
func TestNamesThatDifferByCase(t *testing.T) {
	f := newOutFixture(t)
	list := []Artifact{f.artifact("bzImage", "kernel"), f.artifact("modules/xt_MARK.ko", "1"),
		f.artifact("modules/xt_mark.ko", "2")}
	o, err := Open(f.dir, f.state)
	if err != nil {
		t.Fatal(err)
	}
	o.folds = func(dir string) (bool, error) { return dir == f.dir, nil }
	var twice *lettercase.Error
	if _, err := o.Put(t.Context(), f.store, list); !errors.As(err, &twice) || twice.Other != "modules/xt_mark.ko" {
		t.Errorf("got %v, want a *lettercase.Error", err)
	}
	if _, err := os.Stat(f.dir); err == nil {
		t.Error("the out directory was made")
	}
	if _, err := o.Put(t.Context(), f.store, list[:2]); err != nil {
		t.Errorf("one of the two: %v", err)
	}
	o.folds = func(string) (bool, error) { return false, nil }
	if _, err := o.Put(t.Context(), f.store, list); err != nil || f.read("modules/xt_MARK.ko") != "1" ||
		f.read("modules/xt_mark.ko") != "2" {
		t.Errorf("elsewhere: %v", err)
	}
}

// A file of the user's below a directory of kimg's is neither replaced nor, as if it
// were kimg's, removed by the next build.
func TestUsersFileBelowADirectory(t *testing.T) {
	for _, path := range []string{"scripts/gdb/linux/mine.py", "targets/mine.i", "modules/mine.ko"} {
		f := newOutFixture(t)
		mine := filepath.Join(f.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(mine), 0o755),
			os.WriteFile(mine, []byte("my own"), 0o644)); err != nil {
			t.Fatal(err)
		}
		first, a := f.artifact("bzImage", "kernel"), f.artifact(path, "kimg's")
		o, err := Open(f.dir, f.state)
		if err != nil {
			t.Fatal(err)
		}
		var foreign *ForeignError
		if _, err := o.Put(t.Context(), f.store, []Artifact{first, a}); !errors.As(err, &foreign) ||
			foreign.File != mine {
			t.Errorf("%s: got %v, want a ForeignError", path, err)
		}
		if err := o.Drop(nil); err != nil {
			t.Fatal(err)
		}
		if got := f.read(path); got != "my own" {
			t.Errorf("%s: the user's file holds %q", path, got)
		}
		if _, err := os.Stat(filepath.Join(f.dir, "bzImage")); err == nil {
			t.Errorf("%s: something was replaced before the refusal", path)
		}
		if left, err := filepath.Glob(filepath.Join(f.dir, ".kimg*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %q, %v", path, left, err)
		}
	}
}

// What kimg made and the user changed is put aside, whatever file it is.
func TestChangedArtifactIsKept(t *testing.T) {
	f := newOutFixture(t)
	f.put(f.artifact("scripts/gdb/x.py", "one"), f.artifact("vmlinux", "v1"))
	script := filepath.Join(f.dir, "scripts/gdb/x.py")
	if err := os.WriteFile(script, []byte("one, with my changes"), 0o644); err != nil {
		t.Fatal(err)
	}
	kept := f.put(f.artifact("scripts/gdb/x.py", "two"), f.artifact("vmlinux", "v2"))
	if len(kept) != 1 || kept["scripts/gdb/x.py"] != script+".changed-1" {
		t.Errorf("kept %v", kept)
	}
	if f.read("scripts/gdb/x.py") != "two" || f.read("scripts/gdb/x.py.changed-1") != "one, with my changes" {
		t.Error("the change is lost, or the build's file is not there")
	}
}

// Two directories whose digests begin alike have memories of their own.
func TestMemoryIsOfOneDirectory(t *testing.T) {
	f := newOutFixture(t)
	f.put(f.artifact("vmlinux", "v1"))
	list, err := os.ReadDir(f.state)
	if err != nil || len(list) != 1 || len(list[0].Name()) != len(units.DigestOf(nil))+len(".json") {
		t.Fatalf("memories %v, %v", list, err)
	}
	m, err := ReadMemory(filepath.Join(f.state, list[0].Name()))
	if err != nil || m.Dir != f.dir || len(m.Files) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

// What a first build put in place before it failed is kimg's.
func TestFailedPutIsRemembered(t *testing.T) {
	f := newOutFixture(t)
	a, b := f.artifact("a", "one"), f.artifact("b", "two")
	o, err := Open(f.dir, f.state)
	if err != nil {
		t.Fatal(err)
	}
	o.seen["b"] = FileStat{} // kimg's, as far as is known
	if err := os.MkdirAll(filepath.Join(f.dir, "b", "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Put(t.Context(), f.store, []Artifact{a, b}); err == nil {
		t.Fatal("a directory in the place of a file was replaced")
	}
	if err := os.RemoveAll(filepath.Join(f.dir, "b")); err != nil {
		t.Fatal(err)
	}
	f.put(a, b)
	if f.read("a") != "one" || f.read("b") != "two" {
		t.Error("the second build did not get through")
	}
}

// The artifacts of a build that runs, with another cache, are not taken for those of one that was killed.
func TestRunningBuildKeepsItsTemporary(t *testing.T) {
	f := newOutFixture(t)
	f.put(f.artifact("a", "one"))
	o, err := Open(f.dir, f.state)
	if err != nil {
		t.Fatal(err)
	}
	running, remove, err := o.tempDir()
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(f.dir, tempPrefix+"killed")
	if err := os.Mkdir(killed, 0o755); err != nil {
		t.Fatal(err)
	}
	f.put(f.artifact("a", "two"))
	if _, err := os.Stat(running); err != nil {
		t.Error("that of a build that runs is gone")
	}
	if _, err := os.Stat(killed); err == nil {
		t.Error("that of a build that was killed stays")
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
}

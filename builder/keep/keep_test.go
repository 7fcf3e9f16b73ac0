package keep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// put writes a file that was last used so many days ago.
func put(t *testing.T, days int, text string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	when := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
	err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644),
		os.Chtimes(name, when, when))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// hex is a digest of its own for each text.
func hex(text string) string { return string(units.DigestOf([]byte(text))) }

func storeEntry(t *testing.T, dir string, days int, text string) string {
	t.Helper()
	return put(t, days, text, dir, "store", "sha256", hex(text)[:2], hex(text))
}

// engine is one that has some things, and remembers what was removed.
type engine struct {
	kept    []container.Kept
	removed []string
	swept   int
}

func (e *engine) Kept(context.Context) ([]container.Kept, error) { return e.kept, nil }
func (e *engine) RemoveVolume(_ context.Context, name string) error {
	e.removed = append(e.removed, name)
	return nil
}
func (e *engine) RemoveImage(ctx context.Context, name string) error {
	return e.RemoveVolume(ctx, name)
}

func (e *engine) Sweep(context.Context) error {
	e.swept++
	return nil
}

func list(t *testing.T, dir string, eng Engine) *Kept {
	t.Helper()
	k, err := List(t.Context(), dir, eng, errors.New("there is none"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func prune(t *testing.T, dir string, eng Engine, o Options) []Item {
	t.Helper()
	taken, err := list(t, dir, eng).Prune(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

func there(names ...string) (left []string) {
	for _, name := range names {
		if _, err := os.Lstat(name); err == nil {
			left = append(left, name)
		}
	}
	return left
}

func TestPruneTakesWhatIsOldAndKnown(t *testing.T) {
	dir := t.TempDir()
	old := []string{
		storeEntry(t, dir, 40, "a"),
		put(t, 40, "x", dir, "store", "partial", hex("b")),
		put(t, 40, "{}", dir, "actions", hex("c")+".json"),
		put(t, 40, "x", dir, "indices", hex("d")+".packages"),
		put(t, 40, "x", dir, "logs", "kernel-20260101T000000-1.log"),
		put(t, 40, "{}", dir, "outs", hex("e")+".json"),
		put(t, 40, "x", dir, "kernel", "tree-"+hex("f")[:12]),
		put(t, 40, "x", dir, "guests", "refused", hex("r")),
		filepath.Dir(put(t, 40, "x", dir, "gdb-index", hex("g")[:16]+"-"+hex("h"), "1.gdb-index")),
		filepath.Dir(put(t, 40, "x", dir, "guests", hex("o"), "ram")),
	}
	past := time.Now().Add(-40 * 24 * time.Hour)
	for _, at := range old[8:] { // directories
		if err := os.Chtimes(at, past, past); err != nil {
			t.Fatal(err)
		}
	}
	outside := t.TempDir()
	foreign := []string{
		storeEntry(t, dir, 20, "young"),
		put(t, 40, "x", dir, "store", "sha256", "ab", "README"),
		put(t, 40, "x", dir, "store", "sha256", "..x", hex("i")),
		put(t, 40, "x", dir, "actions", "notes.json"),
		put(t, 40, "x", dir, "actions", hex("j")+".json\n"),
		put(t, 40, "x", dir, "ssh", "key"),
		put(t, 40, "x", dir, "mine"),
		put(t, 40, "x", dir, "actions", hex("dir")+".json", "a file in a directory with the name of a record"),
		put(t, 40, "x", outside, "sha256", "cd", "cd"+hex("k")[2:]),
		put(t, 40, "x", outside, "index", "1.gdb-index"),
		put(t, 40, "x", dir, "guests", "growing", hex("p"), "ram"),
	}
	// Links that lead out of the cache.
	link := filepath.Join(dir, "gdb-index", hex("l")[:16]+"-"+hex("m"))
	err := errors.Join(os.Symlink(filepath.Join(outside, "index"), link),
		os.Symlink(filepath.Join(outside, "sha256", "cd"), filepath.Join(dir, "store", "sha256", "cd")),
		os.Symlink(foreign[8], filepath.Join(dir, "actions", hex("n")+".json")))
	if err != nil {
		t.Fatal(err)
	}

	if taken := prune(t, dir, nil, Options{Older: Unused, To: -1, DryRun: true}); len(taken) != len(old) {
		t.Errorf("a dry run would take %d things, want %d: %+v", len(taken), len(old), taken)
	}
	if left := there(old...); len(left) != len(old) {
		t.Errorf("a dry run left only %v", left)
	}
	if taken := prune(t, dir, nil, Options{Older: Unused, To: -1}); len(taken) != len(old) {
		t.Errorf("took %d things, want %d: %+v", len(taken), len(old), taken)
	}
	if left := there(old...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if left := there(foreign...); len(left) != len(foreign) {
		t.Errorf("of what is not old, or not kimg's, only these are left: %v", left)
	}
}

func TestPruneTo(t *testing.T) {
	dir := t.TempDir()
	block := strings.Repeat("x", 4096)
	var names []string
	for days := range 5 {
		names = append(names, storeEntry(t, dir, days+1, fmt.Sprint(days)+block))
	}
	size := list(t, dir, nil).Items[0].Size
	prune(t, dir, nil, Options{To: 3 * size})
	if left := there(names...); !slices.Equal(left, names[:3]) {
		t.Errorf("left: %v, want those of the last three days of %v", left, names)
	}
	// What belongs to other cache directories does not count.
	others := &engine{kept: []container.Kept{
		{Name: "kimg-src-other", Size: 1 << 40}, {Name: "kimg-base:x", Image: true, Size: 1 << 40},
	}}
	prune(t, dir, others, Options{To: 2 * size})
	if left := there(names...); !slices.Equal(left, names[:2]) {
		t.Errorf("beside others, left: %v, want %v", left, names[:2])
	}
	prune(t, dir, nil, Options{To: -1})
	if left := there(names...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhatAnOutDirectoryNamesStays(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	pkg, output := storeEntry(t, dir, 40, "package"), storeEntry(t, dir, 40, "output")
	other := storeEntry(t, dir, 40, "other")
	record := put(t, 40, fmt.Sprintf(`{"outputs":[{"sha256":%q}]}`, hex("output")),
		dir, "actions", hex("action")+".json")
	state := put(t, 40, "{}", dir, "outs", hex(out)+".json")
	put(t, 40, "- {sha256: "+hex("package")+"}\n", out, "kimg.lock")
	put(t, 40, fmt.Sprintf(`{"action":%q}`, hex("action")), out, "manifest.json")
	cache.Stamp(dir, "out-"+hex(out), out)

	prune(t, dir, nil, Options{To: -1})
	want := []string{pkg, output, record, state}
	if left := there(append(want, other)...); !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	prune(t, dir, nil, Options{To: -1})
	if left := there(pkg, output, record, state); len(left) != 0 {
		t.Errorf("the out directory is gone, and these stay: %v", left)
	}
}

func TestPruneBesideAKimgThatRuns(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	used, other := storeEntry(t, dir, 40, "used"), storeEntry(t, dir, 40, "other")
	found := list(t, dir, nil) // the prune has seen both as old
	leave := cache.Enter(dir)
	defer leave()
	if !st.Has(units.Digest(hex("used"))) {
		t.Fatal("the entry is not there")
	}
	log, err := filelock.Try(put(t, 40, "x", dir, "logs", "kernel-1.log"), os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w, err := st.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if _, err := found.Prune(t.Context(), Options{To: -1}); err != nil {
		t.Fatal(err)
	}
	prune(t, dir, nil, Options{To: -1})
	if left := there(used, other, log.Name()); !slices.Equal(left, []string{used, log.Name()}) {
		t.Errorf("left: %v", left)
	}
	if _, _, err := w.Commit(); err != nil {
		t.Errorf("an entry that was being written: %v", err)
	}
}

func TestTwoPrunesAtOnce(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		storeEntry(t, dir, 40, fmt.Sprint(i))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	for range 3 {
		k := list(t, dir, nil)
		wg.Go(func() {
			taken, err := k.Prune(t.Context(), Options{To: -1})
			mu.Lock()
			defer mu.Unlock()
			if n += len(taken); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n != 200 {
		t.Errorf("%d things were freed, of 200", n)
	}
}

func TestPruneThatIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	first, second := storeEntry(t, dir, 40, "first"), storeEntry(t, dir, 30, "second")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k := list(t, dir, nil)
	for n := range k.Items {
		remove := k.Items[n].remove
		k.Items[n].remove = func(ctx context.Context) error {
			cancel()
			return remove(ctx)
		}
	}
	taken, err := k.Prune(ctx, Options{To: -1})
	if !errors.Is(err, context.Canceled) || len(taken) != 1 {
		t.Errorf("took %+v, %v", taken, err)
	}
	if left := there(first, second); !slices.Equal(left, []string{second}) {
		t.Errorf("left: %v", left)
	}
}

func TestReadOnlyCache(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes to directories that are read-only")
	}
	dir := t.TempDir()
	sub := filepath.Dir(storeEntry(t, dir, 40, "a"))
	if err := os.Chmod(sub, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(sub, 0o755) })
	if _, err := list(t, dir, nil).Prune(t.Context(), Options{To: -1}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func TestEngine(t *testing.T) {
	dir := t.TempDir()
	long := time.Now().Add(-50 * 24 * time.Hour)
	eng := &engine{kept: []container.Kept{
		{Name: "kimg-src-1", Size: 10}, {Name: "kimg-obj-1", Size: 10}, {Name: "kimg-ccache", Size: 10, InUse: true},
		{Name: "kimg-src-2", Size: 10}, {Name: "kimg-src-young", Size: 10},
		{Name: "kimg-src-foreign", Size: 10, Created: long}, {Name: "kimg-toolchain:a-1", Image: true, Size: 10},
		{Name: "kimg-toolchain:b-2", Image: true, Size: 10, Created: long},
		{Name: "kimg-base:b-3", Image: true, Size: 1, Shared: 9, Created: time.Now()},
		{Name: "sha256:young", Image: true, Created: time.Now()}, {Name: "sha256:old", Image: true, Created: long},
	}}
	stamp := func(days int, name, text string) { put(t, days, text, cache.StampFile(dir, name)) }
	stamp(40, "kimg-src-1", "kernel-aa")
	stamp(40, "kimg-obj-1", "kernel-aa")
	stamp(40, "kimg-ccache", "")
	stamp(40, "kimg-src-2", "kernel-bb")
	stamp(1, "kimg-src-young", "kernel-cc")
	stamp(40, "kimg-toolchain:a-1", "")
	unlock, err := filelock.Take(t.Context(), filepath.Join(dir, "locks", "kernel-bb"), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()

	prune(t, dir, eng, Options{Older: Unused, To: -1})
	if want := []string{"kimg-src-1", "kimg-obj-1", "kimg-toolchain:a-1"}; !slices.Equal(eng.removed, want) {
		t.Errorf("removed %v, want %v", eng.removed, want)
	}
	if prune(t, dir, eng, Options{To: -1, DryRun: true, Older: Unused}); eng.swept != 1 {
		t.Errorf("the engine was swept %d times by one prune and one dry run", eng.swept)
	}
	if left := there(cache.StampFile(dir, "kimg-src-1")); len(left) != 0 {
		t.Errorf("the stamp of what is gone stays: %v", left)
	}
	eng.removed, eng.kept = nil, eng.kept[2:]
	prune(t, dir, eng, Options{To: -1, Shared: true})
	slices.Sort(eng.removed)
	want := []string{"kimg-base:b-3", "kimg-src-young", "kimg-toolchain:a-1", "kimg-toolchain:b-2", "sha256:old"}
	if !slices.Equal(eng.removed, want) {
		t.Errorf("removed %v, want %v", eng.removed, want)
	}
}

func TestWithoutEngine(t *testing.T) {
	dir := t.TempDir()
	storeEntry(t, dir, 40, "a")
	k := list(t, dir, nil)
	if k.NoEngine != "there is none" || len(k.Items) != 1 {
		t.Errorf("%+v", k)
	}
	if k := list(t, filepath.Join(dir, "absent"), nil); len(k.Items) != 0 {
		t.Errorf("%+v", k)
	}
}

func TestSnapshotsAreShownAndStay(t *testing.T) {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out [1]")
	name := put(t, 40, "x", out, "snapshots", "mine.img")
	cache.Stamp(dir, "out-1", out)
	k := list(t, dir, nil)
	if len(k.Items) != 1 || k.Items[0].Kind != kindSnapshot || k.Items[0].Stays == "" {
		t.Fatalf("%+v", k.Items)
	}
	prune(t, dir, nil, Options{To: 0})
	if left := there(name); len(left) != 1 {
		t.Error("a snapshot was removed")
	}
}

func TestTrimOnceADay(t *testing.T) {
	dir := t.TempDir()
	old, young := storeEntry(t, dir, 40, "old"), storeEntry(t, dir, 20, "young")
	connected := 0
	trim := func() {
		t.Helper()
		_, err := Trim(t.Context(), dir, func(context.Context) (Engine, error) {
			connected++
			return nil, errors.New("there is none")
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	trim()
	if left := there(old, young); !slices.Equal(left, []string{young}) {
		t.Errorf("left: %v", left)
	}
	again := storeEntry(t, dir, 40, "again")
	trim()
	if connected != 1 || len(there(again)) != 1 {
		t.Errorf("a second trim on one day did something (%d connections)", connected)
	}
	put(t, 2, "", dir, trimFile)
	trim()
	if len(there(again)) != 0 {
		t.Error("the next day's trim did nothing")
	}
}

package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/filelock"
)

// entry makes an entry that was used so long ago.
func entry(t *testing.T, dir string, ago time.Duration) string {
	t.Helper()
	name := filepath.Join(dir, "kind", "entry")
	past := time.Now().Add(-ago)
	_ = os.Remove(name) // of an earlier call
	err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("x"), 0o444),
		os.Chtimes(name, past, past))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func remove(t *testing.T, dir, name string, before time.Time) error {
	t.Helper()
	return Remove(dir, name, before, func() error { return os.Remove(name) })
}

func TestUseMovesTheTimeAtMostOnceAnHour(t *testing.T) {
	name := entry(t, t.TempDir(), 30*time.Minute)
	when := func() time.Time {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	was := when()
	if !Use(name) || !when().Equal(was) {
		t.Errorf("a use after half an hour moved the time to %v", when())
	}
	past := time.Now().Add(-3 * time.Hour)
	if err := os.Chtimes(name, past, past); err != nil {
		t.Fatal(err)
	}
	if !Use(name) || time.Since(when()) > time.Minute {
		t.Errorf("a use after three hours left the time at %v", when())
	}
	if Use(name + "-absent") {
		t.Error("an entry that is not there was used")
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	name := entry(t, dir, 48*time.Hour)
	if err := remove(t, dir, name, time.Now().Add(-72*time.Hour)); !errors.Is(err, ErrUsed) {
		t.Errorf("used after the limit: %v", err)
	}
	if err := remove(t, dir, name, time.Now().Add(-24*time.Hour)); err != nil {
		t.Errorf("used before the limit: %v", err)
	}
	if err := remove(t, dir, name, time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed already: %v", err)
	}
}

func TestRemoveLeavesWhatAProcessMayCountOn(t *testing.T) {
	dir := t.TempDir()
	leave := Enter(dir)
	again := Enter(dir)
	name := entry(t, dir, 30*time.Minute)
	if !Use(name) { // finds it fresh, and notes nothing
		t.Fatal("it is gone")
	}
	if err := remove(t, dir, name, time.Now()); !errors.Is(err, ErrUsed) {
		t.Errorf("used by a process that runs: %v", err)
	}
	leave()
	if err := remove(t, dir, name, time.Now()); !errors.Is(err, ErrUsed) {
		t.Errorf("one of two processes has ended: %v", err)
	}
	old := entry(t, dir, 3*time.Hour)
	if err := remove(t, dir, old, time.Now()); err != nil {
		t.Errorf("used by none: %v", err)
	}
	name = entry(t, dir, 30*time.Minute)
	again()
	if err := remove(t, dir, name, time.Now()); err != nil {
		t.Errorf("all processes have ended: %v", err)
	}
}

func TestAKilledProcessHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, running), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, running, "kimg-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := remove(t, dir, entry(t, dir, time.Minute), time.Now()); err != nil {
		t.Error(err)
	}
}

func TestRemoveLeavesWhatIsWritten(t *testing.T) {
	dir := t.TempDir()
	name := entry(t, dir, 48*time.Hour)
	f, err := filelock.Try(name, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(t, dir, name, time.Now()); !errors.Is(err, ErrUsed) {
		t.Errorf("it is locked: %v", err)
	}
	f.Close()
	if err := remove(t, dir, name, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyCacheIsUsed(t *testing.T) {
	dir := t.TempDir()
	name := entry(t, dir, 48*time.Hour)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	Enter(dir)()
	Stamp(dir, "thing", "")
	if !Use(name) {
		t.Error("it is not there")
	}
}

func TestStamp(t *testing.T) {
	dir := t.TempDir()
	Stamp(dir, "thing", "one")
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(StampFile(dir, "thing"), past, past); err != nil {
		t.Fatal(err)
	}
	Stamp(dir, "thing", "one")
	Stamp(dir, "other", "two")
	Stamp(dir, "other", "three")
	for name, want := range map[string]string{"thing": "one", "other": "three"} {
		text, err := os.ReadFile(StampFile(dir, name))
		info, bad := os.Stat(StampFile(dir, name))
		if err := errors.Join(err, bad); err != nil {
			t.Fatal(err)
		}
		if string(text) != want || time.Since(info.ModTime()) > time.Minute {
			t.Errorf("stamp %s: %q of %v", name, text, info.ModTime())
		}
	}
}

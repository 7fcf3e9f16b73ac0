package filelock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func TestSweepRemovesWhatNoProcessHolds(t *testing.T) {
	parent := t.TempDir()
	live, err := NewFile(parent, "file-*")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	liveDir, remove, err := NewDir(parent, "dir-*")
	if err != nil {
		t.Fatal(err)
	}
	ended, err := NewFile(parent, "file-*")
	if err != nil {
		t.Fatal(err)
	}
	ended.Close()
	endedDir := filepath.Join(parent, "dir-ended")
	noLock := filepath.Join(parent, "dir-without-lock")
	oldNoLock := filepath.Join(parent, "dir-old-without-lock")
	pipe := filepath.Join(parent, "pipe")
	outside := t.TempDir()
	link := filepath.Join(parent, "link")
	past := time.Now().Add(-2 * unknownAge)
	err = errors.Join(os.MkdirAll(filepath.Join(endedDir, "full"), 0o755),
		os.WriteFile(filepath.Join(endedDir, DirLock), nil, 0o644), os.Mkdir(noLock, 0o755),
		os.Mkdir(oldNoLock, 0o755), os.Chtimes(oldNoLock, past, past), unix.Mkfifo(pipe, 0o644),
		os.WriteFile(filepath.Join(outside, DirLock), nil, 0o644), os.Symlink(outside, link),
		os.Chtimes(live.Name(), past, past), os.Chtimes(liveDir, past, past))
	if err != nil {
		t.Fatal(err)
	}
	Sweep(parent, 0)
	for name, want := range map[string]bool{
		live.Name(): true, liveDir: true, ended.Name(): false, endedDir: false, noLock: true, oldNoLock: false,
		pipe: true, link: true, outside: true,
	} {
		if exists(name) != want {
			t.Errorf("after Sweep, %s is there: %v, want %v", name, !want, want)
		}
	}
	if err := remove(); err != nil || exists(liveDir) {
		t.Errorf("remove: %v", err)
	}
}

func TestSweepWaitsForTheAge(t *testing.T) {
	parent := t.TempDir()
	name := filepath.Join(parent, "left")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if Sweep(parent, time.Hour); !exists(name) {
		t.Error("a young file was swept")
	}
	past := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(name, past, past); err != nil {
		t.Fatal(err)
	}
	if Sweep(parent, time.Hour); exists(name) {
		t.Error("an old file stays")
	}
	Sweep(filepath.Join(parent, "absent"), 0)
}

func TestNewBesideSweeps(t *testing.T) {
	parent := t.TempDir()
	done := make(chan struct{})
	var sweeps sync.WaitGroup
	for range 2 {
		sweeps.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					Sweep(parent, 0)
				}
			}
		})
	}
	for range 200 {
		f, err := NewFile(parent, "file-*")
		if err != nil {
			t.Fatal(err)
		}
		dir, remove, err := NewDir(parent, "dir-*")
		if err != nil {
			t.Fatal(err)
		}
		if !exists(f.Name()) || !exists(dir) {
			t.Fatal("swept while it was held")
		}
		if err := errors.Join(f.Close(), remove()); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	sweeps.Wait()
}

func TestTry(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	f, err := Try(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(name, os.O_RDWR); !errors.Is(err, ErrHeld) {
		t.Errorf("a second lock: %v", err)
	}
	if err := errors.Join(os.Remove(name), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Try(name, os.O_RDWR); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
}

func TestShare(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	first, err := Share(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Share(name, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if _, err := Try(name, os.O_RDWR); !errors.Is(err, ErrHeld) {
		t.Errorf("alone, while another shares it: %v", err)
	}
	second.Close()
	alone, err := Try(name, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if _, err := Share(name, os.O_RDWR); !errors.Is(err, ErrHeld) {
		t.Errorf("shared, while another has it alone: %v", err)
	}
}

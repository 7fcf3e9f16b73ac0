package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/units"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, content []byte) units.Digest {
	t.Helper()
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	d, n, err := w.Commit()
	if err != nil || n != int64(len(content)) || d != units.DigestOf(content) {
		t.Fatalf("Commit() = %s, %d, %v", d, n, err)
	}
	return d
}

func read(s *Store, d units.Digest) ([]byte, error) {
	r, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// leftovers lists the files below the store's folder dir.
func leftovers(t *testing.T, s *Store, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestRoundTrip(t *testing.T) {
	s := open(t)
	for _, content := range []string{"", "x", "two\nlines\n"} {
		d := put(t, s, []byte(content))
		if got, err := read(s, d); err != nil || string(got) != content {
			t.Errorf("read back %q: %q, %v", content, got, err)
		}
		if !s.Has(d) {
			t.Errorf("Has(%s) is false", d)
		}
	}
	if left := leftovers(t, s, "tmp"); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestMissing(t *testing.T) {
	s := open(t)
	for _, d := range []units.Digest{"", units.DigestOf([]byte("never stored"))} {
		if _, err := s.Open(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q): %v", d, err)
		}
		if s.Has(d) {
			t.Errorf("Has(%q) is true", d)
		}
	}
}

func TestDamagedEntryIsRemovedAndMissing(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"a flipped bit": func(b []byte) []byte { b[3] ^= 1; return b },
		"truncated":     func(b []byte) []byte { return b[:len(b)-1] },
		"emptied":       func([]byte) []byte { return nil },
		"longer":        func(b []byte) []byte { return append(b, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			d := put(t, s, []byte("whole content"))
			path := s.Path(d)
			b, _ := os.ReadFile(path)
			if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, damage(b), 0o644)); err != nil {
				t.Fatal(err)
			}
			var corrupt *CorruptError
			if err := s.Verify(d); !errors.As(err, &corrupt) || !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("Verify: %v", err)
			}
			if s.Has(d) {
				t.Error("the damaged entry is still there")
			}
			put(t, s, []byte("whole content"))
			if err := s.Verify(d); err != nil {
				t.Errorf("after storing it anew: %v", err)
			}
		})
	}
}

func TestCommitAsRefusesOtherContent(t *testing.T) {
	s := open(t)
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "what came")
	want := units.DigestOf([]byte("what was wanted"))
	if err := w.CommitAs(want); err == nil || s.Has(want) {
		t.Errorf("CommitAs took content with another digest (%v)", err)
	}
	if left := leftovers(t, s, "tmp"); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	s := open(t)
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "half of it")
	w.Abort()
	w.Abort()
	if left := leftovers(t, s, "tmp"); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestManyWritersOfOneEntry(t *testing.T) {
	s := open(t)
	content := bytes.Repeat([]byte("kimg"), 1<<16)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			w, err := s.Create()
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Abort()
			w.Write(content)
			if err := w.CommitAs(units.DigestOf(content)); err != nil {
				t.Error(err)
			}
			if err := s.Verify(units.DigestOf(content)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOpenSweepsTheAbandoned(t *testing.T) {
	s := open(t)
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	w.f.Close() // as the end of its process does
	if _, err := Open(s.dir); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, s, "tmp"); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestPartialGoesOnWhereItWasLeft(t *testing.T) {
	s := open(t)
	d := units.DigestOf([]byte("first half, second half"))
	p, err := s.Partial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(p, "first half,")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = s.Partial(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if p.Size() != 11 {
		t.Fatalf("Size() = %d, want 11", p.Size())
	}
	fmt.Fprint(p, " second half")
	if err := errors.Join(p.Commit(), p.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(d); err != nil {
		t.Error(err)
	}
	if left := leftovers(t, s, "partial"); len(left) > 0 {
		t.Errorf("left in partial: %v", left)
	}
}

// What does not become an entry can be opened and written to again, by an ordinary user, too.
func TestPartialThatIsNoEntryYetIsWritable(t *testing.T) {
	s := open(t)
	d := units.DigestOf([]byte("whole"))
	if err := os.MkdirAll(filepath.Join(s.Path(d), "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := s.Partial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(p, "whole")
	if err := p.Commit(); err == nil {
		t.Error("a directory was replaced")
	}
	p.Close()
	st, err := os.Stat(filepath.Join(s.dir, "partial", string(d)))
	if err != nil || st.Mode().Perm()&0o200 == 0 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestPartialOfOtherContentIsThrownAway(t *testing.T) {
	s := open(t)
	d := units.DigestOf([]byte("right"))
	p, err := s.Partial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(p, "wrong")
	var mismatch *MismatchError
	if err := p.Commit(); !errors.As(err, &mismatch) || p.Size() != 0 || s.Has(d) {
		t.Fatalf("Commit: %v, size %d", err, p.Size())
	}
	fmt.Fprint(p, "right")
	if err := errors.Join(p.Commit(), p.Close(), s.Verify(d)); err != nil {
		t.Error(err)
	}
}

func TestPartialIsOpenOnce(t *testing.T) {
	s := open(t)
	d := units.DigestOf([]byte("x"))
	first, err := s.Partial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*50*time.Millisecond)
	defer cancel()
	if _, err := s.Partial(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second Partial was opened: %v", err)
	}
	second := make(chan error)
	go func() {
		p, err := s.Partial(t.Context(), d)
		if err == nil {
			err = p.Close()
		}
		second <- err
	}()
	fmt.Fprint(first, "x")
	if err := first.Commit(); err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

func TestCopyTo(t *testing.T) {
	s := open(t)
	sparse := make([]byte, 5<<20+123)
	copy(sparse[3<<20+17:], "one word in the middle")
	for name, content := range map[string][]byte{
		"empty": nil, "short": []byte("text"), "sparse": sparse, "zeroes": make([]byte, 2<<20),
		"dense": bytes.Repeat([]byte("0123456789"), 300_000),
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "out")
			if err := os.WriteFile(dst, []byte("what was there"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.CopyTo(t.Context(), put(t, s, content), dst, 0o640); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(dst)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("the copy differs (%d bytes, want %d; %v)", len(got), len(content), err)
			}
			info, _ := os.Stat(dst)
			if info.Mode() != 0o640 {
				t.Errorf("mode %v", info.Mode())
			}
			if blocks := info.Sys().(*syscall.Stat_t).Blocks; name == "sparse" && blocks*512 > 1<<20 {
				t.Errorf("%d bytes are allocated for a file of zeroes and one word", blocks*512)
			}
		})
	}
}

func TestCopyToOfDamagedEntryKeepsTheOldFile(t *testing.T) {
	s := open(t)
	d := put(t, s, []byte("good"))
	if err := errors.Join(os.Chmod(s.Path(d), 0o644), os.WriteFile(s.Path(d), []byte("evil"), 0o644)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dst := filepath.Join(dir, "out")
	if err := os.WriteFile(dst, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.CopyTo(t.Context(), d, dst, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CopyTo: %v", err)
	}
	if got, _ := os.ReadFile(dst); string(got) != "old" {
		t.Errorf("dst is %q", got)
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("left beside dst: %v", all)
	}
}

// grow makes a file or directory look as if it was last written to long ago.
func grow(t *testing.T, names ...string) {
	t.Helper()
	past := time.Now().Add(-2 * abandonedPartial)
	for _, name := range names {
		if err := os.Chtimes(name, past, past); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenLeavesWhatIsInUseHoweverOld(t *testing.T) {
	s := open(t)
	dir, remove, err := s.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	fmt.Fprint(w, "content")
	d := units.DigestOf([]byte("a download"))
	p, err := s.Partial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	fmt.Fprint(p, "a down")
	grow(t, dir, w.f.Name(), p.f.Name())
	if _, err := Open(s.dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, w.f.Name(), p.f.Name()} {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("swept while it was in use: %v", err)
		}
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

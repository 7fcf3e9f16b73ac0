package kept

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/steps"
)

// fill writes the files of a guest as QEMU does.
func fill(t *testing.T, p *Pending) {
	t.Helper()
	for _, name := range []string{RAM, Devices, Disk} {
		if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(name+" of a guest"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func make1(t *testing.T, s Store, key string) {
	t.Helper()
	p, err := s.Make(key, Maker{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, p)
	a := About{Reads: []steps.Fact{{Name: "a", Value: "b"}}}
	if err := p.Commit(t.Context(), a, []byte("Linux\n")); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestKeepAndFind(t *testing.T) {
	s, key := Store(filepath.Join(t.TempDir(), "guests")), Key(nil)
	if _, ok := s.Find(key); ok {
		t.Fatal("there is a guest that nobody made")
	}
	make1(t, s, key)
	g, ok := s.Find(key)
	if !ok {
		t.Fatal("it was not kept")
	}
	if err := g.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if string(g.ConsoleText()) != "Linux\n" || len(g.Reads) != 1 || g.Made.IsZero() {
		t.Errorf("%+v", g)
	}
	for _, name := range append(files, about) {
		info, err := os.Stat(filepath.Join(g.Dir, name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if left, _ := os.ReadDir(s.growing()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	make1(t, s, key) // by another process that began before
	if g, ok := s.Find(key); !ok || g.Verify(t.Context()) != nil {
		t.Error("a second one spoilt it")
	}
}

// A byte that is another one, or a file that is gone, is seen; a damaged guest is made anew.
func TestDamaged(t *testing.T) {
	for _, name := range files {
		s, key := Store(t.TempDir()), Key(nil)
		make1(t, s, key)
		g, _ := s.Find(key)
		b, err := os.ReadFile(filepath.Join(g.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(filepath.Join(g.Dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if g.Verify(t.Context()) == nil {
			t.Errorf("a flipped bit of %s goes unseen", name)
		}
		if err := os.Remove(filepath.Join(g.Dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Find(key); ok {
			t.Errorf("found without %s", name)
		}
		make1(t, s, key)
		if g, ok := s.Find(key); !ok || g.Verify(t.Context()) != nil {
			t.Errorf("it was not made anew without %s", name)
		}
	}
	for _, text := range []string{"", "{", `{"version": 1}`, `{"version": 99}`, "null"} {
		s, key := Store(t.TempDir()), Key(nil)
		make1(t, s, key)
		if err := os.WriteFile(filepath.Join(string(s), key, about), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Find(key); ok {
			t.Errorf("found with the description %q", text)
		}
	}
}

// Of two that make one guest the second does not. What is not committed is gone.
func TestOneMakes(t *testing.T) {
	s := Store(t.TempDir())
	p, err := s.Make("a", Maker{})
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := s.Maker("a"); !ok || m.PID != os.Getpid() || time.Since(m.Began) > time.Minute {
		t.Errorf("its maker: %+v, %v", m, ok)
	}
	if _, err := s.Make("a", Maker{}); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("a second one: %v", err)
	}
	other, err := s.Make("b", Maker{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Makers()) != 2 {
		t.Errorf("makers: %+v", s.Makers())
	}
	fill(t, p)
	if err := errors.Join(p.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Maker("a"); ok || len(s.Makers()) > 0 {
		t.Error("a maker that has ended makes it")
	}
	if left, _ := os.ReadDir(s.growing()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	make1(t, s, "a")
}

// A maker that is killed leaves nothing that counts, and the next one removes the rest.
func TestKilledMaker(t *testing.T) {
	if dir := os.Getenv("KIMG_TEST_MAKE"); dir != "" {
		p, err := Store(dir).Make("a", Maker{})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, p)
		fmt.Println("made")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	s := Store(t.TempDir())
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledMaker$")
	cmd.Env = append(os.Environ(), "KIMG_TEST_MAKE="+string(s))
	out, _ := cmd.Output()
	if string(out) != "made\n" {
		t.Fatalf("it said %q", out)
	}
	if _, ok := s.Find("a"); ok {
		t.Error("found what was not whole")
	}
	if left, _ := os.ReadDir(s.growing()); len(left) == 0 {
		t.Error("the killed one left nothing to remove: this proves little")
	}
	if _, ok := s.Maker("a"); ok || len(s.Makers()) > 0 {
		t.Error("a killed maker makes it")
	}
	p, err := s.Make("b", Maker{})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.growing(), tmp+"*")); len(left) != 1 || left[0] != p.Dir {
		t.Errorf("left: %v", left)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	make1(t, s, "a")
}

// A disk that is full, or an end of the context, leaves nothing that is used.
func TestCannotBeKept(t *testing.T) {
	s := Store(t.TempDir())
	p, err := s.Make("a", Maker{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, p)
	if err := os.Remove(filepath.Join(p.Dir, RAM)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", filepath.Join(p.Dir, Console)); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), About{}, []byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if err := os.Remove(filepath.Join(p.Dir, Console)); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), About{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the RAM: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Find("a"); ok {
		t.Error("it counts as kept")
	}
}

// What could not be kept is not tried again for a while.
func TestRefused(t *testing.T) {
	s := Store(t.TempDir())
	if s.Refused("a") {
		t.Error("nobody refused it")
	}
	if err := s.Refuse("a", "no room"); err != nil {
		t.Fatal(err)
	}
	if !s.Refused("a") || s.Refused("b") {
		t.Error("a is refused, and b is not")
	}
	past := time.Now().Add(-2 * refusedFor)
	if err := os.Chtimes(filepath.Join(s.refused(), "a"), past, past); err != nil {
		t.Fatal(err)
	}
	if s.Refused("a") {
		t.Error("it is refused for ever")
	}
}

func TestFileID(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	seen := map[string]bool{}
	id := func() {
		t.Helper()
		got, err := FileID(name)
		if err != nil || seen[got] {
			t.Errorf("%q again, %v", got, err)
		}
		seen[got] = true
	}
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	id()
	if err := os.Link(name, name+"1"); err != nil { // as a recording does
		t.Fatal(err)
	}
	if got, err := FileID(name); err != nil || !seen[got] {
		t.Errorf("linked to, it is %q, %v", got, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for again := info; again.ModTime().Equal(info.ModTime()); { // some file systems' clocks are coarse
		write("b") // in place
		if again, err = os.Stat(name); err != nil {
			t.Fatal(err)
		}
	}
	id()
	if err := os.Rename(name, name+"2"); err != nil {
		t.Fatal(err)
	}
	if _, err := FileID(name); err == nil {
		t.Error("one that is not there has an identity")
	}
}

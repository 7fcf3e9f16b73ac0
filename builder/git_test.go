package builder

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/kernel"
)

// TestGitIsTold holds that a directory's commit is in the part of the manifest
// that tells of the run, and in no other.
func TestGitIsTold(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("git is missing")
		}
		t.Skip("git is missing")
	}
	dir := t.TempDir()
	files(t, dir, "Makefile", "VERSION = 5\nPATCHLEVEL = 10\nSUBLEVEL = 1\n", "Kconfig", "", "Kbuild", "")
	run := func(args ...string) string {
		cmd := exec.Command(
			"git",
			append(
				[]string{
					"-C",
					dir,
					"-c",
					"user.name=x",
					"-c",
					"user.email=x@example.org",
					"-c",
					"commit.gpgSign=false",
				},
				args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	told := func() (*Manifest, string) {
		t.Helper()
		s := testSession(t)
		s.spec.Kernel = dir
		defer s.close()
		if _, err := s.resolver(nil).localSource(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := fixture(t)
		l.Kernel.Source, l.Kernel.SHA256 = string(kernel.Directory), s.local.SHA256
		m, lock, err := s.manifest(s.plan(l), nil)
		if err != nil {
			t.Fatal(err)
		}
		return m, string(lock)
	}
	before, lock := told()
	if before.Run.Git != nil {
		t.Errorf("no work tree: %+v", before.Run.Git)
	}
	run("init", "-q")
	run("add", "-A")
	run("commit", "-q", "-m", "one")
	after, again := told()
	if g := after.Run.Git; g == nil || g.Commit != run("rev-parse", "HEAD") || g.Dirty {
		t.Errorf("%+v", g)
	}
	a, err1 := json.Marshal(before.Build)
	b, err2 := json.Marshal(after.Build)
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) || lock != again {
		t.Errorf("the same files in git are another build: %v, %v", err1, err2)
	}
	files(t, dir, "Makefile", "VERSION = 5\nPATCHLEVEL = 10\nSUBLEVEL = 2\n")
	if m, _ := told(); m.Run.Git == nil || !m.Run.Git.Dirty {
		t.Errorf("after an edit: %+v", m.Run.Git)
	}
}

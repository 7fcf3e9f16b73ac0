package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/units"
)

// gitTree is a work tree with one commit.
func gitTree(t *testing.T) (dir string, run func(...string) string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("git is missing")
		}
		t.Skip("git is missing")
	}
	dir = t.TempDir()
	run = func(args ...string) string {
		t.Helper()
		who := []string{"-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgSign=false"}
		cmd := exec.Command("git", append(who, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q")
	writeFile(t, filepath.Join(dir, "Makefile"), makefile612)
	writeFile(t, filepath.Join(dir, "fs/open.c"), "open\n")
	if err := os.Symlink("fs", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	run("add", "-A")
	run("commit", "-q", "-m", "one")
	return dir, run
}

func TestReadGit(t *testing.T) {
	dir, run := gitTree(t)
	commit := run("rev-parse", "HEAD")
	open := filepath.Join(dir, "fs/open.c")
	later := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name  string
		edit  func()
		dirty bool
	}{
		{"as committed", nil, false},
		{"a file that git does not know", func() { writeFile(t, filepath.Join(dir, "new.c"), "x\n") }, false},
		{"a file's time", func() { os.Chtimes(open, later, later) }, false},
		{"an edit of the same size", func() { writeFile(t, open, "opem\n") }, true},
		{"undone", func() { writeFile(t, open, "open\n") }, false},
		{"a mode", func() { os.Chmod(open, 0o755) }, true},
		{"undone again", func() { os.Chmod(open, 0o644) }, false},
		{"a link", func() {
			os.Remove(filepath.Join(dir, "link"))
			os.Symlink("FS", filepath.Join(dir, "link"))
		}, true},
		{"undone once more", func() {
			os.Remove(filepath.Join(dir, "link"))
			os.Symlink("fs", filepath.Join(dir, "link"))
		}, false},
		{"something staged", func() { run("add", "new.c") }, true},
		{"unstaged", func() { run("reset", "-q") }, false},
		{"a file less", func() { os.Remove(open) }, true},
	} {
		if c.edit != nil {
			c.edit()
		}
		index, _ := os.Stat(filepath.Join(dir, ".git/index"))
		s := ReadGit(t.Context(), dir, "", "")
		if s == nil || s.Commit != commit || s.Dirty != c.dirty {
			t.Fatalf("%s: %+v, want %s, dirty %v", c.name, s, commit, c.dirty)
		}
		if now, _ := os.Stat(filepath.Join(dir, ".git/index")); !now.ModTime().Equal(index.ModTime()) {
			t.Errorf("%s: the index was written to", c.name)
		}
	}
	if s := ReadGit(t.Context(), filepath.Join(dir, "fs"), "", ""); s != nil {
		t.Errorf("a directory within a work tree is no work tree: %+v", s)
	}
	if s := ReadGit(t.Context(), t.TempDir(), "", ""); s != nil {
		t.Errorf("a directory without git: %+v", s)
	}
	empty := t.TempDir()
	if out, err := exec.Command("git", "init", "-q", empty).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := ReadGit(t.Context(), empty, "", ""); s != nil {
		t.Errorf("a work tree without a commit: %+v", s)
	}
	t.Setenv("PATH", t.TempDir())
	if s := ReadGit(t.Context(), dir, "", ""); s != nil {
		t.Errorf("without git on this machine: %+v", s)
	}
}

// TestReadGitConverts has a file that git keeps with other line ends than the work tree has.
func TestReadGitConverts(t *testing.T) {
	dir, run := gitTree(t)
	file := filepath.Join(dir, "make.bat")
	writeFile(t, filepath.Join(dir, ".gitattributes"), "*.bat text eol=crlf\n")
	writeFile(t, file, "make\r\n")
	run("add", "-A")
	run("commit", "-q", "-m", "two")
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(file, later, later); err != nil {
		t.Fatal(err)
	}
	if s := ReadGit(t.Context(), dir, "", ""); s == nil || s.Dirty {
		t.Errorf("%+v, want a clean tree", s)
	}
}

// TestReadGitRunsNothing has a work tree whose configuration names programs.
func TestReadGitRunsNothing(t *testing.T) {
	dir, run := gitTree(t)
	mark := filepath.Join(t.TempDir(), "ran")
	evil := "touch " + mark + "; cat"
	hook := filepath.Join(dir, ".git/hooks/post-index-change")
	writeFile(t, hook, "#!/bin/sh\n"+evil+"\n")
	if err := os.Chmod(hook, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"core.fsmonitor", "core.pager", "core.sshCommand", "diff.external",
		"diff.x.textconv", "diff.x.command", "filter.x.clean", "filter.x.smudge", "filter.x.process"} {
		run("config", key, evil)
	}
	writeFile(t, filepath.Join(dir, ".git/info/attributes"), "* filter=x diff=x\n")
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "fs/open.c"), later, later); err != nil {
		t.Fatal(err)
	}
	os.Remove(mark) // what was set here may have run it
	s := ReadGit(t.Context(), dir, "", "")
	if _, err := os.Stat(mark); err == nil {
		t.Error("a program of the work tree's choice ran")
	}
	if s == nil || s.Dirty {
		t.Errorf("%+v, want a clean tree", s)
	}
	os.Remove(mark)
	cmd := exec.Command("git", "status", "--porcelain")
	cmd.Dir = dir
	cmd.Run()
	if _, err := os.Stat(mark); err != nil {
		t.Error("git status itself runs none of them: this test proves nothing")
	}
}

// TestReadGitCached holds that git is not asked about every file again, unless
// the content, the commit or the index is another.
func TestReadGitCached(t *testing.T) {
	dir, run := gitTree(t)
	cache := t.TempDir()
	if err := os.Mkdir(filepath.Join(cache, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	read := func(content string) GitState {
		t.Helper()
		s := ReadGit(t.Context(), dir, units.DigestOf([]byte(content)), cache)
		if s == nil {
			t.Fatal("git says nothing")
		}
		return *s
	}
	first := read("1")
	writeFile(t, filepath.Join(dir, "fs/open.c"), "edit\n")
	if s := read("1"); s != first || s.Dirty {
		t.Errorf("the same content: %+v", s)
	}
	if s := read("2"); !s.Dirty || s.Commit != first.Commit {
		t.Errorf("another content: %+v", s)
	}
	run("commit", "-q", "-a", "-m", "two")
	if s := read("2"); s.Dirty || s.Commit == first.Commit {
		t.Errorf("another commit: %+v", s)
	}
	writeFile(t, filepath.Join(dir, "new.c"), "x\n")
	run("add", "new.c")
	if s := read("2"); !s.Dirty {
		t.Errorf("another index: %+v", s)
	}
}

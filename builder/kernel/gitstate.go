package kernel

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/internal/units"
)

// GitState is what git says of a work tree: for people, who know a source by its
// commit. What is built follows from the files alone.
type GitState struct {
	Commit string `json:"commit"`          // in hexadecimal
	Dirty  bool   `json:"dirty,omitempty"` // files that git knows are not those of the commit
}

// gitPatience bounds what git may take, which has 70,000 files to look at.
const gitPatience = 10 * time.Second

// ReadGit asks this machine's git about a directory that has a .git of its own.
// nil: it is none, or git is not there, or does not want to say (the tree is
// another user's). It neither writes to the tree nor runs what the tree's own git
// configuration names: no hooks, no monitor, no filters, no fetch of what a partial
// clone lacks. git status would.
//
// cacheDir keeps what was found for one content of the tree, named by a digest
// ("": there is none), one commit and one index: looking at every file costs as
// much as all the rest of a build that changes nothing.
func ReadGit(ctx context.Context, dir string, content units.Digest, cacheDir string) *GitState {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, gitPatience)
	defer cancel()
	out, err := git(ctx, dir, "rev-parse", "--git-path", "index", "HEAD^{commit}")
	index, commit, ok := strings.Cut(strings.TrimSuffix(string(out), "\n"), "\n")
	if err != nil || !ok {
		return nil
	}
	if !filepath.IsAbs(index) {
		index = filepath.Join(dir, index)
	}
	fi, err := os.Stat(index)
	if err != nil {
		return nil
	}
	type known struct {
		Commit  string
		Content units.Digest
		Index   string // how it looks
		Dirty   bool
	}
	now := known{Commit: commit, Content: content, Index: fmt.Sprint(stampOf(fi))}
	cache := filepath.Join(cacheDir, "kernel", "git-"+string(units.DigestOf([]byte(dir))))
	if text, err := os.ReadFile(cache); err == nil && content != "" {
		var was known
		if err := json.Unmarshal(text, &was); err == nil && was.Commit == now.Commit && was.Content == now.Content && was.Index == now.Index {
			return &GitState{commit, was.Dirty}
		}
	}
	s := &GitState{Commit: commit}
	off, err := noFilters(ctx, dir)
	if err == nil {
		s.Dirty, err = gitDirty(ctx, dir, off)
	}
	if err != nil {
		return nil
	}
	now.Dirty = s.Dirty
	if text, err := json.Marshal(now); err == nil && content != "" {
		_ = renameio.WriteFile(cache, text, 0o644) // if it cannot be kept, git is asked again
	}
	return s
}

// noFilters are the options that turn off every filter that a configuration names.
// git compares a file's content where its time does not tell, filtered.
func noFilters(ctx context.Context, dir string) (off []string, err error) {
	keys, err := git(ctx, dir, "config", "--null", "--name-only", "--get-regexp", `^filter\.`)
	if err != nil && len(keys) == 0 {
		return nil, nil // there are none
	}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(keys), "\x00"), "\x00") {
		if strings.Contains(key, "=") {
			return nil, fmt.Errorf("a filter is called %q", key) // -c cannot name it
		}
		off = append(off, "-c", key+"=")
	}
	return off, nil
}

// gitDirty says whether the index or a file differs from the commit.
func gitDirty(ctx context.Context, dir string, off []string) (bool, error) {
	staged, err := git(ctx, dir, "diff-index", "--cached", "--raw", "--no-renames", "--ignore-submodules=all", "HEAD", "--")
	if err != nil || len(staged) > 0 {
		return true, err
	}
	changed, err := git(ctx, dir, append(off, "diff-files", "--raw", "-z", "--no-abbrev", "--ignore-submodules=all", "--")...)
	if err != nil {
		return false, err
	}
	// git tells of each file that looks otherwise than it did: a header that has
	// what it was, ":100644 100644 ID 000... M", and its name.
	fields := strings.Split(strings.TrimSuffix(string(changed), "\x00"), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		was := strings.Fields(strings.TrimPrefix(fields[i], ":"))
		if len(was) != 5 {
			return false, fmt.Errorf("git diff-files said %q", fields[i])
		}
		if was[0] != was[1] || was[4] != "M" {
			return true, nil
		}
		id, err := blobID(filepath.Join(dir, filepath.FromSlash(fields[i+1])), len(was[2]))
		if err != nil || id != was[2] {
			return true, nil
		}
	}
	return false, nil
}

// blobID is what git knows a file's content by. digits tells which hash it uses.
func blobID(name string, digits int) (string, error) {
	var h hash.Hash = sha1.New()
	if digits == 2*sha256.Size {
		h = sha256.New()
	}
	st, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "blob %d\x00", st.Size())
	if st.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(name)
		io.WriteString(h, target)
		return hex.EncodeToString(h.Sum(nil)), err
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a plain file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// git runs one of git's commands in a directory.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"}, args...)...)
	cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GIT_") { // a hook that runs kimg has the repository of its own there
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none",
		"GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = limitWriter(&out, 64<<20)
	err := cmd.Run()
	return out.Bytes(), err
}

package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/builder/kernel/tree"
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

// ReadGit asks this machine's git about a directory that has a .git of its own. It returns nil where there is none,
// where git is missing, and where git refuses (the tree is another user's). It neither writes to the tree nor runs
// what the tree's own git configuration names: no hooks, no monitor, no filters, no fetch of what a partial clone
// lacks. A plain git status would.
//
// cacheDir keeps what was found for one content of the tree, named by a digest ("": there is none), one commit and
// one index: looking at every file costs as much as all the rest of a build that changes nothing.
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
	now := known{Commit: commit, Content: content, Index: fmt.Sprint(tree.StatOf(fi))}
	cache := filepath.Join(cacheDir, "kernel", "git-"+string(units.DigestOf([]byte(dir))))
	if text, err := os.ReadFile(cache); err == nil && content != "" {
		var was known
		err := json.Unmarshal(text, &was)
		now.Dirty = was.Dirty
		if err == nil && was == now {
			return &GitState{commit, was.Dirty}
		}
	}
	s := &GitState{Commit: commit}
	off, err := noFilters(ctx, dir)
	if err != nil {
		return nil
	}
	changed, err := git(ctx, dir,
		append(off, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--no-renames")...)
	if err != nil {
		return nil
	}
	s.Dirty = len(changed) > 0
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

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	options := []string{"--no-pager", "--no-optional-locks",
		"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"}
	cmd := exec.CommandContext(ctx, "git", append(options, args...)...)
	cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GIT_") { // a hook that runs kimg has the repository of its own there
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1",
		"GIT_ALLOW_PROTOCOL=none", "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = limitWriter(&out, 64<<20)
	err := cmd.Run()
	return out.Bytes(), err
}

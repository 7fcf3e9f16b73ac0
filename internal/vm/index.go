package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/units"
)

// maxIndexes is how many vmlinux have their index kept. One has 3 to 30 MB.
const maxIndexes = 8

// index is gdb's index of one vmlinux, its "index cache": with it gdb need not go
// through all of the debug information, which takes longer than an emulated machine
// needs to its first system calls. gdb crashes on a damaged one. So what it wrote is
// kept under a name with its digest in it, and is shown to gdb, read-only, only where
// it has that digest still. Nobody needs one: what goes wrong with it is no error.
type index struct {
	parent, key string
	dir         string  // what gdb is shown
	fill        *runDir // dir, where gdb is to write it; nil: it is there
}

// openIndex finds the index of a vmlinux in parent, or makes room for it; nil: neither.
func openIndex(parent, vmlinux string) *index {
	info, err := os.Stat(vmlinux)
	if err != nil || os.MkdirAll(parent, 0o755) != nil {
		return nil
	}
	sweepRunDirs(parent) // also where there is an index, and so no need for one
	// By its place too: gdb looks by a build ID, which anybody's vmlinux can claim to have.
	id := units.DigestOf(fmt.Appendf(nil, "%s\x00%d\x00%d", vmlinux, info.Size(), info.ModTime().UnixNano()))
	x := &index{parent: parent, key: string(id[:16])}
	found, _ := filepath.Glob(filepath.Join(parent, x.key+"-*"))
	for _, dir := range found {
		if file := indexFile(dir); file != "" && filepath.Base(dir) == x.name(file) {
			now := time.Now()
			_ = os.Chtimes(dir, now, now) // its use, for prune
			x.dir = dir
			return x
		}
		_ = os.RemoveAll(dir)
	}
	if x.fill, err = makeRunDirIn(parent); err != nil {
		return nil
	}
	x.dir = x.fill.path
	return x
}

// indexFile is the index in a directory; empty: there is none, or more than that.
func indexFile(dir string) string {
	var found []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".gdb-index") {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// name is that of the directory that keeps a file; empty: it cannot be read.
func (x *index) name(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	sum, _, err := units.DigestReader(f)
	if err != nil {
		return ""
	}
	return x.key + "-" + string(sum)
}

// close keeps what gdb wrote, once there is no gdb any more.
func (x *index) close() {
	if x == nil || x.fill == nil {
		return
	}
	if file := indexFile(x.dir); file != "" {
		if name := x.name(file); name != "" {
			to := filepath.Join(x.parent, name)
			_ = os.Mkdir(to, 0o755)
			_ = os.Rename(file, filepath.Join(to, filepath.Base(file)))
		}
	}
	_ = x.fill.remove()
	prune(x.parent)
}

// prune removes all but the indexes that were used last.
func prune(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, strings.Repeat("[0-9a-f]", 16)+"-*"))
	used := map[string]time.Time{}
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err == nil {
			used[dir] = info.ModTime()
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return used[b].Compare(used[a]) })
	for _, dir := range dirs[min(maxIndexes, len(dirs)):] {
		_ = os.RemoveAll(dir)
	}
}

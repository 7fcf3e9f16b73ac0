package toolbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/units"
)

// maxIndexes is how many vmlinux have their index kept. One has 3 to 30 MB.
const maxIndexes = 8

// index is gdb's index of one vmlinux, its "index cache": with it gdb need not read all of the debug information,
// which takes longer than an emulated machine needs to its first system calls. gdb crashes on a damaged one. So
// what it wrote is kept under a name with its digest in it, and shown to gdb, read-only, only while it still has
// that digest. Best effort: errors are ignored.
type index struct {
	parent, key string
	dir         string        // what gdb is shown
	fill        *runDir       // dir, where gdb is to write it; nil: it is there
	filled      chan struct{} // closed when it has, or cannot; nil: none does
	none        bool          // this gdb makes none of this vmlinux; read it after filled
}

// openIndex finds the index that a gdb has made of a vmlinux in parent, or makes room for it; nil: neither.
func openIndex(parent, vmlinux, gdb string) *index {
	info, err := os.Stat(vmlinux)
	if err != nil || os.MkdirAll(parent, 0o755) != nil {
		return nil
	}
	sweepRunDirs(parent) // also where there is an index, and none is made
	// By its path too: gdb looks by build ID, and any vmlinux can claim any build ID.
	id := units.DigestOf(fmt.Appendf(nil, "%s\x00%d\x00%d\x00%s", vmlinux, info.Size(), info.ModTime().UnixNano(), gdb))
	x := &index{parent: parent, key: string(id[:16])}
	found, _ := filepath.Glob(filepath.Join(parent, x.key+"-*"))
	for _, dir := range found {
		if filepath.Base(dir) == x.key+noIndex {
			return nil
		}
		if file := indexFile(dir); file != "" && filepath.Base(dir) == x.name(file) {
			now := time.Now()
			_ = os.Chtimes(dir, now, now) // its use, for prune
			x.dir = dir
			return x
		}
		_ = os.RemoveAll(dir)
	}
	if x.fill, err = makeRunDir(parent); err != nil {
		return nil
	}
	x.dir = x.fill.path
	return x
}

// noIndex ends the name of a directory that says that there is none to be had.
var noIndex = "-" + strings.Repeat("0", 64)

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
	if x.filled != nil {
		<-x.filled
	}
	if x.none {
		_ = os.Mkdir(filepath.Join(x.parent, x.key+noIndex), 0o755)
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

// indexDelay is how long after the start gdb's index is made, for the next time: it
// takes a processor for a second or more, and the guest and the first gdb come first.
const indexDelay = 10 * time.Second

// fillBy has a gdb write the index until ctx ends. dir and vmlinux are as that gdb sees them, and run runs it.
func (x *index) fillBy(
	ctx context.Context, m Mounts, program, dir, vmlinux string, run func(context.Context, []string) error,
) <-chan struct{} {
	x.filled = make(chan struct{})
	delay := indexDelay
	if m.Index {
		delay = 0
	}
	go func() {
		defer close(x.filled)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		args := append([]string{"nice", "-n", "10", program, "-nx", "-nh", "-q", "-batch",
			"-iex", "set debuginfod enabled off", "-iex", "set auto-load no"}, gdb.IndexArgs(dir)...)
		err := run(ctx, append(args, vmlinux)) // one that was ended says so
		x.none = err == nil && indexFile(x.dir) == ""
	}()
	return x.filled
}

// Package keep knows what kimg keeps between its runs, and frees it: [List] looks at the cache directory and the
// engine, [Kept.Prune] removes what was not used for long, and [Trim] does so by itself once a day.
//
// What can be made again from the rest (volumes, images, logs, lists, gdb's indexes) goes by its age alone. Entries of
// the store and records of steps stay as long as there is an out directory whose manifest or lock names them. Nothing
// goes that a process which runs may count on; see package cache.
package keep

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// Item is one thing that kimg keeps.
type Item struct {
	Kind  string    `json:"kind"`
	Name  string    `json:"name"`
	Size  int64     `json:"size"`            // bytes that it takes; -1: the engine does not say
	Used  time.Time `json:"used"`            // when it was last used
	Stays string    `json:"stays,omitempty"` // why no prune takes it; empty: one may

	stamp  string // the file whose mtime Used is; empty: there is none
	lock   string // the lock that keeps builds from it while it is removed, where that takes long
	remove func(context.Context) error
}

// Kept is all that kimg keeps.
type Kept struct {
	Dir   string `json:"cache"`
	Items []Item `json:"items"`
	// NoEngine says why the engine's volumes and images are not among the items; empty: they are.
	NoEngine string `json:"no_engine,omitempty"`

	engine Engine // nil: there is none
}

// Engine is what is asked of a container engine.
type Engine interface {
	Kept(ctx context.Context) ([]container.Kept, error)
	RemoveVolume(ctx context.Context, name string) error
	RemoveImage(ctx context.Context, ref string) error
	Sweep(ctx context.Context) error
}

// The kinds of what is no plain entry of the cache directory.
const (
	kindImage    = "toolchain image"
	kindSnapshot = "snapshot of a guest"
	baseImages   = "kimg-base:" // what toolchain images stand on: those keep what they need of it
	kindIndex    = "gdb index"  // a directory with one file
	kindGuest    = "kept guest" // a directory with its files
)

// files are the kinds in the cache directory. A name that does not match is not kimg's, and left alone.
var files = []struct {
	kind, dir string
	entry     *regexp.Regexp
	nested    bool // in directories of two hexadecimal digits
	needed    bool // an out directory's manifest or lock may name it
}{
	{"store entry", "store/sha256", regexp.MustCompile(`^[0-9a-f]{64}$`), true, true},
	{"download that was cut off", "store/partial", regexp.MustCompile(`^[0-9a-f]{64}$`), false, false},
	{"record of a step", "actions", regexp.MustCompile(`^[0-9a-f]{64}\.json$`), false, true},
	{"package list", "indices", regexp.MustCompile(`^[0-9a-f]{64}\.packages$`), false, false},
	{"log", "logs", regexp.MustCompile(`^[A-Za-z0-9._-]+\.log$`), false, false},
	{"state of an out directory", "outs", regexp.MustCompile(`^[0-9a-f]{64}\.json$`), false, false},
	{"list of a kernel source", "kernel",
		regexp.MustCompile(`^(tree|tarball|git|objects)-[A-Za-z0-9._-]+$`), false, false},
	{kindGuest, "guests", regexp.MustCompile(`^[0-9a-f]{64}$`), false, false},
	{"note on a guest that is not kept", "guests/refused", regexp.MustCompile(`^[0-9a-f]{64}$`), false, false},
	{kindIndex, "gdb-index", regexp.MustCompile(`^[0-9a-f]{16}-[0-9a-f]{64}$`), false, false},
}

// List looks at what there is. eng may be nil, and noEngine then says why.
func List(ctx context.Context, dir string, eng Engine, noEngine error) (*Kept, error) {
	k := &Kept{Dir: dir, Items: []Item{}}
	outs := outDirs(dir)
	need, unknown := needed(dir, outs)
	for _, f := range files {
		dirs := []string{filepath.Join(dir, f.dir)}
		if f.nested {
			dirs, _ = filepath.Glob(filepath.Join(dirs[0], "[0-9a-f][0-9a-f]")) // the pattern is well formed
		}
		for _, d := range dirs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if info, err := os.Lstat(d); err != nil || !info.IsDir() { // what a link leads to is not kimg's
				continue
			}
			entries, _ := os.ReadDir(d) // one that is not there holds nothing
			for _, e := range entries {
				if f.entry.MatchString(e.Name()) {
					k.add(f.kind, filepath.Join(d, e.Name()), need)
					if i := len(k.Items) - 1; i >= 0 && f.needed && k.Items[i].Stays == "" {
						k.Items[i].Stays = unknown
					}
				}
			}
		}
	}
	for _, out := range outs {
		snapshots, _ := filepath.Glob(filepath.Join(escapeGlob(out), "snapshots", "*.img"))
		for _, s := range snapshots {
			k.add(kindSnapshot, s, map[string]string{filepath.Base(s): "kimg snapshot rm drops it"})
		}
	}
	if eng != nil {
		k.engine, noEngine = eng, k.addEngine(ctx, eng)
	}
	if noEngine != nil {
		k.NoEngine = noEngine.Error()
	}
	return k, ctx.Err()
}

// add adds the file or directory at path. need says by the name, without its ending, why an entry stays.
func (k *Kept) add(kind, path string, need map[string]string) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() && (!info.IsDir() || kind != kindIndex && kind != kindGuest) {
		return
	}
	i := Item{Kind: kind, Name: filepath.Base(path), Size: diskSize(info), Used: info.ModTime(), stamp: path}
	remove := os.Remove
	if info.IsDir() {
		remove = os.RemoveAll
		within, _ := os.ReadDir(path)
		for _, e := range within {
			if info, err := e.Info(); err == nil {
				i.Size += diskSize(info)
			}
		}
	}
	i.remove = func(context.Context) error { return remove(path) }
	if i.Stays = need[i.Name]; i.Stays == "" {
		i.Stays = need[strings.TrimSuffix(i.Name, ".json")]
	}
	if kind == kindSnapshot {
		i.Name = path
	}
	k.Items = append(k.Items, i)
}

// diskSize is how much a file takes on its disk: one with holes takes less than its size.
func diskSize(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(s.Blocks) * 512
	}
	return info.Size()
}

// lockName is a lock of a kernel source in the cache directory.
var lockName = regexp.MustCompile(`^kernel-[0-9a-f]+$`)

// addEngine adds the engine's volumes and images.
func (k *Kept) addEngine(ctx context.Context, eng Engine) error {
	list, err := eng.Kept(ctx)
	for _, e := range list {
		i := Item{Kind: kindImage, Name: e.Name, Size: e.Size, Used: e.Created}
		stamp := cache.StampFile(k.Dir, e.Name)
		lock, bad := reading.Small(stamp, 1<<10)
		if info, err := os.Lstat(stamp); err == nil && bad == nil {
			i.Used, i.stamp = info.ModTime(), stamp
		}
		switch {
		case e.InUse:
			i.Stays = "a container uses it"
		case e.Image && i.stamp == "" && !strings.HasPrefix(e.Name, baseImages) && time.Since(e.Created) < 24*time.Hour:
			i.Stays = "a build that runs may need it"
		case !e.Image && i.stamp == "":
			i.Stays = "another cache directory's, or an older kimg's: docker volume rm removes it"
		}
		remove := eng.RemoveImage
		if !e.Image {
			i.Kind, remove = volumeKind(e.Name), eng.RemoveVolume
			if i.lock = "prune"; lockName.Match(lock) {
				i.lock = string(lock)
			}
			i.lock = filepath.Join(k.Dir, "locks", i.lock)
		} else if strings.HasPrefix(e.Name, baseImages) {
			i.Size += e.Shared // the toolchains that stand on it have this as what they share
		}
		i.remove = func(ctx context.Context) error {
			err := remove(ctx, i.Name)
			if err == nil && i.stamp != "" {
				_ = os.Remove(i.stamp)
			}
			return err
		}
		k.Items = append(k.Items, i)
	}
	return err
}

func volumeKind(name string) string {
	switch {
	case strings.HasPrefix(name, "kimg-src-"):
		return "source volume"
	case strings.HasPrefix(name, "kimg-obj-"):
		return "object volume"
	}
	return "ccache volume"
}

// outDirs are the out directories that this cache knows of and that are there.
func outDirs(dir string) (outs []string) {
	found, _ := filepath.Glob(cache.StampFile(escapeGlob(dir), "out-*"))
	for _, stamp := range found {
		text, err := reading.Small(stamp, 1<<16)
		if err != nil {
			continue
		}
		info, err := os.Stat(string(text))
		if err == nil && info.IsDir() || err != nil && !errors.Is(err, fs.ErrNotExist) { // needed reports the latter
			outs = append(outs, string(text))
		}
	}
	return outs
}

var digest = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// needed says why entries stay, by their names: every digest counts that the manifest or the lock of an out directory
// names, whatever for, and those in the records of steps among them.
func needed(dir string, outs []string) (need map[string]string, unknown string) {
	need = map[string]string{}
	note := func(file, why string) (found []string) {
		text, err := reading.Small(file, 64<<20)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				unknown = "what a build needs is not known: " + err.Error()
			}
			return nil
		}
		for _, d := range digest.FindAll(text, -1) {
			need[string(d)] = why
			found = append(found, string(d))
		}
		return found
	}
	for _, out := range outs {
		why := "the build in " + out + " needs it"
		need[string(units.DigestOf([]byte(out)))] = why // package outdir's memory of it
		for _, name := range []string{artifact.Manifest, artifact.Lock} {
			for _, d := range note(filepath.Join(out, name), why) {
				note(filepath.Join(dir, "actions", d+".json"), why)
			}
		}
	}
	return need, unknown
}

// escapeGlob makes a path a pattern that only it matches.
func escapeGlob(path string) string {
	return regexp.MustCompile(`[*?\[\\]`).ReplaceAllString(path, `\$0`)
}

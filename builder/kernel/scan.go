package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kimg/kimg/internal/units"
)

// entry is one file of a tree: what it is and what is in it.
type entry struct {
	path string // relative, with slashes
	kind byte   // 'f' a file, 'x' one that may be executed, 'l' a link
	sum  string // the sha256 of the content, in hexadecimal; a link's target
	stamp
}

// stamp is what tells without reading that a file is the one that was read.
type stamp struct {
	size, mtime, ctime int64 // bytes; nanoseconds
	ino                uint64
}

// same says whether two entries are the same file to a build.
func (e entry) same(f entry) bool { return e.kind == f.kind && e.sum == f.sum }

// listing is a tree's files, sorted by path.
type listing []entry

// digest is what a listing is known by: names, kinds and contents, not times.
func (l listing) digest() units.Digest {
	h := sha256.New()
	for _, e := range l {
		io.WriteString(h, e.path+"\x00"+string(e.kind)+e.sum+"\x00")
	}
	return units.DigestSum(h)
}

// racy is how old a file must be for its stamp to be believed next time: a file
// may change twice within one tick of its file system's clock. Git does the same.
const racy = 2 * time.Second

// scan lists a tree and reads what known does not vouch for. What a build makes
// (an earlier make in the tree itself) and git's own files are left out.
func scan(ctx context.Context, dir string, known map[string]entry) (listing, error) {
	s := &scanner{root: dir, known: known, began: time.Now(), slots: make(chan struct{}, 4*runtime.NumCPU())}
	s.group, ctx = errgroup.WithContext(ctx)
	s.group.Go(func() error { return s.dir(ctx, "") })
	if err := s.group.Wait(); err != nil {
		return nil, fmt.Errorf("scan kernel tree %s: %w", dir, err)
	}
	slices.SortFunc(s.list, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return s.list, nil
}

type scanner struct {
	group *errgroup.Group
	slots chan struct{} // bounds the directories and files that are open at once
	root  string
	known map[string]entry
	began time.Time

	mu   sync.Mutex
	list listing
}

func (s *scanner) dir(ctx context.Context, rel string) error {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Join(s.root, rel))
	if err != nil {
		return vanished(err)
	}
	defer dir.Close()
	des, err := dir.ReadDir(-1)
	if err != nil {
		return vanished(err)
	}
	made := products(des)
	found := make([]entry, 0, len(des))
	for _, de := range des {
		name := de.Name()
		p := name
		if rel != "" {
			p = rel + "/" + name
		}
		switch {
		case excluded(rel, name, de.IsDir()) || made[name]:
		case de.IsDir():
			s.group.Go(func() error { return s.dir(ctx, p) })
		default:
			e, err := s.entry(dir, p, de)
			if err != nil {
				return err
			}
			found = append(found, e)
		}
	}
	s.mu.Lock()
	s.list = append(s.list, found...)
	s.mu.Unlock()
	return nil
}

func (s *scanner) entry(dir *os.File, p string, de fs.DirEntry) (entry, error) {
	if strings.ContainsAny(p, "\n\x00") {
		return entry{}, fmt.Errorf("%q: a line break in a file's name", p)
	}
	mode, seen, err := lstatIn(dir, de)
	if err != nil {
		return entry{}, vanished(err)
	}
	e := entry{path: p, stamp: seen}
	switch {
	case mode&fs.ModeSymlink != 0:
		e.kind = 'l'
		e.sum, err = os.Readlink(filepath.Join(s.root, p))
		if strings.Contains(e.sum, "\n") {
			return entry{}, fmt.Errorf("%q: a line break in a link's target", p)
		}
		return e, vanished(err)
	case !mode.IsRegular():
		return entry{}, fmt.Errorf("%s: neither a file, a directory nor a link", p)
	case mode&0o111 != 0:
		e.kind = 'x'
	default:
		e.kind = 'f'
	}
	if k, ok := s.known[p]; ok && k.stamp == e.stamp && k.kind != 'l' {
		e.sum = k.sum
		return e, nil
	}
	f, err := os.Open(filepath.Join(s.root, p))
	if err != nil {
		return entry{}, vanished(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return entry{}, err
	}
	e.sum = hex.EncodeToString(h.Sum(nil))
	if s.began.Sub(time.Unix(0, max(e.mtime, e.ctime))) < racy {
		e.ino = 0 // matches no file: it is read again next time
	}
	return e, nil
}

func stampOf(fi fs.FileInfo) stamp {
	s := stamp{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.ino = st.Ino
		s.ctime = changed(st)
	}
	return s
}

func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it changed while it was being read: %w", err)
	}
	return err
}

// generated are the suffixes of what "make clean" removes everywhere; the list is
// that of the kernel's own Makefile.
var generated = []string{
	".o", ".a", ".i", ".s", ".ko", ".mod", ".mod.c", ".rsi", ".dtb", ".dtbo", ".dtb.S", ".dtbo.S", ".dt.yaml", ".dwo",
	".lst", ".su", ".lex.c", ".tab.c", ".tab.h", ".asn1.c", ".asn1.h", ".symtypes", ".ll", ".gcno", ".gcda", ".order",
}

// products finds what a build made among a directory's files: kbuild keeps the
// command that made NAME in .NAME.cmd.
func products(des []fs.DirEntry) map[string]bool {
	var m map[string]bool
	for _, de := range des {
		if name, ok := strings.CutSuffix(de.Name(), ".cmd"); ok && strings.HasPrefix(name, ".") {
			if m == nil {
				m = map[string]bool{}
			}
			m[name[1:]] = true
		}
	}
	return m
}

// excluded says whether a name is git's, an earlier build's, or an editor's. A
// source that a build outside of the tree would stumble over must not be sent:
// "the source tree is not clean".
func excluded(dir, name string, isDir bool) bool {
	if dir == "" && strings.HasPrefix(name, ownNames) {
		return true
	}
	if isDir {
		at := name
		if dir != "" {
			at = dir + "/" + name
		}
		return name == ".git" || strings.HasPrefix(name, ".tmp_") || name == "__pycache__" ||
			at == "include/generated" || at == "include/config" ||
			strings.HasPrefix(at, "arch/") && strings.HasSuffix(at, "/include/generated") && strings.Count(at, "/") == 3
	}
	if dir == "" {
		switch name {
		case ".config", ".config.old", ".git", ".version", "vmlinux", "vmlinux-gdb.py", "System.map", "Module.symvers":
			return true
		}
	}
	if strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".cmd") || strings.HasSuffix(name, ".d") || strings.HasSuffix(name, ".tmp") ||
		strings.HasSuffix(name, ".swp") || strings.HasPrefix(name, ".tmp_")) {
		return true
	}
	return slices.ContainsFunc(generated, func(suffix string) bool {
		return strings.HasSuffix(name, suffix) && name != suffix
	})
}

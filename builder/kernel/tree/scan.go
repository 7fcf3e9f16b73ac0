// Package tree lists the files of a kernel's source tree by kind and content, keeps such lists, and says what turns
// one tree into another. It neither changes a tree nor sends it anywhere.
package tree

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
	"time"

	"github.com/kimg/kimg/internal/inode"
	"github.com/kimg/kimg/internal/units"
	"golang.org/x/sync/errgroup"
)

// File is one file of a tree: what it is and what is in it.
type File struct {
	Path string // relative, with slashes
	Kind byte   // 'f' a file, 'x' one that may be executed, 'l' a link
	Sum  string // the sha256 of the content, in hexadecimal; a link's target
	Stat
}

// Stat is the part of a file's status that changes whenever its content does.
type Stat struct {
	Size, MTime, CTime int64 // bytes; nanoseconds since 1970
	Ino                uint64
}

// Files is a tree's files, sorted by path.
type Files []File

// Digest is that of the names, kinds and contents, not of the times.
func (l Files) Digest() units.Digest {
	h := sha256.New()
	for _, e := range l {
		io.WriteString(h, e.Path+"\x00"+string(e.Kind)+e.Sum+"\x00")
	}
	return units.DigestSum(h)
}

// racy is how old a file must be for its status to be believed: it may change twice within one tick. Git does it so.
const racy = 2 * time.Second

// OwnNames is how the names of all that kimg keeps at the top of a tree begin.
const OwnNames = ".kimg-"

// Scan lists the tree in dir. A file that has the same status as in known is not read again. What a build makes (an
// earlier make in the tree itself) and git's own files are left out.
//
// What is neither a file, a directory nor a link is left out, too, and is in skipped: a socket or a FIFO that
// something made there (QEMU's, say) is no source.
func Scan(ctx context.Context, dir string, known Files) (files Files, skipped []string, err error) {
	s := &scanner{root: dir, known: known.byPath(), began: time.Now(), slots: make(chan struct{}, 4*runtime.NumCPU())}
	s.group, ctx = errgroup.WithContext(ctx)
	s.group.Go(func() error { return s.dir(ctx, "") })
	if err := s.group.Wait(); err != nil {
		return nil, nil, fmt.Errorf("scan kernel tree %s: %w", dir, err)
	}
	slices.SortFunc(s.list, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(s.skipped)
	return s.list, s.skipped, nil
}

type scanner struct {
	group *errgroup.Group
	slots chan struct{} // bounds the directories and files that are open at once
	root  string
	known map[string]File
	began time.Time

	mu      sync.Mutex
	list    Files
	skipped []string
}

func (s *scanner) dir(ctx context.Context, rel string) error {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Join(s.root, rel))
	if err != nil {
		return Vanished(err)
	}
	defer dir.Close()
	des, err := dir.ReadDir(-1)
	if err != nil {
		return Vanished(err)
	}
	made := products(des)
	found, special := make([]File, 0, len(des)), []string(nil)
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
			if e.Kind == 0 {
				special = append(special, p)
				continue
			}
			found = append(found, e)
		}
	}
	s.mu.Lock()
	s.list, s.skipped = append(s.list, found...), append(s.skipped, special...)
	s.mu.Unlock()
	return nil
}

// entry is one file; without a kind: one that is left out.
func (s *scanner) entry(dir *os.File, p string, de fs.DirEntry) (File, error) {
	if strings.ContainsAny(p, "\n\x00") {
		return File{}, fmt.Errorf("%q: a line break in a file's name", p)
	}
	mode, seen, err := lstatIn(dir, de)
	if err != nil {
		return File{}, Vanished(err)
	}
	e := File{Path: p, Stat: seen}
	switch {
	case mode&fs.ModeSymlink != 0:
		e.Kind = 'l'
		e.Sum, err = os.Readlink(filepath.Join(s.root, p))
		if strings.Contains(e.Sum, "\n") {
			return File{}, fmt.Errorf("%q: a line break in a link's target", p)
		}
		return e, Vanished(err)
	case !mode.IsRegular():
		return File{}, nil
	case mode&0o111 != 0:
		e.Kind = 'x'
	default:
		e.Kind = 'f'
	}
	if k, ok := s.known[p]; ok && k.Stat == e.Stat && k.Kind != 'l' {
		e.Sum = k.Sum
		return e, nil
	}
	f, err := os.Open(filepath.Join(s.root, p))
	if err != nil {
		return File{}, Vanished(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return File{}, err
	}
	e.Sum = hex.EncodeToString(h.Sum(nil))
	if s.began.Sub(time.Unix(0, max(e.MTime, e.CTime))) < racy {
		e.Ino = 0 // matches no file: it is read again next time
	}
	return e, nil
}

// StatOf is a file's status.
func StatOf(fi fs.FileInfo) Stat {
	id := inode.Of(fi)
	return Stat{Size: fi.Size(), MTime: fi.ModTime().UnixNano(), CTime: id.Changed, Ino: id.Inode}
}

// Vanished words the error of a file that was there a moment ago.
func Vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it changed while it was being read: %w", err)
	}
	return err
}

// generated are the suffixes of what "make clean" removes everywhere, as the kernel's own Makefile lists them.
var generated = []string{
	".o", ".a", ".i", ".s", ".ko", ".mod", ".mod.c", ".rsi", ".dtb", ".dtbo", ".dtb.S", ".dtbo.S", ".dt.yaml", ".dwo",
	".lst", ".su", ".lex.c", ".tab.c", ".tab.h", ".asn1.c", ".asn1.h", ".symtypes", ".ll", ".gcno", ".gcda", ".order",
}

// products finds what a build made among a directory's files: kbuild keeps the command that made NAME in .NAME.cmd.
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

// excluded says whether a name is git's, an earlier build's, or an editor's. A source that a build outside of the
// tree would stumble over must not be sent: "the source tree is not clean".
func excluded(dir, name string, isDir bool) bool {
	if dir == "" && strings.HasPrefix(name, OwnNames) {
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
	if strings.HasPrefix(name, ".tmp_") ||
		strings.HasPrefix(name, ".") && slices.Contains([]string{".cmd", ".d", ".tmp", ".swp"}, filepath.Ext(name)) {
		return true
	}
	return slices.ContainsFunc(generated, func(suffix string) bool {
		return strings.HasSuffix(name, suffix) && name != suffix
	})
}

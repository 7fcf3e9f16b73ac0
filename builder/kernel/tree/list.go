package tree

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/gzip"

	"github.com/kimg/kimg/internal/filelock"
)

// cacheHead is the first line of the files that keep a list; its number is raised when the form changes.
const cacheHead = "kimg listing 2"

// encode writes a line for each file: kind, content, size, times, inode, path. Scan saw that none has line breaks.
func (l Files) encode(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<16)
	b.WriteString(cacheHead + "\n")
	var line []byte
	for _, e := range l {
		line = append(line[:0], e.Kind, '\t')
		for _, n := range []int64{e.Size, e.MTime, e.CTime} {
			line = append(strconv.AppendInt(line, n, 36), '\t')
		}
		line = append(strconv.AppendUint(line, e.Ino, 36), '\t')
		line = append(line, strconv.Itoa(len(e.Path))...)
		line = append(line, '\t')
		line = append(line, e.Path...)
		line = append(line, e.Sum...)
		b.Write(append(line, '\n'))
	}
	return b.Flush()
}

var errListing = errors.New("damaged listing")

func decode(data []byte) (Files, error) {
	head, data, _ := bytes.Cut(data, []byte("\n"))
	if string(head) != cacheHead {
		return nil, errListing
	}
	text := string(data) // one string: every path and sum is a part of it
	l := make(Files, 0, strings.Count(text, "\n"))
	for text != "" {
		line, rest, whole := strings.Cut(text, "\n")
		text = rest
		e, ok := decodeLine(line)
		if !ok || !whole {
			return nil, errListing
		}
		l = append(l, e)
	}
	return l, nil
}

func decodeLine(line string) (e File, ok bool) {
	field := func() string {
		f, rest, found := strings.Cut(line, "\t")
		line = rest
		ok = ok && found
		return f
	}
	number := func() int64 {
		n, err := strconv.ParseInt(field(), 36, 64)
		ok = ok && err == nil
		return n
	}
	ok = true
	kind := field()
	e.Size, e.MTime, e.CTime = number(), number(), number()
	ino, err := strconv.ParseUint(field(), 36, 64)
	n, err2 := strconv.Atoi(field())
	if !ok || err != nil || err2 != nil || len(kind) != 1 || n <= 0 || n > len(line) {
		return File{}, false
	}
	e.Kind, e.Ino, e.Path, e.Sum = kind[0], ino, line[:n], line[n:]
	return e, fs.ValidPath(e.Path)
}

// Load reads what Store kept; a list that is absent or damaged is empty, and all files are read again.
func Load(name string) Files {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	l, err := decode(data)
	if err != nil {
		return nil
	}
	return l
}

// Store keeps the list in a file.
func (l Files) Store(name string) error {
	f, err := filelock.Replace(name, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("keep listing: %w", err)
	}
	defer f.Cleanup()
	if err := l.encode(f); err != nil {
		return fmt.Errorf("keep listing: %w", err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("keep listing: %w", err)
	}
	return nil
}

func (l Files) byPath() map[string]File {
	m := make(map[string]File, len(l))
	for _, e := range l {
		m[e.Path] = e
	}
	return m
}

// Delta is what turns one tree into another.
type Delta struct {
	Send   Files    // new or changed
	Remove []string // files that are gone
	Rmdir  []string // directories that have no file any more, deepest first
}

// Diff compares what a volume holds with what it should hold.
func Diff(have, want Files) Delta {
	var d Delta
	old := have.byPath()
	dirs := map[string]bool{}
	for _, e := range want {
		if o, ok := old[e.Path]; !ok || o.Kind != e.Kind || o.Sum != e.Sum {
			d.Send = append(d.Send, e)
		}
		delete(old, e.Path)
		for dir := Parent(e.Path); dir != "" && !dirs[dir]; dir = Parent(dir) {
			dirs[dir] = true
		}
	}
	gone := map[string]bool{}
	for i := len(have) - 1; i >= 0; i-- { // from behind: what is deeper comes first
		e := have[i]
		if _, ok := old[e.Path]; !ok {
			continue
		}
		d.Remove = append(d.Remove, e.Path)
		for dir := Parent(e.Path); dir != "" && !dirs[dir]; dir = Parent(dir) {
			gone[dir] = true
		}
	}
	for dir := range gone {
		d.Rmdir = append(d.Rmdir, dir)
	}
	slices.SortFunc(d.Rmdir, func(a, b string) int { return strings.Compare(b, a) }) // a/b before a
	return d
}

// Parent is the directory that a path is in; "" is the tree itself.
func Parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// Pack compresses the list.
func (l Files) Pack() ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := l.encode(z); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// MaxPacked bounds a list, packed or not, in bytes.
const MaxPacked = 512 << 20

// Unpack reads what Pack made, or another did.
func Unpack(packed []byte) (Files, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errListing
	}
	data, err := io.ReadAll(io.LimitReader(z, MaxPacked))
	if err != nil {
		return nil, errListing
	}
	return decode(data)
}

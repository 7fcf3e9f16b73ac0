package kernel

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// cacheHead is the first line of the files that keep a listing. The number is
// raised when the form changes; a file of another form is as good as none.
const cacheHead = "kimg listing 2"

// encode writes a listing, one line for each file: kind, content, size, times,
// inode, path. Neither paths nor targets have line breaks: scan saw to that.
func (l listing) encode(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<16)
	b.WriteString(cacheHead + "\n")
	var line []byte
	for _, e := range l {
		line = append(line[:0], e.kind, '\t')
		for _, n := range []int64{e.size, e.mtime, e.ctime} {
			line = append(strconv.AppendInt(line, n, 36), '\t')
		}
		line = append(strconv.AppendUint(line, e.ino, 36), '\t')
		line = append(line, strconv.Itoa(len(e.path))...)
		line = append(line, '\t')
		line = append(line, e.path...)
		line = append(line, e.sum...)
		b.Write(append(line, '\n'))
	}
	return b.Flush()
}

var errListing = errors.New("damaged listing")

// decode reads what encode wrote.
func decode(data []byte) (listing, error) {
	head, data, _ := bytes.Cut(data, []byte("\n"))
	if string(head) != cacheHead {
		return nil, errListing
	}
	text := string(data) // one string: every path and sum is a part of it
	l := make(listing, 0, strings.Count(text, "\n"))
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

func decodeLine(line string) (e entry, ok bool) {
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
	e.size, e.mtime, e.ctime = number(), number(), number()
	ino, err := strconv.ParseUint(field(), 36, 64)
	n, err2 := strconv.Atoi(field())
	if !ok || err != nil || err2 != nil || len(kind) != 1 || n <= 0 || n > len(line) {
		return entry{}, false
	}
	e.kind, e.ino, e.path, e.sum = kind[0], ino, line[:n], line[n:]
	return e, fs.ValidPath(e.path)
}

// loadListing reads a listing that storeListing kept; one that is absent or
// damaged is empty, and all files are read again.
func loadListing(name string) listing {
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

func storeListing(name string, l listing) error {
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o600))
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

func (l listing) byPath() map[string]entry {
	m := make(map[string]entry, len(l))
	for _, e := range l {
		m[e.path] = e
	}
	return m
}

// delta is what turns one tree into another.
type delta struct {
	send   listing  // new or changed
	remove []string // files that are gone
	rmdir  []string // directories that have no file any more, deepest first
}

// diff compares what a volume holds with what it should hold.
func diff(have, want listing) delta {
	var d delta
	old := have.byPath()
	dirs := map[string]bool{}
	for _, e := range want {
		if o, ok := old[e.path]; !ok || !o.same(e) {
			d.send = append(d.send, e)
		}
		delete(old, e.path)
		for dir := parent(e.path); dir != "" && !dirs[dir]; dir = parent(dir) {
			dirs[dir] = true
		}
	}
	gone := map[string]bool{}
	for i := len(have) - 1; i >= 0; i-- { // from behind: what is deeper comes first
		e := have[i]
		if _, ok := old[e.path]; !ok {
			continue
		}
		d.remove = append(d.remove, e.path)
		for dir := parent(e.path); dir != "" && !dirs[dir]; dir = parent(dir) {
			gone[dir] = true
		}
	}
	for dir := range gone {
		d.rmdir = append(d.rmdir, dir)
	}
	slices.SortFunc(d.rmdir, func(a, b string) int { return strings.Compare(b, a) }) // a/b before a
	return d
}

func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// pack compresses a listing for the volume.
func (l listing) pack() ([]byte, error) {
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

// maxListing bounds a listing that comes out of a volume, in bytes.
const maxListing = 512 << 20

func unpackListing(packed []byte) (listing, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errListing
	}
	data, err := io.ReadAll(io.LimitReader(z, maxListing))
	if err != nil {
		return nil, errListing
	}
	return decode(data)
}

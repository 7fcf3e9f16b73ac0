// Package debtest makes Debian packages for tests.
package debtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/store"
)

// Entry is a file of a package made for a test.
type Entry struct {
	Name, Link, Body string
	Type             byte // 0: a file
	Mode             int64
}

// Dir is a directory.
func Dir(name string) Entry { return Entry{Name: name, Type: tar.TypeDir, Mode: 0o755} }

// File is a file of mode 0644.
func File(name, body string) Entry { return Entry{Name: name, Body: body, Mode: 0o644} }

// Symlink is a symbolic link.
func Symlink(name, to string) Entry {
	return Entry{Name: name, Link: to, Type: tar.TypeSymlink, Mode: 0o777}
}

// Hardlink is a hard link to a name before it.
func Hardlink(name, to string) Entry {
	return Entry{Name: name, Link: to, Type: tar.TypeLink, Mode: 0o644}
}

// Special is an entry of another type.
func Special(name string, t byte) Entry { return Entry{Name: name, Type: t, Mode: 0o644} }

// Tar makes a tar.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.Type == 0 {
			e.Type = tar.TypeReg
		}
		h := &tar.Header{Typeflag: e.Type, Name: e.Name, Linkname: e.Link, Mode: e.Mode, Size: int64(len(e.Body)),
			Uname: "builder"}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t testing.TB, suffix string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch suffix {
	case "":
		return b
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Member is a member of an ar archive.
func Member(name string, body []byte) []byte {
	b := fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(body))
	b = append(b, body...)
	if len(body)%2 == 1 {
		b = append(b, '\n')
	}
	return b
}

// Stanza is a control file.
func Stanza(name string, more ...string) string {
	return fmt.Sprintf("Package: %s\nVersion: 1.0-1\nArchitecture: amd64\n%sDescription: a test\n more of it\n",
		name, strings.Join(more, ""))
}

// Make makes a package whose parts have the suffix of a compression.
func Make(t testing.TB, suffix string, control []Entry, data []Entry) []byte {
	t.Helper()
	b := []byte("!<arch>\n")
	b = append(b, Member("debian-binary", []byte("2.0\n"))...)
	b = append(b, Member("control.tar"+suffix, compress(t, suffix, Tar(t, control...)))...)
	return append(b, Member("data.tar"+suffix, compress(t, suffix, Tar(t, data...)))...)
}

// Store returns an empty store.
func Store(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Put stores a package and returns its lock.
func Put(t testing.TB, st *store.Store, name string, deb []byte) archive.Locked {
	t.Helper()
	w, err := st.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(deb); err != nil {
		t.Fatal(err)
	}
	d, n, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return archive.Locked{Name: name, Version: "1.0-1", Arch: "amd64", Filename: "pool/" + name + ".deb", Size: n,
		SHA256: d}
}

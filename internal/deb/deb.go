// Package deb reads Debian's packages and lays them into a root filesystem with a true dpkg database, without dpkg.
package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/deb822"
	"github.com/kimg/kimg/internal/decompress"
)

// What one package may unpack to. The largest control part of Debian 13 is
// below 1 MiB; the largest package of a base is below 30 MiB.
const (
	maxControl = 16 << 20
	maxData    = 1 << 30
)

// Package is a binary package, unpacked in memory. Format: deb(5).
type Package struct {
	Stanza string     // the control file, without a blank line at its end
	Info   []InfoFile // the other files of the control part, in their order
	Data   []byte     // the data part, a plain tar; nil where it was not asked for

	file    []byte            // the package as it came
	control []byte            // the control part, a plain tar
	fields  map[string]string // the stanza's, by their names in lower case
	present map[string]bool   // names in Info
}

// InfoFile is a file of a package's control part: a maintainer script, the list of configuration files.
type InfoFile struct {
	Name string
	Mode int64
	Time time.Time
	Body []byte
}

// Unpack unpacks a .deb. Its parts may be plain or compressed with gzip, bzip2, xz or zstd. It refuses what is
// not a package, is cut off, or unpacks to more than the limits.
func Unpack(b []byte) (*Package, error) { return unpack(b, nil) }

// Check reads a .deb to its end, and returns it without its data part.
func Check(b []byte) (*Package, error) {
	u, err := Unpack(b)
	if err != nil {
		return nil, err
	}
	for tr := tar.NewReader(bytes.NewReader(u.Data)); ; {
		if _, err := nextEntry(tr); errors.Is(err, io.EOF) {
			u.Data = nil
			return u, nil
		} else if err != nil {
			return nil, fmt.Errorf("read data.tar: %w", err)
		}
	}
}

// unpack unpacks the data part where data, which has seen the control part, says so; nil: always.
func unpack(b []byte, data func(*Package) bool) (*Package, error) {
	ar, err := newArReader(b)
	if err != nil {
		return nil, fmt.Errorf("read package: %w", err)
	}
	version, err := member(ar, "debian-binary", 16, 0)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(version), "2.") {
		return nil, fmt.Errorf("read package: format %q is not known", strings.TrimSpace(string(version)))
	}
	u := &Package{file: b, present: map[string]bool{}}
	if u.control, err = member(ar, "control.tar", maxControl, 0); err != nil {
		return nil, err
	}
	if err := u.readControl(u.control); err != nil {
		return nil, fmt.Errorf("read control.tar: %w", err)
	}
	if data == nil || data(u) {
		// A file's header and padding are no more than what Installed-Size counts it up to: Debian policy 5.6.20.
		kib, _ := strconv.ParseInt(u.Field("Installed-Size"), 10, 64) // without it, there is no guess
		u.Data, err = member(ar, "data.tar", maxData, kib<<10+16<<10)
	}
	return u, err
}

// Plain returns the package without compression, where its data part was unpacked, and else as it came.
func (u *Package) Plain() []byte {
	if u.Data == nil {
		return u.file
	}
	b := []byte(arMagic)
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", u.control}, {"data.tar", u.Data}} {
		b = appendMember(b, m.name, m.body)
	}
	return b
}

// member reads and decompresses the next member, which has to be name or name with the suffix of a compression, and
// takes up guess bytes, or another number. Members with a leading underscore are skipped, as deb(5) asks.
func member(ar *arReader, name string, limit, guess int64) ([]byte, error) {
	for {
		found, packed, err := ar.next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read package: no %s: %w", name, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return nil, fmt.Errorf("read package: %w", err)
		}
		if strings.HasPrefix(found, "_") {
			continue
		}
		suffix, ok := strings.CutPrefix(found, name)
		if !ok {
			return nil, fmt.Errorf("read package: found member %q instead of %s", found, name)
		}
		r, err := decompress.NewReader(bytes.NewReader(packed), suffix)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", found, err)
		}
		defer r.Close()
		var out bytes.Buffer
		out.Grow(int(max(0, min(guess, limit, 16*int64(len(packed)))))) // as far as the package may be believed
		n, err := io.Copy(&out, io.LimitReader(r, limit+1))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", found, err)
		}
		if n > limit {
			return nil, fmt.Errorf("read %s: it unpacks to more than %d bytes", found, limit)
		}
		return out.Bytes(), nil
	}
}

// readControl fills the stanza and the info files from the control part.
func (u *Package) readControl(b []byte) error {
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := nextEntry(tr)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag != tar.TypeReg || name != path.Base(name) || strings.HasPrefix(name, ".") || u.present[name] {
			return fmt.Errorf("%q is no control file", h.Name)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		u.present[name] = true
		if name == "control" {
			u.Stanza = strings.TrimRight(string(body), "\n")
			continue
		}
		u.Info = append(u.Info, InfoFile{name, h.Mode & 0o777, h.ModTime.Truncate(time.Second), body})
	}
	if u.Stanza == "" || strings.Contains(u.Stanza, "\n\n") {
		return errors.New("there is no control file with one stanza")
	}
	var err error
	if u.fields, err = deb822.Map(u.Stanza); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// nextEntry returns a tar's next entry. A sparse file is refused: dpkg makes none,
// and a few bytes of one stand for as many zeros as they like.
func nextEntry(tr *tar.Reader) (*tar.Header, error) {
	h, err := tr.Next()
	if err != nil {
		return nil, err
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return nil, fmt.Errorf("%q is a sparse file", h.Name)
		}
	}
	if h.Typeflag == tar.TypeGNUSparse {
		return nil, fmt.Errorf("%q is a sparse file", h.Name)
	}
	return h, nil
}

// Field returns a field of the stanza; "" when it has none.
func (u *Package) Field(name string) string { return u.fields[strings.ToLower(name)] }

// Has reports whether the control part has a file.
func (u *Package) Has(name string) bool { return u.present[name] }

// File returns an info file's content.
func (u *Package) File(name string) []byte {
	for _, f := range u.Info {
		if f.Name == name {
			return f.Body
		}
	}
	return nil
}

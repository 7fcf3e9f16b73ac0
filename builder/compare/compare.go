// Package compare explains how two builds differ: which artifact, which part of it,
// and what the likely cause is. Dirs compares two out directories, Files two files. It
// reads images, kernels, locks and manifests itself and needs no engine and no network.
//
// What it reads may be hostile. Each reader's work is bounded by the size of what
// it reads; what cannot be read in depth is compared as bytes, and a Note says so.
package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Difference is one thing that is not the same.
type Difference struct {
	Artifact string `json:"artifact"`        // a file of the build, or "inputs"
	Where    string `json:"where"`           // the part of it: a section, a file, a field
	A        string `json:"a"`               // what the first has there, for users to read; empty: nothing
	B        string `json:"b"`               // the second
	Cause    Cause  `json:"cause,omitempty"` // the likely one; empty: none is known
}

// Report is all that was found, inputs before artifacts.
type Report struct {
	A           string       `json:"a"` // what was compared
	B           string       `json:"b"`
	Differences []Difference `json:"differences"`
	Notes       []string     `json:"notes,omitempty"`   // what was not looked into, and why
	Dropped     int          `json:"dropped,omitempty"` // differences that were too many to keep
}

// Same says that nothing differs: every byte is the same.
func (r *Report) Same() bool { return len(r.Differences) == 0 }

// Causes counts the differences by cause.
func (r *Report) Causes() map[Cause]int {
	n := map[Cause]int{}
	for _, d := range r.Differences {
		n[d.Cause]++
	}
	return n
}

const maxDifferences = 100_000

func (r *Report) add(d ...Difference) {
	for _, one := range d {
		if len(r.Differences) >= maxDifferences {
			r.Dropped++
			continue
		}
		one.A, one.B = short(one.A), short(one.B)
		r.Differences = append(r.Differences, one)
	}
}

func (r *Report) report(t thing, where, a, b string, c Cause) {
	r.add(Difference{t.artifact, t.at(where), a, b, c})
}

func (r *Report) sizes(t thing, where string, a, b blob, c Cause) {
	r.report(t, where, byteCount(a.size), byteCount(b.size), c)
}

func byteCount(n int64) string { return fmt.Sprintf("%d bytes", n) }

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// maxValue bounds a value in a report, in bytes.
const maxValue = 400

func short(s string) string {
	if len(s) > maxValue {
		return s[:maxValue] + "..."
	}
	return s
}

func two[S, T any](a, b S, read func(S) (T, error)) (x, y T, err error) {
	if x, err = read(a); err == nil {
		y, err = read(b)
	}
	return x, y, err
}

// blob is what is compared: a file, or a part of one.
type blob struct {
	r    io.ReaderAt
	size int64
	f    *os.File // of a whole file: its holes are known
}

func memory(p []byte) blob { return blob{r: bytes.NewReader(p), size: int64(len(p))} }

func (b blob) part(off, n int64) blob {
	off = min(max(off, 0), b.size)
	n = min(max(n, 0), b.size-off)
	return blob{r: io.NewSectionReader(b.r, off, n), size: n}
}

func (b blob) bytes(limit int64) ([]byte, error) {
	if b.size > limit {
		return nil, fmt.Errorf("it has %d bytes: at most %d are looked into", b.size, limit)
	}
	p := make([]byte, b.size)
	if n, err := b.r.ReadAt(p, 0); n < len(p) {
		return nil, err
	}
	return p, nil
}

func (b blob) head(n int64) []byte {
	p := make([]byte, min(n, b.size))
	k, _ := b.r.ReadAt(p, 0) // the comparison reads it again and returns the error
	return p[:k]
}

func openBlob(name string) (blob, error) {
	st, err := os.Stat(name)
	if err == nil && !st.Mode().IsRegular() { // before opening it: a pipe would wait for a writer
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return blob{}, fmt.Errorf("compare: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return blob{}, fmt.Errorf("compare: %w", err)
	}
	if st, err = f.Stat(); err != nil {
		f.Close()
		return blob{}, fmt.Errorf("compare: %w", err)
	}
	return blob{f, st.Size(), f}, nil
}

// Files compares two files; name is what the report calls the artifact. Their content says what they are: an ext4
// image, an ELF file, a bzImage, a manifest, a lock, a kernel config, a System.map, text.
func Files(ctx context.Context, name, a, b string) (*Report, error) {
	r := &Report{A: a, B: b, Differences: []Difference{}}
	if err := r.files(ctx, name, a, b); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Report) files(ctx context.Context, name, a, b string) error {
	x, err := openBlob(a)
	if err != nil {
		return err
	}
	defer x.f.Close()
	y, err := openBlob(b)
	if err != nil {
		return err
	}
	defer y.f.Close()
	if s, t, err := two(x.f, y.f, (*os.File).Stat); err == nil && os.SameFile(s, t) {
		return nil
	}
	return r.blobs(ctx, thing{artifact: name, base: path.Base(name)}, x, y)
}

type thing struct {
	artifact string
	where    string // in the artifact: a path of an image; empty: all of it
	base     string // last element of its name, which distinguishes a System.map from other text
	depth    int    // how many times something was unpacked to get there
}

func (t thing) at(where string) string {
	switch {
	case t.where == "":
		return where
	case where == "":
		return t.where
	}
	return t.where + ": " + where
}

// errOpaque is wrapped by the errors of readers that cannot parse a blob, which is then compared as bytes.
var errOpaque = errors.New("not of the form that it seems to have")

func (r *Report) blobs(ctx context.Context, t thing, a, b blob) error {
	s, err := differ(ctx, a, b)
	if err != nil {
		return fmt.Errorf("compare %s: %w", t.artifact, err)
	}
	if len(s.spans) == 0 && a.size == b.size {
		return nil
	}
	before := len(r.Differences)
	err = r.explain(ctx, t, a, b, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.note("%s: %v; compared as bytes", strings.TrimSuffix(t.artifact+": "+t.where, ": "), err)
	}
	if err != nil || len(r.Differences) == before && r.Dropped == 0 {
		r.binary(t, a, b, s) // bytes differ: something must be reported
	}
	return nil
}

func (r *Report) explain(ctx context.Context, t thing, a, b blob, s changes) error {
	ha, hb := a.head(headLen), b.head(headLen)
	for _, f := range forms {
		if f.is(t, ha) && f.is(t, hb) {
			return f.compare(r, ctx, t, a, b, s)
		}
	}
	r.binary(t, a, b, s)
	return nil
}

// headLen is how many bytes of a blob its form is recognised from: an ext4 superblock's magic number is in them.
const headLen = 4096

type form struct {
	name    string
	is      func(t thing, head []byte) bool
	compare func(*Report, context.Context, thing, blob, blob, changes) error
}

var forms []form // tried from the top

func init() {
	forms = []form{
		{"ext4", isImage, (*Report).images},
		{"ELF", isELF, (*Report).elfs},
		{"bzImage", isBzImage, (*Report).bzImages},
		{"gzip", isGzip, (*Report).gzips},
		{"document", isDocument, (*Report).documents},
		{"config", isConfig, (*Report).configs},
		{"System.map", isSystemMap, (*Report).systemMaps},
		{"text", isText, (*Report).texts},
	}
}

package compare

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// maxSection bounds a section that is compared as a table of strings, in bytes.
const maxSection = 256 << 20

// stringTable compares two sections of strings, whose order is no matter.
func (r *Report) stringTable(t thing, name string, a, b blob) error {
	v, err := a.bytes(maxSection)
	if err != nil {
		return err
	}
	w, err := b.bytes(maxSection)
	if err != nil {
		return err
	}
	from := len(r.Differences)
	r.lines(t, name+": string", zeroLines(v), zeroLines(w))
	if name == ".comment" { // what compiled it
		for i := range r.Differences[from:] {
			r.Differences[from+i].Cause = Compiler
		}
	}
	return nil
}

// zeroLines makes lines of strings that end in zero bytes.
func zeroLines(b []byte) string {
	return strings.ReplaceAll(strings.ReplaceAll(string(b), "\n", " "), "\x00", "\n")
}

// dataStrings compares the strings in two sections whose bytes moved.
func (r *Report) dataStrings(t thing, name string, a, b blob) error {
	v, err := a.bytes(maxSection)
	if err != nil {
		return err
	}
	w, err := b.bytes(maxSection)
	if err != nil {
		return err
	}
	if x, y := printables(v), printables(w); x != y {
		r.lines(t, name+": string", x, y)
	}
	return nil
}

// minTable is how long what is taken for one of many strings is, in bytes: code and
// tables have shorter ones by chance.
const minTable = 8

// printables are the strings in memory, as strings(1) finds them, as lines.
func printables(p []byte) string {
	var out strings.Builder
	for i := 0; i < len(p); {
		j := i
		for j < len(p) && printable(p[j]) {
			j++
		}
		if j-i >= minTable {
			out.WriteString(strings.ReplaceAll(string(p[i:j]), "\n", " ") + "\n")
		}
		i = max(j, i+1)
	}
	return out.String()
}

// notes compares two sections of notes (the ELF format's Nhdr, then name and
// descriptor, each padded to four bytes).
func (r *Report) notes(t thing, section string, p *program, a, b blob) error {
	v, err := a.bytes(maxSection)
	if err != nil {
		return err
	}
	w, err := b.bytes(maxSection)
	if err != nil {
		return err
	}
	x, y := readNotes(p, v), readNotes(p, w)
	for _, k := range keys(x, y) {
		if x[k] == y[k] {
			continue
		}
		cause := pending // a build ID is a digest of the rest
		if !strings.HasSuffix(k, "build ID") {
			cause = ""
		}
		r.add(Difference{t.artifact, t.at(section + ": " + k), x[k], y[k], cause})
	}
	if len(x) == len(y) && len(keys(x, y)) == len(x) && len(x) == 0 {
		r.add(Difference{t.artifact, t.at(section), fmt.Sprintf("%d bytes", len(v)), fmt.Sprintf("%d bytes", len(w)), ""})
	}
	return nil
}

// maxNotes is how many notes of a section are read.
const maxNotes = 1000

func readNotes(p *program, b []byte) map[string]string {
	out := map[string]string{}
	order := p.f.ByteOrder
	for len(b) >= 12 && len(out) < maxNotes {
		nameLen, descLen, typ := int64(order.Uint32(b)), int64(order.Uint32(b[4:])), order.Uint32(b[8:])
		b = b[12:]
		nameEnd := (nameLen + 3) &^ 3
		descEnd := nameEnd + (descLen+3)&^3
		if nameEnd+descLen > int64(len(b)) {
			break
		}
		name := string(bytes.TrimRight(b[:nameLen], "\x00"))
		desc := hex.EncodeToString(b[nameEnd : nameEnd+descLen])
		key := fmt.Sprintf("%s note %#x", name, typ)
		if name == "GNU" && typ == 3 { // NT_GNU_BUILD_ID
			key = "build ID"
		}
		for i := 2; out[key] != ""; i++ {
			key = fmt.Sprintf("%s note %#x#%d", name, typ, i)
		}
		out[key] = desc
		b = b[min(descEnd, int64(len(b))):]
	}
	return out
}

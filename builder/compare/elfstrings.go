package compare

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// maxSection bounds a section that is compared as a table of strings, in bytes.
const maxSection = 256 << 20

func (d *sectionDiff) both() (x, y []byte, err error) {
	return two(d.a, d.b, func(b blob) ([]byte, error) { return b.bytes(maxSection) })
}

// strings compares the strings that a function finds in the section, as lines: their order does not matter.
func (d *sectionDiff) strings(find func([]byte) string) error {
	v, w, err := d.both()
	if err != nil {
		return err
	}
	from := len(d.Differences)
	if x, y := find(v), find(w); x != y {
		d.lines(d.t, d.name+": string", x, y)
	}
	if d.name == ".comment" { // what compiled it
		for i := range d.Differences[from:] {
			d.Differences[from+i].Cause = Compiler
		}
	}
	return nil
}

func zeroLines(b []byte) string {
	return strings.ReplaceAll(strings.ReplaceAll(string(b), "\n", " "), "\x00", "\n")
}

// minTable is the least length of a string in data, in bytes: code and tables have shorter ones by chance.
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

const buildID = "build ID"

// notes compares two sections of notes: Nhdr, then name and descriptor, each padded to four bytes.
func (d *sectionDiff) notes() error {
	v, w, err := d.both()
	if err != nil {
		return err
	}
	x, y := readNotes(d.x, v), readNotes(d.y, w)
	all := keys(x, y)
	for _, k := range all {
		if x[k] == y[k] {
			continue
		}
		cause := Cause("")
		if strings.HasSuffix(k, buildID) { // a digest of the rest
			cause = pending
		}
		d.tell(k, x[k], y[k], cause)
	}
	if len(all) == 0 {
		d.sizes(d.t, d.name, d.a, d.b, "")
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
		key := fmt.Sprintf("%s note %#x", name, typ)
		if name == "GNU" && typ == 3 { // NT_GNU_BUILD_ID
			key = buildID
		}
		for i := 2; out[key] != ""; i++ {
			key = fmt.Sprintf("%s note %#x#%d", name, typ, i)
		}
		out[key] = hex.EncodeToString(b[nameEnd : nameEnd+descLen])
		b = b[min(descEnd, int64(len(b))):]
	}
	return out
}

package elffile

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"
)

// The bombs among the symbols are in builder/compare, whose tests compile programs.
func TestOpen(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil || !bytes.HasPrefix(program, []byte("\x7fELF")) {
		t.Skipf("this is no ELF machine (%v)", err)
	}
	f, err := Open(bytes.NewReader(program), int64(len(program)))
	if err != nil || f.Section(".text") == nil {
		t.Fatalf("%v", err)
	}

	le := binary.LittleEndian
	names := int(le.Uint64(program[0x28:])) + 64*int(le.Uint16(program[0x3E:]))
	for what, damage := range map[string]func(b []byte){
		"compressed":     func(b []byte) { b[names+8+1] |= 0x800 >> 8 },
		"not there":      func(b []byte) { le.PutUint16(b[0x3E:], le.Uint16(b[0x3C:])) },
		"are more than":  func(b []byte) { le.PutUint64(b[0x28:], uint64(len(b)-64)) },
		"header has 7 b": func(b []byte) { le.PutUint16(b[0x3A:], 7) },
	} {
		b := bytes.Clone(program)
		damage(b)
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, n := range []int{0, 16, 52, 63, 64, 4096} { // cut short
		if _, err := Open(bytes.NewReader(program[:n]), int64(n)); err == nil {
			t.Errorf("%d bytes of a program are one", n)
		}
	}
}

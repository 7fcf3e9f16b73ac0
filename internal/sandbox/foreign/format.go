package foreign

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/arch"
)

// Format is what binfmt_misc is told of an architecture: the first 20 bytes of its ELF files, 64-bit and little-endian,
// executables and shared objects alike; P keeps argv[0], F opens the emulator at once, outside of the tree.
// https://docs.kernel.org/admin-guide/binfmt-misc.html
func Format(a arch.Arch) string {
	magic := `\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00` +
		fmt.Sprintf(`\x%02x\x%02x`, byte(a.ELF), byte(a.ELF>>8))
	mask := strings.Repeat(`\xff`, 7) + `\x00` + strings.Repeat(`\xff`, 8) + `\xfe\xff\xff\xff`
	return ":kimg:M::" + magic + ":" + mask + ":/usr/bin/" + a.Emulator + ":PF"
}

// format is what binfmt_misc is told: which files an interpreter runs.
type format struct {
	magic, mask []byte
	interpreter string
}

// parseFormat reads the text for binfmt_misc's register, ":name:M:offset:magic:mask:interpreter:flags", of which the
// offset is empty, mask is not, and the flags are PF: argv[0] is handed on, and the interpreter opened at once.
// https://docs.kernel.org/admin-guide/binfmt-misc.html
func parseFormat(text string) (f format, err error) {
	p := strings.Split(text, ":")
	if len(p) != 8 || p[0] != "" || p[2] != "M" || p[3] != "" || p[7] != "PF" {
		return f, fmt.Errorf("%q is no format: want :NAME:M::MAGIC:MASK:INTERPRETER:PF", text)
	}
	f.interpreter = p[6]
	for i, to := range []*[]byte{&f.magic, &f.mask} {
		s, err := strconv.Unquote(`"` + p[4+i] + `"`)
		if err != nil {
			return f, fmt.Errorf("%q is no format: %q: %w", text, p[4+i], err)
		}
		*to = []byte(s)
	}
	if len(f.magic) == 0 || len(f.magic) != len(f.mask) || !strings.HasPrefix(f.interpreter, "/") {
		return f, fmt.Errorf("%q is no format: magic and mask have %d and %d bytes, and the interpreter is %q",
			text, len(f.magic), len(f.mask), f.interpreter)
	}
	return f, nil
}

// match reports whether a file is of the format, by its first bytes.
func (f format) match(head []byte) bool {
	if len(head) < len(f.magic) {
		return false
	}
	for i, m := range f.mask {
		if (head[i]^f.magic[i])&m != 0 {
			return false
		}
	}
	return true
}

// headSize is how much of a file the kernel looks at to tell what it is, BINPRM_BUF_SIZE.
const headSize = 256

// maxScripts is how many scripts may be interpreters of one another, where the last one's is of a format: the kernel
// takes five changes of the program (exec_binprm), of which the format is one.
const maxScripts = 4

// script reads the first line of a script as the kernel does (load_script): the interpreter, and the one argument that
// it may have.
func script(head []byte) (interpreter, argument string, ok bool) {
	head = head[:min(len(head), headSize)]
	line, found := bytes.CutPrefix(head, []byte("#!"))
	if !found {
		return "", "", false
	}
	const blank = " \t"
	line, _, ended := bytes.Cut(line, []byte("\n"))
	line = bytes.TrimLeft(line, blank)
	// A line that goes on behind what is looked at may end in an argument, but not in the interpreter. What a file
	// lacks of headSize, the kernel has as zeros.
	if !ended && len(head) == headSize && !bytes.ContainsAny(line, blank+"\x00") {
		return "", "", false
	}
	line = bytes.TrimRight(line, blank)
	name := line
	if i := bytes.IndexAny(line, blank+"\x00"); i >= 0 {
		name = line[:i]
		if line[i] != 0 {
			rest, _, _ := bytes.Cut(bytes.TrimLeft(line[i:], blank), []byte{0})
			argument = string(rest)
		}
	}
	return string(name), argument, len(name) > 0
}

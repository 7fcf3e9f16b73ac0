package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// arMagic and arHeader: ar(5), the common format that deb(5) is made of. A reader of its own is shorter than what
// Debian's Go library for packages brings with it: OpenPGP, LZMA and a second xz.
const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // bytes: name 16, time 12, owner 6, group 6, mode 8, size 10, end 2
)

// arReader reads the members of an ar archive in memory, one after the other.
type arReader struct{ rest []byte }

func newArReader(b []byte) (*arReader, error) {
	rest, ok := bytes.CutPrefix(b, []byte(arMagic))
	if !ok {
		return nil, errors.New("it is no Debian package, which is an ar archive")
	}
	return &arReader{rest}, nil
}

// next returns the next member; io.EOF after the last.
func (r *arReader) next() (name string, body []byte, err error) {
	if len(bytes.TrimLeft(r.rest, "\n")) == 0 {
		return "", nil, io.EOF
	}
	if len(r.rest) < arHeader {
		return "", nil, fmt.Errorf("member header: %w", io.ErrUnexpectedEOF)
	}
	head := string(r.rest[:arHeader])
	name = strings.TrimSuffix(strings.TrimRight(head[:16], " "), "/")
	size, err := strconv.ParseUint(strings.TrimRight(head[48:58], " "), 10, 40)
	if err != nil || head[58:] != "`\n" {
		return "", nil, fmt.Errorf("member %q: its header is damaged", name)
	}
	r.rest = r.rest[arHeader:]
	if size > uint64(len(r.rest)) {
		return "", nil, fmt.Errorf("member %q: %w", name, io.ErrUnexpectedEOF)
	}
	body, r.rest = r.rest[:size], r.rest[size:]
	if size%2 == 1 && len(r.rest) > 0 {
		r.rest = r.rest[1:] // members begin at even places
	}
	return name, body, nil
}

// appendMember appends one member to an archive. The fields that tell of who made it stay 0.
func appendMember(b []byte, name string, body []byte) []byte {
	b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(body))
	b = append(b, body...)
	if len(body)%2 == 1 {
		b = append(b, '\n')
	}
	return b
}

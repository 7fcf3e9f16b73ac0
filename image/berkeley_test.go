package image

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// Two aliases.db of one content, made at other times, are the same once they are scrubbed; nothing else is touched.
func TestScrubDB(t *testing.T) {
	make := func(id byte, stamp string) []byte {
		b := bytes.Repeat([]byte{7}, 3<<12)
		for _, page := range []int{0, 2 << 12} {
			copy(b[page+dbFileID:], bytes.Repeat([]byte{id}, dbFileIDLen))
		}
		binary.LittleEndian.PutUint32(b[dbMagic:], dbHash)
		copy(b[1<<12:], "\x01root\x00\x01"+stamp+"\x01YP_LAST_MODIFIED\x01@")
		return b
	}
	epoch := time.Unix(1700000000, 0)
	a := scrubDB("etc/aliases.db", make(1, "1795769939"), epoch)
	b := scrubDB("etc/aliases.db", make(2, "1795770088"), epoch)
	if !bytes.Equal(a, b) {
		t.Error("they differ")
	}
	if !strings.Contains(string(a), "\x01root\x00\x011700000000\x01YP_LAST_MODIFIED\x01@") {
		t.Errorf("the map is %q", a[1<<12:1<<12+40])
	}
	if other := scrubDB("etc/other.db", make(1, "1795769939"), epoch); bytes.Equal(a, other) {
		t.Error("two files have one id")
	}
	for _, no := range [][]byte{nil, []byte("short"), bytes.Repeat([]byte("\x011795769939\x01YP_LAST_MODIFIED"), 10)} {
		if got := scrubDB("etc/aliases.db", bytes.Clone(no), epoch); !bytes.Equal(got, no) {
			t.Errorf("%q became %q", no, got)
		}
	}
}

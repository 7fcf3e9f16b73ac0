package sparse

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestCopyLeavesZerosOut(t *testing.T) {
	for name, want := range map[string][]byte{
		"empty":        {},
		"short":        []byte("kimg"),
		"zeros at end": append([]byte("kimg"), make([]byte, 1<<20)...),
		"zeros first":  append(make([]byte, 1<<20), 'k'),
		"odd length":   append(make([]byte, 3*block+17), 1, 0, 0),
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Copy(f, bytes.NewReader(want)); err != nil || n != int64(len(want)) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: content differs (%v)", name, err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if len(want) > 1<<19 && st.Sys().(*syscall.Stat_t).Blocks*512 > 2*block {
			t.Errorf("%s: takes %d bytes of disk", name, st.Sys().(*syscall.Stat_t).Blocks*512)
		}
		f.Close()
	}
}

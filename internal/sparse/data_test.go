package sparse

import (
	"os"
	"testing"
)

// TestData asks for the pieces of a file with holes. Where the file system does
// not tell them all is one piece, which holds the data as well.
func TestData(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 64 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{8 << 20, 40 << 20} {
		if _, err := f.WriteAt([]byte{1}, at); err != nil {
			t.Fatal(err)
		}
	}
	var seen int64
	found := map[int64]bool{}
	for at := int64(0); at < size; {
		start, end, err := Data(f, at, size)
		if err != nil || start < at || end < start || end > size {
			t.Fatalf("from %d: %d to %d, %v", at, start, end, err)
		}
		for _, want := range []int64{8 << 20, 40 << 20} {
			found[want] = found[want] || start <= want && want < end
		}
		seen, at = seen+end-start, end
	}
	if !found[8<<20] || !found[40<<20] {
		t.Errorf("the data was not found: %v", found)
	}
	t.Logf("%d of %d bytes are data", seen, size)
	if start, end, err := Data(f, size, size); start != size || end != size || err != nil {
		t.Errorf("behind the end: %d to %d, %v", start, end, err)
	}
}

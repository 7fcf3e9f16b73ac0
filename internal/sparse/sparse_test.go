package sparse

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/iotest"
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

func TestCopyFile(t *testing.T) {
	const size = 40<<20 + 5
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	from, to := open("from"), open("to")
	if err := from.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 10<<20 + 17, 17<<20 - 1, size - 5} {
		if _, err := from.WriteAt([]byte("kimg"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := CopyFile(t.Context(), to, from, size); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(from.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy of %d bytes has %d and differs (%v)", len(want), len(got), err)
	}
	st, err := to.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if took := st.Sys().(*syscall.Stat_t).Blocks * 512; took > 8*block {
		t.Errorf("it takes %d bytes of disk", took)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := CopyFile(ctx, open("none"), from, size); !errors.Is(err, enough) {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestMap(t *testing.T) {
	z := func(n int) []byte { return make([]byte, n) }
	one := bytes.Repeat([]byte{1}, block)
	for name, c := range map[string]struct {
		in   [][]byte
		want []Extent
	}{
		"empty":        {nil, nil},
		"zeros":        {[][]byte{z(3*block + 5)}, nil},
		"one piece":    {[][]byte{one, one}, []Extent{{0, 2 * block}}},
		"two pieces":   {[][]byte{one, z(block), one}, []Extent{{0, block}, {2 * block, block}}},
		"a short end":  {[][]byte{z(block), {0, 7}}, []Extent{{block, 2}}},
		"a zero in it": {[][]byte{{1}, z(block - 1), z(block)}, []Extent{{0, block}}},
	} {
		in := bytes.Join(c.in, nil)
		got, size, err := Map(bytes.NewReader(in))
		if err != nil || size != int64(len(in)) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %d bytes, %v; want %v, %d bytes", name, got, size, err, c.want, len(in))
		}
	}
	bad := errors.New("bad")
	if _, _, err := Map(iotest.ErrReader(bad)); !errors.Is(err, bad) {
		t.Errorf("a reader that fails: %v", err)
	}
}

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseShare(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"src", "a:b", "a:b:rw", "c,rw", "with space", "x:/y"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		text string
		want Share // without a Path: refused
	}{
		{"src", Share{Dir: "src", Path: "/mnt/src"}},
		{"src/", Share{Dir: "src/", Path: "/mnt/src"}},
		{"src:rw", Share{Dir: "src", Path: "/mnt/src", Write: true}},
		{"src,rw", Share{Dir: "src", Path: "/mnt/src", Write: true}},
		{"src:ro", Share{Dir: "src", Path: "/mnt/src"}},
		{"src:/work", Share{Dir: "src", Path: "/work"}},
		{"src:/work//a/../b/:rw", Share{Dir: "src", Path: "/work/b", Write: true}},
		{"src:name", Share{Dir: "src", Path: "/mnt/name"}},
		{".", Share{Dir: ".", Path: "/mnt/" + filepath.Base(here)}},
		{"a:b", Share{Dir: "a:b", Path: "/mnt/a:b"}},
		{"a:b:ro", Share{Dir: "a:b", Path: "/mnt/a:b"}},
		{"a:b:rw", Share{Dir: "a:b:rw", Path: "/mnt/a:b:rw"}},
		{"a:b:rw:rw", Share{Dir: "a:b:rw", Path: "/mnt/a:b:rw", Write: true}},
		{"c,rw", Share{Dir: "c,rw", Path: "/mnt/c,rw"}},
		{"x:/y", Share{Dir: "x:/y", Path: "/mnt/y"}},
		{"with space:/a b,c", Share{Dir: "with space", Path: "/a b,c"}},
		{"nowhere", Share{Dir: "nowhere", Path: "/mnt/nowhere"}}, // the options' shares tell of it
		{"", Share{}},
		{":rw", Share{}},
		{":/work", Share{}},
		{"/", Share{Dir: "/", Path: "/mnt"}},
		{"src:/", Share{}},
		{"src:/..", Share{}},
		{"src:/proc/x", Share{}},
		{"src:/a/../run", Share{}},
		{"src:/a\nb", Share{}},
		{"src:/a\x80b", Share{}},
		{"src:/" + strings.Repeat("x", maxPlace), Share{}},
	} {
		got, err := ParseShare(c.text)
		if (err != nil) != (c.want.Path == "") {
			t.Errorf("%q: %v", c.text, err)
		}
		if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
			t.Errorf("%q: -want +got\n%s", c.text, diff)
		}
	}
}

func TestShares(t *testing.T) {
	dir := t.TempDir()
	real, link, file := filepath.Join(dir, "real"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := os.Mkdir(real, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := resolve([]Share{{Dir: link, Path: "/mnt/a", Write: true}})
	if want := []Share{{Dir: real, Path: "/mnt/a", Write: true}}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range [][]Share{
		{{Dir: file, Path: "/mnt/a"}},
		{{Dir: filepath.Join(dir, "none"), Path: "/mnt/a"}},
		{{Dir: real, Path: "/mnt/a"}, {Dir: dir, Path: "/mnt/a"}},
	} {
		if _, err := resolve(bad); err == nil || !strings.HasPrefix(err.Error(), "share ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

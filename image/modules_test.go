package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func opened(entries ...tar.Header) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			h.Format = tar.FormatPAX
			if err := w.WriteHeader(&h); err != nil {
				return nil, err
			}
			if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
				return nil, err
			}
		}
		return io.NopCloser(&b), w.Close()
	}
}

func TestWithModules(t *testing.T) {
	epoch := time.Unix(1700000000, 0)
	dir := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}
	}
	file := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 3, Mode: 0o664, Uid: 1000, ModTime: time.Unix(5, 0)}
	}
	ko := []tar.Header{dir("lib/modules"), dir("lib/modules/6.1"), file("lib/modules/6.1/a.ko")}
	tests := []struct {
		name    string
		tree    []tar.Header
		modules []tar.Header
		want    string // names, or the error
	}{
		{"merged", []tar.Header{dir("."), {Typeflag: tar.TypeSymlink, Name: "lib", Linkname: "usr/lib"}, dir("usr"),
			dir("usr/lib")}, ko,
			". lib usr usr/lib usr/lib/modules usr/lib/modules/6.1 usr/lib/modules/6.1/a.ko"},
		{"not merged", []tar.Header{dir("lib"), dir("lib/modules")}, ko,
			"lib lib/modules lib/modules/6.1 lib/modules/6.1/a.ko"},
		{"no parents", nil, ko[2:], "lib lib/modules lib/modules/6.1 lib/modules/6.1/a.ko"},
		{"elsewhere", nil, []tar.Header{file("etc/passwd")},
			`add the modules: "etc/passwd" is not a file of lib/modules`},
		{"out of it", nil, []tar.Header{file("lib/modules/../../etc/x")}, ""},
		{"a device", nil, []tar.Header{{Typeflag: tar.TypeChar, Name: "lib/modules/x"}},
			`add the modules: "lib/modules/x" is not a file of lib/modules`},
		{"twice", nil, []tar.Header{file("lib/modules/x"), file("lib/modules/x")},
			`add the modules: the tree has "lib/modules/x" already`},
		{"a strange /lib", []tar.Header{{Typeflag: tar.TypeSymlink, Name: "lib", Linkname: "/etc"}}, ko,
			`add the modules: /lib is a link to "etc"`},
	}
	for _, tt := range tests {
		r, err := WithModules(opened(tt.tree...), opened(tt.modules...), epoch)()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		err = eachEntry(r, func(name string, h *tar.Header, _ io.Reader) error {
			names = append(names, name)
			if strings.HasSuffix(name, ".ko") && (h.Uid != 0 || !h.ModTime.Equal(epoch) || h.Mode != 0o644) {
				t.Errorf("%s: %s: owner %d, mode %o, time %s", tt.name, name, h.Uid, h.Mode, h.ModTime)
			}
			return nil
		})
		r.Close()
		if tt.want == "" && err == nil {
			t.Errorf("%s: accepted as %v", tt.name, names)
		} else if got := strings.Join(names, " "); tt.want != "" && got != tt.want && fmt.Sprint(err) != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	// A reader that leaves early does not leave a writer behind.
	r, err := WithModules(opened(dir("lib")), opened(ko...), epoch)()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(cmp.Diff(nil, err))
	}
}

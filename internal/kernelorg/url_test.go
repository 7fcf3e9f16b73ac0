package kernelorg

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/pgp/pgptest"
	"github.com/kimg/kimg/internal/units"
)

func TestFetchURL(t *testing.T) {
	k := testKeys()
	for name, c := range map[string]struct {
		file, beside string
		data, sig    []byte
		tar          bool
	}{
		"as kernel.org signs": {"linux-5.0.tar.xz", "linux-5.0.tar.sign", xzOf(t, "5.0"),
			pgptest.Detached(t, tarOf("5.0"), k.tar), true},
		"the file, .asc": {"linux-5.0.tar.gz", "linux-5.0.tar.gz.asc", gzOf("5.0"),
			pgptest.Detached(t, gzOf("5.0"), k.tar), false},
		"the file, .sign": {"l.tar.zst", "l.tar.zst.sign", zstOf(t, "5.0"),
			pgptest.Detached(t, zstOf(t, "5.0"), k.tar), false},
		"the tar, .asc": {"l.tar.zst", "l.tar.zst.asc", zstOf(t, "5.0"),
			pgptest.Detached(t, tarOf("5.0"), k.tar), true},
	} {
		s := newSite(t)
		s.files["/x/"+c.file], s.files["/x/"+c.beside] = c.data, c.sig
		s.cut = 400_000 // each time, so that it has to go on twice
		cl := s.client(t)
		got, err := cl.FetchURL(t.Context(), s.URL+"/x/"+c.file, "")
		if err != nil || got.Unsigned || got.SHA256 != units.DigestOf(c.data) || len(got.TarSignedBy) > 0 != c.tar ||
			len(got.SignedBy) > 0 == c.tar {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		if err := cl.Store.Verify(got.SHA256); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFetchURLFromTheMirror has a pinned file whose own server is gone.
func TestFetchURLFromTheMirror(t *testing.T) {
	s, gone := newSite(t), newSite(t)
	gone.Close()
	cl := s.client(t)
	cl.Base = s.URL
	url, want := gone.URL+"/pub/linux/kernel/v5.x/linux-5.0.tar.xz", units.DigestOf(xzOf(t, "5.0"))
	s.files["/pub/linux/kernel/v5.x/linux-5.0.tar.xz"] = xzOf(t, "4.20.6")
	if _, err := cl.FetchURL(t.Context(), url, want); err == nil {
		t.Fatal("the mirror's other file was taken")
	}
	s.files["/pub/linux/kernel/v5.x/linux-5.0.tar.xz"] = xzOf(t, "5.0")
	got, err := cl.FetchURL(t.Context(), url, want)
	if err != nil || got.URL != url || cl.Store.Verify(want) != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFetchURLRefuses(t *testing.T) {
	k := testKeys()
	data := gzOf("5.0")
	for name, c := range map[string]struct {
		data, sig []byte
		allowed   bool // with AllowUnsigned
		missing   bool
		says      string
	}{
		"unsigned":               {data, nil, true, false, "no signature beside it"},
		"a page for a signature": {data, []byte("<html>"), true, false, "no signature beside it"},
		"a stranger's":           {data, pgptest.Detached(t, data, k.stranger), true, false, "may not sign it"},
		"tampered":               {changed(data), pgptest.Detached(t, data, k.tar), false, false, ""},
		"another file":           {gzOf("4.20.6"), pgptest.Detached(t, data, k.tar), false, false, "does not match"},
		"a page": {[]byte("<html>log in</html>"), pgptest.Detached(t, data, k.tar), false, false,
			"not an xz, gzip, bzip2 or zstd"},
		"an empty file": {[]byte{}, pgptest.Detached(t, data, k.tar), false, false,
			"not an xz, gzip, bzip2 or zstd"},
		"nothing": {nil, nil, false, true, "does not have it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if c.data != nil {
				s.files["/l.tar.gz"] = c.data
			}
			if c.sig != nil {
				s.files["/l.tar.gz.asc"] = c.sig
			}
			cl := s.client(t)
			_, err := cl.FetchURL(t.Context(), s.URL+"/l.tar.gz", "")
			var untrusted *UntrustedError
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), s.URL) ||
				errors.As(err, &untrusted) == c.missing || errors.Is(err, fs.ErrNotExist) != c.missing {
				t.Errorf("%v, want %q", err, c.says)
			}
			mustKeepNothing(t, cl)
			cl.AllowUnsigned = true
			got, err := cl.FetchURL(t.Context(), s.URL+"/l.tar.gz", "")
			if (err == nil) != c.allowed || c.allowed &&
				(!got.Unsigned || got.Why == "" || cl.Store.Verify(got.SHA256) != nil) {
				t.Errorf("allowed unsigned: %+v, %v", got, err)
			}
			if !c.allowed {
				mustKeepNothing(t, cl)
			}
		})
	}
}

func TestFetchURLOfAKnownDigest(t *testing.T) {
	s := newSite(t)
	s.files["/l.tar.gz"] = gzOf("5.0")
	cl := s.client(t)
	want := units.DigestOf(gzOf("5.0"))
	got, err := cl.FetchURL(t.Context(), s.URL+"/l.tar.gz", want)
	if err != nil || !got.Pinned || got.SHA256 != want {
		t.Errorf("%+v, %v", got, err)
	}
	s.Close()
	if _, err := cl.FetchURL(t.Context(), s.URL+"/l.tar.gz", want); err != nil {
		t.Errorf("from the store: %v", err)
	}
	other := newSite(t)
	other.files["/l.tar.gz"] = changed(gzOf("5.0"))
	fresh := other.client(t)
	var untrusted *UntrustedError
	if _, err := fresh.FetchURL(t.Context(), other.URL+"/l.tar.gz", want); !errors.As(err, &untrusted) {
		t.Errorf("tampered: %v", err)
	}
	mustKeepNothing(t, fresh)
}

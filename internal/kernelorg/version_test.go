package kernelorg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/pgp/pgptest"
	"github.com/kimg/kimg/internal/units"
)

// changed is b with one bit turned.
func changed(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func TestFetch(t *testing.T) {
	s := newSite(t)
	s.add(t, "/pub/linux/kernel/v5.x/testing/", "5.0-rc3")
	s.add(t, "/pub/linux/kernel/v6.x/", "6.12")
	s.add(t, "/pub/linux/kernel/v2.6/", "2.6.32.61")
	s.add(t, "/elsewhere/kernel/v4.x/", "4.20.6")
	for _, c := range []struct{ base, version, path string }{
		{"", "4.20.6", v4x + "linux-4.20.6.tar.xz"},
		{"/", "4.20.6", v4x + "linux-4.20.6.tar.xz"},
		{"/pub/linux/kernel", "4.20.6", v4x + "linux-4.20.6.tar.xz"},
		{"/pub/linux/kernel/", "4.20.6", v4x + "linux-4.20.6.tar.xz"},
		{"/elsewhere/kernel", "4.20.6", "/elsewhere/kernel/v4.x/linux-4.20.6.tar.xz"},
		{"", "6.12.0", "/pub/linux/kernel/v6.x/linux-6.12.tar.xz"},
		{"", "5.0-rc3", "/pub/linux/kernel/v5.x/testing/linux-5.0-rc3.tar.xz"},
		{"", "2.6.32.61", "/pub/linux/kernel/v2.6/linux-2.6.32.61.tar.xz"},
	} {
		cl := s.client(t)
		cl.Base, cl.VerifyTar = s.URL+c.base, true
		got, err := cl.Fetch(t.Context(), version(t, c.version))
		if err != nil {
			t.Errorf("%s of %q: %v", c.version, c.base, err)
			continue
		}
		if got.URL != s.URL+c.path || got.Unsigned ||
			!slices.Equal(got.SignedBy, ring(testKeys().sums).Fingerprints()) ||
			!slices.Equal(got.TarSignedBy, cl.Keys.Tar.Fingerprints()) {
			t.Errorf("%s of %q: %+v", c.version, c.base, got)
		}
		if err := cl.Store.Verify(got.SHA256); err != nil {
			t.Errorf("%s of %q: %v", c.version, c.base, err)
		}
	}
}

func TestNewest(t *testing.T) {
	s := newSite(t)
	list := listOf(t, "4.20", "4.20.9", "4.20.17", "4.19.325")
	s.files[v4x+"sha256sums.asc"] = pgptest.Clear(t, list, testKeys().sums)
	cl := s.client(t)
	for series, want := range map[string]string{"4.20": "4.20.17", "4.19": "4.19.325", "4.18": ""} {
		got, err := cl.Newest(t.Context(), version(t, series))
		var none *NotFoundError
		if want == "" && !errors.As(err, &none) || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%s.y: %s, %v, want %s", series, got, err, want)
		}
	}
	s.files[v4x+"sha256sums.asc"] = pgptest.Clear(t, listOf(t, "4.20.99"), testKeys().stranger)
	var refused *UntrustedError
	if _, err := cl.Newest(t.Context(), version(t, "4.20")); !errors.As(err, &refused) {
		t.Errorf("a stranger's list: %v", err)
	}
	delete(s.files, v4x+"sha256sums.asc")
	_, err := cl.Newest(t.Context(), version(t, "4.20"))
	if err == nil || !strings.Contains(err.Error(), "no list of versions") {
		t.Errorf("no list: %v", err)
	}
}

// TestFetchOfGzip has a mirror that keeps only the other compression.
func TestFetchOfGzip(t *testing.T) {
	s := newSite(t)
	dir := "/pub/linux/kernel/v5.x/"
	s.files[dir+"linux-5.0.tar.gz"] = gzOf("5.0")
	s.files[dir+"linux-5.0.tar.sign"] = pgptest.Detached(t, tarOf("5.0"), testKeys().tar)
	s.files[dir+"sha256sums.asc"] = pgptest.Clear(t,
		fmt.Sprintf("%s  linux-5.0.tar.gz\n", units.DigestOf(gzOf("5.0"))), testKeys().sums)
	cl := s.client(t)
	cl.VerifyTar = true
	got, err := cl.Fetch(t.Context(), version(t, "5.0"))
	if err != nil || got.URL != s.URL+dir+"linux-5.0.tar.gz" || len(got.TarSignedBy) == 0 ||
		cl.Store.Verify(got.SHA256) != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFetchRefuses(t *testing.T) {
	k := testKeys()
	sums, tarball, sign := v4x+"sha256sums.asc", v4x+"linux-4.20.6.tar.xz", v4x+"linux-4.20.6.tar.sign"
	list := listOf(t, "4.20.6", "4.20.17")
	type how int
	const (
		untrusted how = iota // refused, also with AllowUnsigned
		unvouched            // refused, but for AllowUnsigned
		notFound
	)
	put := func(file string, b []byte) func(*site) { return func(s *site) { s.files[file] = b } }
	edit := func(file string, change func([]byte) []byte) func(*site) {
		return func(s *site) { s.files[file] = change(s.files[file]) }
	}
	drop := func(file string) func(*site) { return func(s *site) { delete(s.files, file) } }
	for name, c := range map[string]struct {
		version string
		set     func(*site)
		how     how
		says    string
	}{
		"tampered list": {"", edit(sums, func(b []byte) []byte {
			return bytes.Replace(b, []byte("linux-4.20.6."), []byte("linux-4.20.9."), 1)
		}), untrusted, "does not match"},
		"cut list": {"", edit(sums, func(b []byte) []byte { return b[:200] }), untrusted, "cut off"},
		"text behind the list": {"", edit(sums, func(b []byte) []byte { return append(bytes.Clone(b), "x\n"...) }),
			untrusted, "behind its signature"},
		"a list that is a page":   {"", put(sums, []byte("<html>log in</html>")), untrusted, ""},
		"a list of nothing":       {"", put(sums, pgptest.Clear(t, "\n", k.sums)), untrusted, "lists nothing"},
		"a list by the tar's key": {"", put(sums, pgptest.Clear(t, list, k.tar)), unvouched, "may not sign it"},
		"a stranger's list":       {"", put(sums, pgptest.Clear(t, list, k.stranger)), unvouched, "may not sign it"},
		"a list by an old key":    {"", put(sums, pgptest.Clear(t, list, k.old)), unvouched, "has expired"},
		"an unsigned list":        {"", put(sums, []byte(list)), unvouched, "does not begin as"},
		"no list":                 {"", drop(sums), unvouched, "no sha256sums.asc"},
		"a list from the future": {"", put(sums, pgptest.ClearAt(t, list, pgptest.Today.Add(time.Hour), k.sums)),
			untrusted, "clock"},
		"tampered tarball":         {"", edit(tarball, changed), untrusted, "and should be"},
		"a tarball that is a page": {"", put(tarball, []byte("<html>log in</html>")), untrusted, "and should be"},
		"truncated tarball": {"", edit(tarball, func(b []byte) []byte { return b[:9999] }), untrusted,
			"and should be"},
		"another version's": {"", put(tarball, xzOf(t, "4.20.17")), untrusted, "and should be"},
		"no tarball":        {"", drop(tarball), notFound, "does not have it"},
		"a bad signature": {"", put(sign, pgptest.Detached(t, tarOf("4.20.17"), k.tar)), untrusted,
			"does not match"},
		"of the packed file": {"", put(sign, pgptest.Detached(t, xzOf(t, "4.20.6"), k.tar)),
			untrusted, "does not match"},
		"a cut signature": {"", edit(sign, func(b []byte) []byte { return b[:100] }), untrusted,
			"cannot be read"},
		"a stranger's signature": {"", put(sign, pgptest.Detached(t, tarOf("4.20.6"), k.stranger)), unvouched,
			"may not sign it"},
		"by the list's key": {"", put(sign, pgptest.Detached(t, tarOf("4.20.6"), k.sums)), unvouched,
			"may not sign it"},
		"no signature":           {"", drop(sign), unvouched, "linux-4.20.6.tar.sign"},
		"a page for a signature": {"", put(sign, []byte("<html>")), unvouched, "does not begin as"},
		"no such patch level":    {"4.20.99", nil, notFound, "the newest 4.20.y listed is 4.20.17"},
		"no such minor":          {"4.21", nil, notFound, "no 4.21.y is listed, the newest of all is 4.20.17"},
		"no such major":          {"9.1", nil, notFound, "no such version"},
		"a release candidate":    {"5.0-rc3", nil, notFound, "only as snapshots made by git"},
		"somebody's version":     {"4.20.6-acme", nil, notFound, `end in "-acme"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, good := newSite(t), newSite(t)
			if c.set != nil {
				c.set(s)
			}
			if c.version == "" {
				c.version = "4.20.6"
			}
			cl := s.client(t)
			cl.VerifyTar = true
			for _, cl.AllowUnsigned = range []bool{false, true} {
				got, err := cl.Fetch(t.Context(), version(t, c.version))
				if cl.AllowUnsigned && c.how == unvouched {
					if err != nil || !got.Unsigned || !strings.Contains(got.Why, s.URL) ||
						cl.Store.Verify(got.SHA256) != nil {
						t.Errorf("allowed unsigned: %+v, %v", got, err)
					}
					continue
				}
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("allow unsigned %v: %+v, %v; want %q", cl.AllowUnsigned, got, err, c.says)
				}
				if errors.Is(err, fs.ErrNotExist) != (c.how == notFound) {
					t.Errorf("errors.Is(fs.ErrNotExist) is wrong for %v", err)
				}
				var hint interface{ Hint() string }
				if !errors.As(err, &hint) || hint.Hint() == "" {
					t.Errorf("no hint for: %v", err)
				}
				if !strings.Contains(err.Error(), s.URL) && c.version != "4.20.6-acme" {
					t.Errorf("the error does not name the URL: %v", err)
				}
			}
			fresh := s.client(t) // without VerifyTar, so that a good list decides
			if _, err := fresh.Fetch(t.Context(), version(t, c.version)); err != nil {
				mustKeepNothing(t, fresh)
			}
			cl.Base, cl.AllowUnsigned = good.URL, false
			if got, err := cl.Fetch(t.Context(), version(t, "4.20.6")); err != nil || got.Unsigned {
				t.Errorf("from a good mirror then: %+v, %v", got, err)
			}
		})
	}
}

func TestFetchResumes(t *testing.T) {
	s := newSite(t)
	s.cut = 150_000
	cl := s.client(t)
	cl.HTTP.Retries = -1
	if _, err := cl.Fetch(t.Context(), version(t, "4.20.6")); err == nil {
		t.Fatal("a cut download succeeded")
	}
	s.cut = 0
	if _, err := cl.Fetch(t.Context(), version(t, "4.20.6")); err != nil {
		t.Fatal(err)
	}
	if len(s.ranges) == 0 {
		t.Error("nothing was resumed")
	}
}

func TestFetchWithoutRanges(t *testing.T) {
	s := newSite(t)
	s.cut, s.whole = 150_000, true
	cl := s.client(t)
	if _, err := cl.Fetch(t.Context(), version(t, "4.20.6")); err == nil {
		t.Fatal("a cut download succeeded")
	}
	s.cut = 0
	if got, err := cl.Fetch(t.Context(), version(t, "4.20.6")); err != nil ||
		got.SHA256 != units.DigestOf(xzOf(t, "4.20.6")) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFetchIsCancelled(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	cancel(stop)
	if _, err := s.client(t).Fetch(ctx, version(t, "4.20.6")); !errors.Is(err, stop) {
		t.Errorf("%v, want why it was cancelled", err)
	}
}

func TestMirrorsThatAreNone(t *testing.T) {
	for _, base := range []string{"ftp://host/pub", "/srv/mirror", "https://", "https://host/?x=1", "http://[::1",
		"cdn.kernel.org"} {
		c := newSite(t).client(t)
		c.Base = base
		if _, err := c.Fetch(t.Context(), version(t, "4.20.6")); err == nil ||
			!strings.Contains(err.Error(), "kernel mirror") {
			t.Errorf("%s: %v", base, err)
		}
	}
}

func TestServerThatIsDown(t *testing.T) {
	s := newSite(t)
	c := s.client(t)
	s.Close()
	_, err := c.Fetch(t.Context(), version(t, "4.20.6"))
	var down *DownError
	if !errors.As(err, &down) || !strings.Contains(err.Error(), s.URL) ||
		!strings.Contains(down.Hint(), "--kernel-mirror") {
		t.Errorf("%v: want an error of a server that is down", err)
	}
}

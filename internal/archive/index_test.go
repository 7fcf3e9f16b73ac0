package archive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/units"
)

func (m *mirror) index(t *testing.T, c *Client) (*Index, error) {
	t.Helper()
	rel, err := c.Release(context.Background(), trixie(t))
	if err != nil {
		t.Fatal(err)
	}
	return c.Index(context.Background(), rel, nil)
}

func TestIndex(t *testing.T) {
	m := newMirror(t)
	list := stanza("a 1", "Depends: b") + stanza("b 1") + stanza("b 2~rc1") + stanza("b 10") + stanza("b 9")
	m.publish(t, list)
	c := m.client(t)
	for range 2 { // the second time from the cache
		x, err := m.index(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := x.Lookup("b"); !ok || b.Version != "10" {
			t.Errorf("the newest b is %+v", b)
		}
		a, _ := x.Lookup("a")
		if want := (Package{Name: "a", Version: "1", Arch: "amd64", Depends: "b", Filename: "pool/a_1_amd64.deb",
			Size: int64(len(debOf("a", "1"))), SHA256: units.DigestOf(debOf("a", "1"))}); a != want {
			t.Errorf("a is %+v\nwant %+v", a, want)
		}
		if _, ok := x.Lookup("c"); ok {
			t.Error("there is a c")
		}
	}
	if n := m.countAsked("Packages.xz"); n != 1 {
		t.Errorf("the list was fetched %d times", n)
	}
}

func TestIndexByHash(t *testing.T) {
	m := newMirror(t)
	m.publish(t, stanza("a"), "Acquire-By-Hash: yes")
	old := m.files["/debian/"+packagesPath+".xz"]
	m.put("dists/trixie/main/binary-amd64/by-hash/SHA256/"+string(units.DigestOf(old)), old)
	m.put(packagesPath+".xz", packXZ(t, stanza("b"))) // the mirror is being updated
	if _, err := m.index(t, m.client(t)); err != nil {
		t.Error(err)
	}
}

func TestIndexRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		publish func(*mirror)
		says    string
	}{
		"another list": {func(m *mirror) {
			m.publish(t, stanza("a"))
			b := bytes.Clone(m.files["/debian/"+packagesPath+".xz"])
			b[len(b)/2] ^= 1
			m.put(packagesPath+".xz", b)
		}, "not the file that was asked for"},
		"a list cut off": {func(m *mirror) {
			m.publish(t, stanza("a"))
			m.put(packagesPath+".xz", m.files["/debian/"+packagesPath+".xz"][:20])
		}, "should be"},
		"no list": {func(m *mirror) {
			m.publish(t, stanza("a"))
			m.remove(packagesPath + ".xz")
		}, "404"},
		"a bomb": {func(m *mirror) {
			m.put(packagesPath+".xz", packXZ(t, strings.Repeat(stanza("a"), 1000)))
			m.put("dists/trixie/InRelease", signed(t, m.release(stanza("a")), m.key))
		}, "larger than"},
		"no archive": {func(m *mirror) {
			m.put(packagesPath+".xz", []byte("not xz at all, but signed"))
			m.put("dists/trixie/InRelease", signed(t, m.release(stanza("a")), m.key))
		}, "unpack main/binary-amd64/Packages.xz"},
		"none listed": {func(m *mirror) {
			text, _, _ := strings.Cut(m.release(""), "SHA256:")
			text += "SHA256:\n " + string(units.DigestOf(nil)) + " 0 main/Contents\n"
			m.put("dists/trixie/InRelease", signed(t, text, m.key))
		}, "lists no Packages"},
		"a bad stanza": {func(m *mirror) { m.publish(t, "Package: x\nVersion: 1\n") }, `package "x"`},
		"a way out": {func(m *mirror) { m.publish(t, stanza("x", "Filename: ../../etc/passwd")) },
			"not one below the archive"},
		"a long line": {func(m *mirror) {
			m.publish(t, stanza("x", "Depends: "+strings.Repeat("a, ", maxLine/3)))
		}, "a line of more than 1048576 bytes"},
		"a bad name": {func(m *mirror) { m.publish(t, stanza("-rf", "X: y")) }, "no name"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			c.publish(m)
			if _, err := m.index(t, m.client(t)); err == nil || !strings.Contains(err.Error(), c.says) ||
				!strings.Contains(err.Error(), "trixie/main") {
				t.Errorf("%v, want it to say %q", err, c.says)
			}
		})
	}
}

func TestIndexFromGzip(t *testing.T) {
	m := newMirror(t)
	m.put(packagesPath+".gz", packGZ(t, stanza("a")))
	m.put("dists/trixie/InRelease", signed(t, m.release(stanza("a")), m.key))
	x, err := m.index(t, m.client(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := x.Lookup("a"); !ok {
		t.Error("a is missing")
	}
}

func TestDamagedCacheIsReadAnew(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"a flipped bit": func(b []byte) []byte { b[len(b)-5] ^= 1; return b },
		"truncated":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":         func([]byte) []byte { return nil },
	} {
		m := newMirror(t)
		m.publish(t, stanza("a"))
		c := m.client(t)
		if _, err := m.index(t, c); err != nil {
			t.Fatal(err)
		}
		cached, _ := filepath.Glob(filepath.Join(c.Cache, "*"))
		if len(cached) != 1 {
			t.Fatalf("cached: %v", cached)
		}
		b, _ := os.ReadFile(cached[0])
		if err := os.WriteFile(cached[0], damage(b), 0o644); err != nil {
			t.Fatal(err)
		}
		x, err := m.index(t, c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if a, ok := x.Lookup("a"); !ok || a.SHA256 != units.DigestOf(debOf("a", "1")) {
			t.Errorf("%s: a is %+v", name, a)
		}
	}
}

// A list that was cached with other fields lacks what is read now.
func TestCacheOfOtherFields(t *testing.T) {
	name := filepath.Join(t.TempDir(), "list")
	writeCached(name, []byte(stanza("a")))
	if text, ok := readCached(name); !ok || text != stanza("a") {
		t.Fatalf("%q, %v", text, ok)
	}
	defer func(was string) { cacheMagic = was }(cacheMagic)
	if cacheMagic = strings.Replace(cacheMagic, " Breaks", "", 1); strings.Contains(cacheMagic, "Breaks") {
		t.Fatal("Breaks is still there")
	}
	if text, ok := readCached(name); ok {
		t.Errorf("a list with more fields is read: %q", text)
	}
}

func TestReduceKeepsWhatIsRead(t *testing.T) {
	list := stanza("a", "Depends: b,", "  c (>= 1),", "\td", "Conffiles: x", " y", "Essential: yes") + stanza("b") +
		"\n" + stanza("c")
	var small bytes.Buffer
	if err := reduce(&small, strings.NewReader(list)); err != nil {
		t.Fatal(err)
	}
	if small.Len() >= len(list) || strings.Contains(small.String(), "Maintainer") ||
		strings.Contains(small.String(), " y\n") {
		t.Errorf("it keeps what nobody reads:\n%s", &small)
	}
	want, err1 := parsePackages(list)
	got, err2 := parsePackages(small.String())
	if err := errors.Join(err1, err2); err != nil || len(got) != 3 {
		t.Fatalf("%d packages, %v", len(got), err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v\nwant %+v", got[i], want[i])
		}
	}
}

func FuzzParsePackages(f *testing.F) {
	f.Add(stanza("a", "Depends: b", " c") + stanza("b"))
	f.Add("Package: a\n\n\n\nVersion")
	f.Add("\n\n \n:\n")
	f.Fuzz(func(t *testing.T, list string) {
		packages, err := parsePackages(list)
		for _, p := range packages {
			if p.check() != nil {
				t.Errorf("it lets pass %+v", p)
			}
		}
		if err != nil || strings.ContainsAny(list, "\r\x00") {
			return
		}
		var small bytes.Buffer
		if err := reduce(&small, strings.NewReader(list)); err != nil {
			t.Fatal(err)
		}
		again, err := parsePackages(small.String())
		if err != nil || len(again) != len(packages) {
			t.Fatalf("reduced: %d packages of %d, %v\n%s", len(again), len(packages), err, &small)
		}
		newIndex(arch.AMD64, again).providers("x")
	})
}

// BenchmarkLoad reads a real list that was fetched before: KIMG_BENCH names a
// Packages file.
func BenchmarkLoad(b *testing.B) {
	name := os.Getenv("KIMG_BENCH")
	text, err := os.ReadFile(name)
	if err != nil {
		b.Skip("KIMG_BENCH names no Packages file")
	}
	var small bytes.Buffer
	if err := reduce(&small, bytes.NewReader(text)); err != nil {
		b.Fatal(err)
	}
	cached := filepath.Join(b.TempDir(), "list")
	writeCached(cached, small.Bytes())
	b.Run("reduce", func(b *testing.B) {
		for b.Loop() {
			var out bytes.Buffer
			if err := reduce(&out, bytes.NewReader(text)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			text, _ := readCached(cached)
			packages, err := parsePackages(text)
			if err != nil {
				b.Fatal(err)
			}
			newIndex(arch.AMD64, packages)
		}
	})
}

package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/deb/debtest"
)

// What makes packages.
type entry = debtest.Entry

var (
	dir, file, symlink                 = debtest.Dir, debtest.File, debtest.Symlink
	makeTar, makeDeb, arMember, stanza = debtest.Tar, debtest.Make, debtest.Member, debtest.Stanza
)

func pkg(t testing.TB, control string, data ...entry) *Package {
	t.Helper()
	u, err := Unpack(makeDeb(t, "", []entry{file("control", control)}, append([]entry{dir("./")}, data...)))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// lay lays one package.
func lay(w io.Writer, u *Package) error {
	return NewLayout(w, []string{"bin", "lib"}, time.Unix(1, 0), nil).Add(u)
}

func TestUnpackDebReadsEveryCompression(t *testing.T) {
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		b := makeDeb(t, suffix,
			[]entry{dir("./"), file("./control", stanza("x")), {Name: "./postinst", Body: "#!/bin/sh\n", Mode: 0o755}},
			[]entry{dir("./"), file("./hello", "hello")})
		u, err := Unpack(b)
		if err != nil {
			t.Fatalf("%q: %v", suffix, err)
		}
		if u.Field("package") != "x" || u.Field("Version") != "1.0-1" || u.Field("None") != "" {
			t.Errorf("%q: stanza %q", suffix, u.Stanza)
		}
		if len(u.Info) != 1 || u.Info[0].Mode != 0o755 || string(u.File("postinst")) != "#!/bin/sh\n" {
			t.Errorf("%q: info %+v", suffix, u.Info)
		}
		if h, err := tar.NewReader(bytes.NewReader(u.Data)).Next(); err != nil || h.Name != "./" {
			t.Errorf("%q: data begins with %v, %v", suffix, h, err)
		}
	}
}

func TestUnpackDebRefuses(t *testing.T) {
	control := []entry{file("./control", stanza("x"))}
	good := makeDeb(t, ".xz", control, []entry{file("./a", strings.Repeat("a", 5000))})
	withControl := func(e ...entry) []byte { return makeDeb(t, "", e, nil) }
	rename := func(b []byte, from, to string) []byte {
		return bytes.Replace(b, fmt.Appendf(nil, "%-16s", from), fmt.Appendf(nil, "%-16s", to), 1)
	}
	for _, test := range []struct {
		name string
		deb  []byte
		want string
	}{
		{"nothing", nil, "no Debian package"},
		{"text", []byte("<html>not found</html>"), "no Debian package"},
		{"another format", bytes.Replace(good, []byte("2.0\n"), []byte("9.0\n"), 1), `format "9.0" is not known`},
		{"an unknown compression", rename(good, "data.tar.xz", "data.tar.lzma"), `compression ".lzma" is not known`},
		{"a strange member", rename(good, "control.tar.xz", "mischief"),
			`found member "mischief" instead of control.tar`},
		{"a negative size", bytes.Replace(good, []byte("4         `"), []byte("-4        `"), 1), "damaged"},
		{"a cut", good[:len(good)-100], "unexpected EOF"},
		{"no data", good[:bytes.Index(good, []byte("data.tar"))], "no data.tar"},
		{"a damaged part", bytes.Replace(good, []byte("7zXZ"), []byte("7zXY"), 2), "control.tar.xz"},
		{"no control file", withControl(file("./postinst", "x")), "no control file with one stanza"},
		{"two stanzas", withControl(file("./control", stanza("x")+"\n"+stanza("y"))),
			"no control file with one stanza"},
		{"a control file elsewhere", withControl(file("./../control", stanza("x"))), "is no control file"},
		{"a control file twice", withControl(control[0], control[0]), "is no control file"},
		{"a control file that is a link", withControl(symlink("./control", "/etc/shadow")), "is no control file"},
		{"a control part that is huge", withControl(control[0], file("./x", strings.Repeat("x", maxControl))),
			"more than"},
	} {
		if _, err := Unpack(test.deb); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", test.name, err, test.want)
		}
	}
}

// 1 KiB of tar that says it is 8 EiB of zeros: a sparse file, as PAX spells it.
func TestSparseFilesAreRefused(t *testing.T) {
	records := ""
	for _, r := range []string{"GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=control",
		"GNU.sparse.size=9223372036854775807", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,0"} {
		k, v, _ := strings.Cut(r, "=")
		line := fmt.Sprintf(" %s=%s\n", k, v)
		n := len(line) + 2
		if n >= 100 || len(fmt.Sprint(n)) != 2 {
			t.Fatal("a record of another length")
		}
		records += fmt.Sprint(n) + line
	}
	sparse := makeTar(t, entry{Name: "PaxHeaders/control", Body: records}, file("control", ""))
	sparse[156] = tar.TypeXHeader
	fixChecksum(sparse[:512])
	if h, err := tar.NewReader(bytes.NewReader(sparse)).Next(); err != nil || h.Size != 9223372036854775807 {
		t.Fatalf("the test's own tar is wrong: %v, %v", h, err)
	}
	if err := (&Package{present: map[string]bool{}}).readControl(sparse); err == nil ||
		!strings.Contains(err.Error(), "is a sparse file") {
		t.Errorf("in the control part: %v", err)
	}
	u := pkg(t, stanza("hostile"))
	u.Data = sparse
	if err := lay(io.Discard, u); err == nil || !strings.Contains(err.Error(), "is a sparse file") {
		t.Errorf("in the data part: %v", err)
	}
}

// fixChecksum sets the checksum of a header that was changed.
func fixChecksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// A small file that unpacks to far more than any package is stopped early.
func TestUnpackDebStopsBombs(t *testing.T) {
	zeros := func(w io.Writer) {
		block := make([]byte, 1<<20)
		for range maxControl/len(block) + 2 {
			if _, err := w.Write(block); err != nil {
				t.Fatal(err)
			}
		}
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	zeros(w)
	w.Close()
	b := append([]byte(arMagic), arMember("debian-binary", []byte("2.0\n"))...)
	b = append(b, arMember("control.tar.gz", gz.Bytes())...)
	if _, err := Unpack(b); err == nil || !strings.Contains(err.Error(), "unpacks to more than") {
		t.Errorf("got %v", err)
	}
}

func FuzzUnpackDeb(f *testing.F) {
	control := []entry{file("./control", stanza("x")), file("./conffiles", "/etc/x\n")}
	data := []entry{dir("./"), dir("./etc/"), file("./etc/x", "x"), symlink("./bin", "usr/bin")}
	f.Add(makeDeb(f, "", control, data)) // what decompresses is fuzzed where it is made
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := Unpack(b)
		if err != nil {
			return
		}
		// Whatever is laid, it is a readable tar in which nothing leads out.
		var out bytes.Buffer
		if err := lay(&out, u); err != nil {
			return
		}
		for tr := tar.NewReader(&out); ; {
			h, err := tr.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := localPath(h.Name); err != nil || strings.HasPrefix(h.Name, "/") {
				t.Fatalf("laid %q", h.Name)
			}
		}
	})
}

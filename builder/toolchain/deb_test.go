package toolchain

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// entry is a file of a package made for a test.
type entry struct {
	name, link, body string
	typ              byte // 0: a file
	mode             int64
}

func dir(name string) entry        { return entry{name: name, typ: tar.TypeDir, mode: 0o755} }
func file(name, body string) entry { return entry{name: name, body: body, mode: 0o644} }
func symlink(name, to string) entry {
	return entry{name: name, link: to, typ: tar.TypeSymlink, mode: 0o777}
}
func hardlink(name, to string) entry {
	return entry{name: name, link: to, typ: tar.TypeLink, mode: 0o644}
}
func special(name string, t byte) entry { return entry{name: name, typ: t, mode: 0o644} }

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.typ == 0 {
			e.typ = tar.TypeReg
		}
		h := &tar.Header{Typeflag: e.typ, Name: e.name, Linkname: e.link, Mode: e.mode, Size: int64(len(e.body)),
			Uname: "builder"}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t testing.TB, suffix string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch suffix {
	case "":
		return b
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func arMember(name string, body []byte) []byte {
	b := fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(body))
	b = append(b, body...)
	if len(body)%2 == 1 {
		b = append(b, '\n')
	}
	return b
}

func stanza(name string, more ...string) string {
	return fmt.Sprintf("Package: %s\nVersion: 1.0-1\nArchitecture: amd64\n%sDescription: a test\n more of it\n",
		name, strings.Join(more, ""))
}

// makeDeb makes a package whose parts have the suffix of a compression.
func makeDeb(t testing.TB, suffix string, control []entry, data []entry) []byte {
	t.Helper()
	b := []byte(arMagic)
	b = append(b, arMember("debian-binary", []byte("2.0\n"))...)
	b = append(b, arMember("control.tar"+suffix, compress(t, suffix, makeTar(t, control...)))...)
	return append(b, arMember("data.tar"+suffix, compress(t, suffix, makeTar(t, data...)))...)
}

func TestUnpackDebReadsEveryCompression(t *testing.T) {
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		b := makeDeb(t, suffix,
			[]entry{dir("./"), file("./control", stanza("x")), {name: "./postinst", body: "#!/bin/sh\n", mode: 0o755}},
			[]entry{dir("./"), file("./hello", "hello")})
		u, err := unpackDeb(b)
		if err != nil {
			t.Fatalf("%q: %v", suffix, err)
		}
		if u.field("package") != "x" || u.field("Version") != "1.0-1" || u.field("None") != "" {
			t.Errorf("%q: stanza %q", suffix, u.stanza)
		}
		if len(u.info) != 1 || u.info[0].mode != 0o755 || string(u.file("postinst")) != "#!/bin/sh\n" {
			t.Errorf("%q: info %+v", suffix, u.info)
		}
		if h, err := tar.NewReader(bytes.NewReader(u.data)).Next(); err != nil || h.Name != "./" {
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
		{"nothing", nil, "not an ar archive"},
		{"text", []byte("<html>not found</html>"), "not an ar archive"},
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
		if _, err := unpackDeb(test.deb); err == nil || !strings.Contains(err.Error(), test.want) {
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
	sparse := makeTar(t, entry{name: "PaxHeaders/control", body: records}, file("control", ""))
	sparse[156] = tar.TypeXHeader
	fixChecksum(sparse[:512])
	if h, err := tar.NewReader(bytes.NewReader(sparse)).Next(); err != nil || h.Size != 9223372036854775807 {
		t.Fatalf("the test's own tar is wrong: %v, %v", h, err)
	}
	if err := (&unpacked{present: map[string]bool{}}).readControl(sparse); err == nil ||
		!strings.Contains(err.Error(), "is a sparse file") {
		t.Errorf("in the control part: %v", err)
	}
	u := pkg(t, stanza("hostile"), nil)
	u.data = sparse
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
	if _, err := unpackDeb(b); err == nil || !strings.Contains(err.Error(), "unpacks to more than") {
		t.Errorf("got %v", err)
	}
}

func FuzzUnpackDeb(f *testing.F) {
	control := []entry{file("./control", stanza("x")), file("./conffiles", "/etc/x\n")}
	data := []entry{dir("./"), dir("./etc/"), file("./etc/x", "x"), symlink("./bin", "usr/bin")}
	f.Add(makeDeb(f, "", control, data)) // what decompresses is fuzzed where it is made
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := unpackDeb(b)
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

func md5hex(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }

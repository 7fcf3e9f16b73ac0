package toolchain

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/deb"
	"github.com/kimg/kimg/internal/deb/debtest"
	"github.com/kimg/kimg/internal/steps/goldentest"
	"github.com/kimg/kimg/internal/units"
)

// What makes packages.
type entry = debtest.Entry

var (
	dir, file, symlink = debtest.Dir, debtest.File, debtest.Symlink
	hardlink, special  = debtest.Hardlink, debtest.Special
	makeDeb, stanza    = debtest.Make, debtest.Stanza
)

var testDate = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

// lay lays packages as layBase does.
func lay(w io.Writer, packages ...*deb.Package) error {
	return layBase(context.Background(), w, arch.Default, dropped, testDate, func() (*deb.Package, error) {
		if len(packages) == 0 {
			return nil, io.EOF
		}
		u := packages[0]
		packages = packages[1:]
		return u, nil
	})
}

func pkg(t testing.TB, control string, info []entry, data ...entry) *deb.Package {
	t.Helper()
	u, err := deb.Unpack(makeDeb(t, "", append([]entry{file("control", control)}, info...),
		append([]entry{dir("./")}, data...)))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// listing reads a tar into lines, and its files' contents into a map.
func listing(t *testing.T, b []byte) (lines []string, content map[string]string) {
	t.Helper()
	content = map[string]string{}
	seen := map[string]bool{}
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return lines, content
		}
		if err != nil {
			t.Fatal(err)
		}
		if seen[h.Name] {
			t.Errorf("%s is laid twice", h.Name)
		}
		seen[h.Name] = true
		if h.Uname != "" {
			t.Errorf("%s carries the user name %q of who built it", h.Name, h.Uname)
		}
		line := fmt.Sprintf("%04o %s", h.Mode, h.Name)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		lines = append(lines, line)
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		content[h.Name] = string(body)
	}
}

func TestLayBaseMergesUsr(t *testing.T) {
	old := pkg(t, stanza("old", "Multi-Arch: same\n"),
		[]entry{file("conffiles", "/etc/old.conf\n"), {Name: "postinst", Body: "#!/bin/sh\n", Mode: 0o755}},
		dir("./bin/"), entry{Name: "./bin/mawk", Body: "#!", Mode: 0o4755}, hardlink("./bin/nawk", "./bin/mawk"),
		dir("./lib64/"), symlink("./lib64/ld.so", "/lib/x/ld.so"),
		dir("./etc/"), file("./etc/old.conf", "old\n"),
		dir("./usr/"), dir("./usr/share/"), dir("./usr/share/doc/"), dir("./usr/share/doc/old/"),
		file("./usr/share/doc/old/copyright", "c"))
	// A base-files of today carries the links itself.
	files := pkg(t, stanza("base-files"), nil, symlink("./bin", "usr/bin"), symlink("./lib64", "usr/lib64"),
		dir("./usr/"), entry{Name: "./tmp/", Type: tar.TypeDir, Mode: 0o1777})
	var b bytes.Buffer
	if err := lay(&b, old, files); err != nil {
		t.Fatal(err)
	}
	lines, content := listing(t, b.Bytes())
	want := []string{
		"0755 usr/",
		"0755 usr/bin/", "0777 bin -> usr/bin", "0755 usr/lib/", "0777 lib -> usr/lib",
		"0755 usr/lib32/", "0777 lib32 -> usr/lib32", "0755 usr/lib64/", "0777 lib64 -> usr/lib64",
		"0755 usr/libx32/", "0777 libx32 -> usr/libx32", "0755 usr/sbin/", "0777 sbin -> usr/sbin",
		"4755 usr/bin/mawk", "0644 usr/bin/nawk -> usr/bin/mawk", "0777 usr/lib64/ld.so -> /lib/x/ld.so",
		"0755 etc/", "0644 etc/old.conf", "0755 usr/share/", "0755 usr/share/doc/",
		"0755 var/", "0755 var/lib/", "0755 var/lib/dpkg/", "0755 var/lib/dpkg/info/",
		"0644 var/lib/dpkg/info/old:amd64.list", "0644 var/lib/dpkg/info/old:amd64.conffiles",
		"0755 var/lib/dpkg/info/old:amd64.postinst",
		"1777 tmp/", "0644 var/lib/dpkg/info/base-files.list",
		"0644 var/lib/dpkg/status", "0644 var/lib/dpkg/available", "0644 var/lib/dpkg/info/format",
		"0755 etc/dpkg/", "0755 etc/dpkg/dpkg.cfg.d/", "0644 etc/dpkg/dpkg.cfg.d/kimg", "0777 usr/bin/awk -> mawk",
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("laid (-want +got):\n%s", d)
	}
	// dpkg knows the files by the names that the package gave them, the ones left out too.
	wantList := "/.\n/bin\n/bin/mawk\n/bin/nawk\n/lib64\n/lib64/ld.so\n/etc\n/etc/old.conf\n" +
		"/usr\n/usr/share\n/usr/share/doc\n/usr/share/doc/old\n/usr/share/doc/old/copyright\n"
	if d := cmp.Diff(wantList, content["var/lib/dpkg/info/old:amd64.list"]); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	wantStatus := stanza("old", "Multi-Arch: same\n") + "Status: install ok unpacked\nConffiles:\n /etc/old.conf " +
		md5hex("old\n") + "\n\n" +
		stanza("base-files") + "Status: install ok unpacked\n\n"
	if d := cmp.Diff(wantStatus, content["var/lib/dpkg/status"]); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
	if cfg := content["etc/dpkg/dpkg.cfg.d/kimg"]; !strings.Contains(cfg, "\nforce-unsafe-io\n") ||
		!strings.Contains(cfg, "\npath-exclude=/usr/share/doc/*\n") {
		t.Errorf("dpkg's configuration is %q", cfg)
	}
}

func TestLayBaseIsTheSameTwice(t *testing.T) {
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		a := pkg(t, stanza("a"), []entry{file("conffiles", "/etc/1\n/etc/2\n/etc/3\n")}, dir("./etc"),
			file("./etc/1", "1"), file("./etc/2", "2"), file("./etc/3", "3"))
		if err := lay(b, a); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two layings of one package differ")
	}
}

func TestLayBaseRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		data []entry
		want string
	}{
		{"a path that climbs", []entry{file("./../etc/passwd", "x")}, "is not a path inside a package"},
		{"a path that climbs from within", []entry{file("./usr/../../x", "x")}, "is not a path inside a package"},
		{"an absolute path", []entry{file("/etc/passwd", "x")}, "is not a path inside a package"},
		{"a path with a line break", []entry{file("./a\nb", "x")}, "is not a path inside a package"},
		{"a hard link that climbs", []entry{hardlink("./x", "../../etc/shadow")}, "is not a path inside a package"},
		{"a hard link to what is left out", []entry{hardlink("./x", "./usr/share/doc/y")}, "is left out"},
		{"a device", []entry{special("./dev/sda", tar.TypeBlock)}, "of a type"},
		{"a pipe", []entry{special("./pipe", tar.TypeFifo)}, "of a type"},
		{"a link in place of the merged /usr", []entry{symlink("./lib", "/home")},
			"would replace a link of the merged /usr"},
		{"a file in place of the merged /usr", []entry{file("./bin", "x")}, "would replace a link of the merged /usr"},
		{"a file twice", []entry{file("./bin/x", "x"), file("./usr/bin/x", "y")}, "is in package hostile too"},
		{"a file for a directory", []entry{dir("./a/"), file("./a", "y")}, "is a directory"},
		{"a directory for a file", []entry{file("./a", "y"), dir("./a/")}, "is in package hostile too"},
		{"a file behind a link", []entry{symlink("./a", "/etc"), file("./a/passwd", "y")}, "is in package hostile too"},
		{"dpkg's own database", []entry{file("./var/lib/dpkg/status", "y")}, "is in package hostile too"},
	} {
		err := lay(io.Discard, pkg(t, stanza("hostile"), nil, test.data...))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", test.name, err, test.want)
		}
	}
	for _, control := range []string{"Version: 1\nArchitecture: amd64\n", stanza("../x"), "Package: x\n"} {
		if err := lay(io.Discard, pkg(t, control, nil)); err == nil {
			t.Errorf("the control file %q passed", control)
		}
	}
}

func TestLayBaseStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stopped by the test")
	n := 0
	err := layBase(ctx, io.Discard, arch.Default, dropped, testDate, func() (*deb.Package, error) {
		if n++; n == 2 {
			cancel(stop)
		}
		return pkg(t, stanza(fmt.Sprint("p", n)), nil), nil
	})
	if !errors.Is(err, stop) || n != 2 {
		t.Errorf("got %v after %d packages", err, n)
	}
}

func TestMatchSlashes(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"/usr/share/doc/*", "/usr/share/doc/a/b", true},
		{"/usr/share/doc/*", "/usr/share/doc", false},
		{"/usr/bin/*lto-dump*", "/usr/bin/x86_64-linux-gnu-lto-dump-14", true},
		{"/usr/lib/*/libx.a", "/usr/lib/a/b/libx.a", true},
		{"/usr/lib/*/libx.a", "/usr/lib/a/libx.ab", false},
		{"/a*b*c", "/abbc", true},
		{"/a*b*c", "/acb", false},
		{"/exact", "/exact", true},
		{"/exact", "/exactly", false},
	} {
		if got := matchSlashes(test.pattern, test.s); got != test.want {
			t.Errorf("matchSlashes(%q, %q) = %v", test.pattern, test.s, got)
		}
	}
}

// What Go laid is what tar(1) reads.
func TestLayBaseIsReadByTar(t *testing.T) {
	bin, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("no tar here")
	}
	var b bytes.Buffer
	if err := lay(&b, pkg(t, stanza("x"), nil, file("./"+strings.Repeat("long/", 40)+"name", "x"))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-tf", "-")
	cmd.Stdin = &b
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "long/name\n") {
		t.Errorf("tar: %v\n%s", err, out)
	}
}

var update = flag.Bool("update", false, "write testdata/base.golden anew")

// The names of bases have baseVersion and not the code that makes them.
func TestBaseVersion(t *testing.T) {
	var out bytes.Buffer
	err := lay(&out,
		pkg(t, stanza("mawk", "Multi-Arch: same\n"), []entry{file("conffiles", "/etc/mawk.conf\n"),
			{Name: "postinst", Body: "#!/bin/sh\n", Mode: 0o755}},
			dir("./bin/"), entry{Name: "./bin/mawk", Body: "#!", Mode: 0o4755}, hardlink("./bin/nawk", "./bin/mawk"),
			dir("./etc/"), file("./etc/mawk.conf",
				"old\n"), dir("./usr/"), dir("./usr/share/"), dir("./usr/share/doc/"),
			file("./usr/share/doc/mawk", "left out")),
		pkg(t, stanza("base-files"), nil, symlink("./bin", "usr/bin"), dir("./etc/"), dir("./lib/"),
			file("./lib/x", "x")))
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, "testdata/base.golden", "baseVersion", baseVersion, string(units.DigestOf(out.Bytes())),
		*update)
}

func md5hex(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }

package kernel

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/archive"
)

const makefile612 = "# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 107\n" +
	"EXTRAVERSION =\nNAME = Baby Opossum Posse\n"

func TestParseMakefile(t *testing.T) {
	for _, c := range []struct{ text, want, err string }{
		{makefile612, "6.12.107", ""},
		{"VERSION = 5\nPATCHLEVEL = 0\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\n", "5.0-rc3", ""},
		{"VERSION=4\nPATCHLEVEL=20\nSUBLEVEL=6\nEXTRAVERSION=-mine\n", "4.20.6-mine", ""},
		{"VERSION = 6\nPATCHLEVEL = 1\n", "6.1", ""},
		{"VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 5\nEXTRAVERSION = -$(shell cat abi)\n", "6.1.5", ""},
		{"VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 5\nEXTRAVERSION = -rc2-$(FLAVOUR)\n", "6.1.5-rc2", ""},
		{"VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = $(S)\nEXTRAVERSION = ${X}\n", "6.1", ""},
		{"all:\n\techo hello\n", "", "not a kernel tree"},
		{"VERSION = 1.2\nPATCHLEVEL = 3\n", "", "not a kernel tree"},
		{"VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = x y\n", "", "parse kernel version"},
		{"", "", "not a kernel tree"},
	} {
		v, err := ParseMakefile(strings.NewReader(c.text))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want one with %q", c.text, err, c.err)
			}
			continue
		}
		if err != nil || v.String() != c.want {
			t.Errorf("%q: %v, %v, want %s", c.text, v, err, c.want)
		}
	}
}

func FuzzParseMakefile(f *testing.F) {
	f.Add(makefile612)
	f.Add("VERSION = 5\nPATCHLEVEL = 0\nEXTRAVERSION = -rc3 # no\n")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := ParseMakefile(strings.NewReader(text)); err == nil && v.Major > 255 {
			t.Errorf("read %v from %q", v, text)
		}
	})
}

func TestParseSource(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Chdir(dir)
	if err := os.Mkdir(filepath.Join(dir, "v6.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"linux.tar.xz", "linux.zip", "linux-6.1.tar"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		in   string
		want Source
		err  string
	}{
		{"", Source{Kind: Suite}, ""},
		{"suite", Source{Kind: Suite}, ""},
		{"suite:linux-source-5.10", Source{Kind: Suite, Package: "linux-source-5.10"}, ""},
		{"suite:../etc", Source{}, "want a source package, such as suite:"},
		{"4.20.6", Source{Kind: Release, Version: version(t, "4.20.6")}, ""},
		{"5.0-rc3", Source{Kind: Release, Version: version(t, "5.0-rc3")}, ""},
		{"v6.12", Source{Kind: Release, Version: version(t, "6.12")}, ""},
		{"linux-6.12.3", Source{Kind: Release, Version: version(t, "6.12.3")}, ""},
		{"v6.13-rc1", Source{Kind: Release, Version: version(t, "6.13-rc1")}, ""},
		{"6.12.y", Source{Kind: Release, Version: version(t, "6.12"), Series: true}, ""},
		{"linux-6.12.y", Source{Kind: Release, Version: version(t, "6.12"), Series: true}, ""},
		{"v6.12.y", Source{Kind: Release, Version: version(t, "6.12"), Series: true}, ""},
		{"linux-6.13-rc1", Source{Kind: Release, Version: version(t, "6.13-rc1")}, ""},
		{"v6.12.0", Source{Kind: Release, Version: version(t, "6.12")}, ""},
		{"~/linux-6.1.tar", Source{Kind: Tarball, Path: dir + "/linux-6.1.tar"}, ""},
		{"~/nothing", Source{}, `parse kernel "~/nothing": there is no such file or directory`},
		{"6.12.", Source{}, "neither a file, a directory, a version"},
		{"v", Source{}, "neither a file, a directory, a version"},
		{"v6.1", Source{Kind: Directory, Path: dir + "/v6.1"}, ""}, // what is there is meant
		{"linux-6.1.tar", Source{Kind: Tarball, Path: dir + "/linux-6.1.tar"}, ""},
		{"~/v6.1", Source{Kind: Directory, Path: dir + "/v6.1"}, ""},
		{"6.12.1.y", Source{}, "neither a file, a directory, a version"},
		{"6.12-rc1.y", Source{}, "neither a file, a directory, a version"},
		{"linux-next", Source{}, "neither a file, a directory, a version"},
		{dir, Source{Kind: Directory, Path: dir}, ""},
		{dir + "/linux.tar.xz", Source{Kind: Tarball, Path: dir + "/linux.tar.xz"}, ""},
		{dir + "/linux.zip", Source{}, "not the name of a tarball"},
		{dir + "/nothing", Source{}, "there is no such file or directory"},
		{"linux-6.11.tar.xz", Source{}, "there is no such file"},
		{dir + "/linux.tar.xz:../x", Source{}, `"../x" leads out of it`},
		{"https://kernel.org/linux.tar.xz", Source{Kind: URL, URL: "https://kernel.org/linux.tar.xz"}, ""},
		{"https://me:secret@kernel.org/linux.tar.xz", Source{},
			"me:xxxxx@kernel.org/linux.tar.xz\": the address has a name"},
		{"ftp://kernel.org/linux.tar.xz", Source{}, "want an http or https URL"},
		{"/dev/null", Source{}, "neither a directory nor a plain file"},
	} {
		got, err := ParseSource(c.in)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want one with %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v, want %+v", c.in, got, err, c.want)
		}
		if again, err := ParseSource(got.String()); err != nil || again != got {
			t.Errorf("%q: its String %q reads back as %+v, %v", c.in, got, again, err)
		}
	}
}

type packages map[string]archive.Package

func (p packages) Lookup(name string) (archive.Package, bool) { v, ok := p[name]; return v, ok }

func (p packages) Names() iter.Seq[string] { return maps.Keys(p) }

func TestFindPackage(t *testing.T) {
	list := packages{
		"linux-source":      {Name: "linux-source", Depends: "something, linux-source-6.12 (= 6.12.107-1)"},
		"linux-source-6.12": {Name: "linux-source-6.12", Version: "6.12.107-1"},
		"linux-source-6.1":  {Name: "linux-source-6.1", Version: "6.1.176-1"},
	}
	for _, c := range []struct{ pkg, want string }{
		{"", "linux-source-6.12"}, {"linux-source-6.1", "linux-source-6.1"}, {"linux-source-4.19", ""},
	} {
		p, err := FindPackage(list, Source{Kind: Suite, Package: c.pkg})
		if p.Name != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q: %q, %v", c.pkg, p.Name, err)
		}
	}
	want := "its archive has no package linux-source-4.19: it has suite:linux-source-6.1, suite:linux-source-6.12"
	if _, err := FindPackage(list, Source{Package: "linux-source-4.19"}); err == nil ||
		!strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := FindPackage(packages{}, Source{Kind: Suite}); err == nil {
		t.Error("found a package in an empty archive")
	}
	for in, want := range map[string]string{
		"6.12.107-1": "6.12.107", "5.15.0-119.129": "5.15.0", "7.1~rc3-1~exp1": "7.1-rc3",
		"2:6.1.1-1+b1": "6.1.1", "6.12.9+really-1": "6.12.9+really",
	} {
		v, err := PackageVersion(archive.Locked{Name: "linux-source", Version: in})
		if err != nil || v.Compare(version(t, want)) != 0 {
			t.Errorf("%s: %s, %v, want %s", in, v, err, want)
		}
	}
}

// tarGz makes a tarball of files, of links where a body begins with "->", and of
// hard links where it begins with "=>".
func tarGz(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range whole(files) {
		h := &tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1])), Typeflag: tar.TypeReg}
		if target, ok := strings.CutPrefix(f[1], "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if target, ok := strings.CutPrefix(f[1], "=>"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, target, 0
		}
		switch f[1] {
		case "device":
			h.Typeflag, h.Size = tar.TypeChar, 0
		case "fifo":
			h.Typeflag, h.Size = tar.TypeFifo, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			w.Write([]byte(f[1]))
		}
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

// whole puts what the top of a kernel's tree has beside each of the Makefiles.
func whole(files [][2]string) (all [][2]string) {
	for _, f := range files {
		if dir, ok := strings.CutSuffix(f[0], "Makefile"); ok && strings.Contains(f[1], "PATCHLEVEL") {
			all = append(all, [2]string{dir + "Kbuild", "#\n"}, [2]string{dir + "Kconfig", "config A\n\tbool \"a\"\n"})
		}
		all = append(all, f)
	}
	return all
}

// bent is a tarball with one bit in its middle turned over.
func bent(data []byte) []byte {
	data = bytes.Clone(data)
	data[20] ^= 0x10
	return data
}

func TestPinTarball(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	pin := func(name string, data []byte) (*Tree, error) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		src, err := ParseSource(file)
		if err != nil {
			t.Fatal(err)
		}
		return Pin(t.Context(), src, cache)
	}
	good := tarGz(t, [2]string{"linux-6/COPYING", "x"}, [2]string{"linux-6/Makefile", makefile612},
		[2]string{"linux-6/z", strings.Repeat("z", 1<<16)})
	tree, err := pin("a.tar.gz", good)
	if err != nil || tree.Version.String() != "6.12.107" || tree.strip != 1 {
		t.Fatalf("%+v, %v", tree, err)
	}
	again, err := pin("a.tar.gz", tarGz(t, [2]string{"Makefile", makefile612}, [2]string{"x/Makefile", "all:\n"}))
	if err != nil || again.strip != 0 || again.SHA256 == tree.SHA256 {
		t.Errorf("another tarball of the same name: %+v, %v", again, err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"short.tar.gz": {good[:30], "cut short"},
		"none.tar.gz":  {tarGz(t, [2]string{"hello/Makefile", "all:\n"}), "not a kernel tree"},
		"up.tar.gz": {tarGz(t, [2]string{"../../etc/passwd", "x"}, [2]string{"l/Makefile", makefile612}),
			`"../../etc/passwd" points out of the tree`},
		"root.tar.gz":   {tarGz(t, [2]string{"/etc/passwd", "x"}), `"/etc/passwd" points out of the tree`},
		"lies.tar.xz":   {good, "it begins as a .gz file does"},
		"empty.tar.zst": {nil, "not a kernel tree"},
		"lies.tar.bz2":  {good, "it begins as a .gz file does"},
		"lies.tar":      {good, "it begins as a .gz file does"},
		"lies.tar.zst":  {good, "it begins as a .gz file does"},
		"words.tar.gz":  {[]byte("no tarball at all\n"), `it begins with "no tarball at al"`},
		"bent.tar.gz":   {bent(good), "read tarball"},
	} {
		if _, err := pin(name, c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	_, err = Pin(t.Context(), Source{Kind: Release, Version: version(t, "4.20.6")}, cache)
	if err == nil || !strings.Contains(err.Error(), "not on this machine") {
		t.Errorf("a release that nobody fetched: error %v, want one that says so", err)
	}
}

// TestPinOneOfSeveral has archives of more than a kernel.
func TestPinOneOfSeveral(t *testing.T) {
	dir := t.TempDir()
	pin := func(name string, files ...[2]string) (*Tree, error) {
		file, at, _ := strings.Cut(name, ":")
		writeFile(t, filepath.Join(dir, file), string(tarGz(t, files...)))
		if at != "" {
			at = ":" + at
		}
		src, err := ParseSource(filepath.Join(dir, file) + at)
		if err != nil {
			t.Fatal(err)
		}
		return Pin(t.Context(), src, t.TempDir())
	}
	older := strings.Replace(makefile612, "= 12", "= 1", 1)
	lone := [2]string{"box/Makefile", "VERSION = 1\nPATCHLEVEL=36\n"} // another project's
	kernel := [2]string{"linux/Makefile", makefile612}
	for _, c := range []struct {
		name        string
		files       [][2]string
		want        string // the version and what is taken
		err, advice string
	}{
		{"a.tar.gz", [][2]string{kernel, {"linux/fs/open.c", "x"}}, "6.12.107 1 ", "", ""},
		{"a.tar.gz", [][2]string{kernel, {"tools/README", "x"}}, "6.12.107 1 linux", "", ""},
		{"a.tar.gz", [][2]string{{"tools/README", "x"}, {"./linux/Makefile", makefile612}}, "6.12.107 2 ./linux",
			"", ""},
		{"a.tar.gz", [][2]string{kernel, {"old/Makefile", older}}, "", "it holds several kernels: linux, old",
			"choose one: --kernel " + dir + "/a.tar.gz:linux"},
		{"a.tar.gz:old", [][2]string{kernel, {"old/Makefile", older}}, "6.1.107 1 old", "", ""},
		{"a.tar.gz:sdk/src/linux/", [][2]string{{"sdk/src/linux/Makefile", makefile612}}, "6.12.107 3 sdk/src/linux",
			"", ""},
		{"a.tar.gz", [][2]string{{"sdk/src/linux/Makefile", makefile612}}, "",
			"it has no kernel at its top, and has one deeper in it: sdk/src/linux",
			"choose one: --kernel " + dir + "/a.tar.gz:sdk/src/linux"},
		{"a.tar.gz:none", [][2]string{kernel}, "", "it has nothing in none: not a kernel tree", ""},
	} {
		tree, err := pin(c.name, c.files...)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %d %s", tree.Version, tree.strip, tree.only)
		}
		var source *SourceError
		if got != c.want || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) ||
			c.advice != "" && (!errors.As(err, &source) || source.Hint() != c.advice) {
			t.Errorf("%s: %q, %v, want %q, %s", c.name, got, err, c.want, c.err)
		}
	}
	// A Makefile alone, of whatever project, is no kernel; what follows it may be one.
	in, err := findTree(plainTar(t, lone, [2]string{"linux/Kconfig", "x"}, [2]string{"linux/Kbuild", "x"}, kernel),
		"", true)
	if err != nil || in.dir != "linux" || !in.beside {
		t.Errorf("%+v, %v", in, err)
	}
	if in, err := findTree(plainTar(t, lone), "", true); !errors.Is(err, errNoTree) {
		t.Errorf("%+v, %v", in, err)
	}
}

// TestFindLinkedTree has two trees of which one is hard links to the other, as cp -al makes it, after a global header.
func TestFindLinkedTree(t *testing.T) {
	const top = "VERSION = 6\nPATCHLEVEL = 12\n"
	files := []*tar.Header{{Name: "pax_global_header", Typeflag: tar.TypeXGlobalHeader,
		PAXRecords: map[string]string{"comment": "x"}}}
	for _, name := range topFiles {
		files = append(files, &tar.Header{Name: "one/" + name, Typeflag: tar.TypeReg, Size: int64(len(top))})
	}
	for _, name := range topFiles {
		files = append(files, &tar.Header{Name: "lab/" + name, Typeflag: tar.TypeLink, Linkname: "one/" + name})
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range files {
		err := w.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(w, top)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		"":    "it holds several kernels: one, lab",
		"lab": "lab/Makefile is a hard link to one/Makefile, which is not in that directory",
		"one": "",
	} {
		in, err := findTree(bytes.NewReader(b.Bytes()), dir, true)
		if want == "" && (err != nil || in.dir != dir) || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: %+v, %v, want %q", dir, in, err, want)
		}
	}
}

// TestNoSourceHints has names that mean something to people.
func TestNoSourceHints(t *testing.T) {
	for name, want := range map[string]string{
		"linux-source-6.12":   "did you mean suite:linux-source-6.12?",
		"6.12.x":              "did you mean 6.12.y?",
		"LINUX-6.12":          "did you mean 6.12?",
		"Mainline":            "name a version, such as 6.12",
		"bookworm":            "--suite bookworm",
		"6.12.90+deb13-amd64": "6.12.90 is kernel.org's",
		"6.8.0-45-generic":    "6.8.0 is kernel.org's",
		"trunk":               "",
	} {
		_, err := ParseSource(name)
		var own *noSourceError
		if !errors.As(err, &own) || want == "" && own.Hint() != "" || !strings.Contains(own.Hint(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestPinCutTar has a tar that ends between two members.
func TestPinCutTar(t *testing.T) {
	all, err := io.ReadAll(plainTar(t, [2]string{"linux/Kconfig", "x"}, [2]string{"linux/Kbuild", "x"},
		[2]string{"linux/Makefile", makefile612}, [2]string{"linux/z", "x"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		size int
		want string
	}{"whole.tar": {len(all), ""}, "between.tar": {len(all) - 2*512, "it is cut short"},
		"within.tar": {len(all) - 2*512 - 100, "it is cut short"}} {
		file := filepath.Join(t.TempDir(), name)
		writeFile(t, file, string(all[:c.size]))
		_, err := Pin(t.Context(), Source{Kind: Tarball, Path: file}, t.TempDir())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func plainTar(t *testing.T, files ...[2]string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestPinOtherProject has a directory with a Makefile that has a version, and is no kernel's.
func TestPinOtherProject(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "Makefile"), makefile612)
	for _, name := range []string{"Kconfig", "Kbuild", ""} {
		_, err := Pin(t.Context(), Source{Kind: Directory, Path: dir}, t.TempDir())
		if name == "" && err != nil || name != "" && (!errors.Is(err, errNoTree) ||
			!strings.Contains(err.Error(), "it has no "+name+": not a kernel tree")) {
			t.Errorf("without %s: %v", name, err)
		}
		writeFile(t, filepath.Join(dir, name+"x"[:1-min(1, len(name))]), "#\n")
	}
}

// TestPinPipe has a Makefile that nothing writes to.
func TestPinPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "Makefile"), 0o600); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := Pin(t.Context(), Source{Kind: Directory, Path: dir}, t.TempDir())
		failed <- err
	}()
	select {
	case err := <-failed:
		if err == nil || !strings.Contains(err.Error(), "a pipe") {
			t.Errorf("error %v, want one that says that it is a pipe", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for a writer")
	}
}

func TestPinDownload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sha256")
	writeFile(t, file, string(tarGz(t, [2]string{"l/Makefile", makefile612})))
	for _, url := range []string{"http://host/x/linux.tar.gz", "http://host/linux.tar.gz?token=1#part"} {
		tree, err := PinDownload(t.Context(), URL, url, file, t.TempDir())
		if err != nil || tree.Version.Major != 6 || tree.strip != 1 {
			t.Errorf("%s: %+v, %v", url, tree, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := PinDownload(ctx, URL, "http://host/linux.tar.gz", file, t.TempDir())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after Ctrl-C: %v", err)
	}
	was := maxTree
	maxTree = 1 << 10
	t.Cleanup(func() { maxTree = was })
	writeFile(t, file, string(tarGz(t, [2]string{"l/big", strings.Repeat("x", 1<<16)},
		[2]string{"l/Makefile", makefile612})))
	_, err = PinDownload(t.Context(), URL, "http://host/linux.tar.gz", file, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "unpacks to more than") {
		t.Errorf("a bomb: %v", err)
	}
}

func TestEscapes(t *testing.T) {
	for _, c := range []struct {
		name, target string
		out          bool
	}{
		{"a/b/l", "../../x", false}, {"a/b/l", "../../../x", true}, {"l", ".", false}, {"l", "./x", false},
		{"l", "..", true},
		{"a/l", "..", false}, {"a/l", "/a", true}, {"l", "s/../x", true}, {"a/b/l", "./../s/../..", true},
		{"l", "s/..x", false},
	} {
		if got := escapes(c.name, c.target); got != c.out {
			t.Errorf("escapes(%q, %q) = %v", c.name, c.target, got)
		}
	}
}

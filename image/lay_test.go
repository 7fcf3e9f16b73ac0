package image

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/deb/debtest"
	"github.com/kimg/kimg/internal/steps/goldentest"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// debs are packages by their digests.
type debs map[Digest][]byte

func (d debs) Open(of Digest) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(d[of])), nil
}

// add makes a package of a control file's fields, the names of scripts, triggers and files.
func (d debs) add(t *testing.T, name, fields, scripts, triggers string, files ...debtest.Entry) Package {
	t.Helper()
	control := []debtest.Entry{debtest.File("./control", debtest.Stanza(name, fields))}
	for _, s := range strings.Fields(scripts) {
		control = append(control, debtest.Entry{Name: "./" + s, Body: "#!/bin/sh\n", Mode: 0o755})
	}
	if triggers != "" {
		control = append(control, debtest.File("./triggers", triggers))
	}
	b := debtest.Make(t, ".gz", control, append([]debtest.Entry{debtest.Dir("./")}, files...))
	p := Package{Name: name, Version: "1.0-1", Arch: "amd64", SHA256: units.DigestOf(b), Size: int64(len(b))}
	d[p.SHA256] = b
	return p
}

// layExample lays one package of each kind.
func layExample(t *testing.T, of string) (_, _ []byte) {
	var required, base bytes.Buffer
	t.Helper()
	s, err := suite.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	bin := func(name string) []debtest.Entry {
		return []debtest.Entry{debtest.Dir("./bin/"), debtest.File("./bin/"+name, name)}
	}
	d := debs{}
	spec := RootfsSpec{Suite: s, Variant: Minbase, Epoch: epoch, Required: []Package{
		d.add(t, "libc6", "", "", "", debtest.Dir("./lib64/"), debtest.File("./lib64/ld.so", "elf")),
		d.add(t, "plain", "Multi-Arch: same\n", "", "activate-noawait ldconfig\n", bin("plain")...),
		d.add(t, "after", "", "postinst", "", bin("after")...),
		d.add(t, "before", "", "preinst postinst", "", bin("before")...),
		d.add(t, "listens", "", "", "interest-noawait /usr/share/heard # by it\n", bin("listens")...),
	}, Base: []Package{
		d.add(t, "data", "", "", "", debtest.Dir("./usr/"), debtest.Dir("./usr/share/"),
			debtest.Dir("./usr/share/data/"), debtest.Dir("./usr/share/data/empty/")),
		d.add(t, "heard", "", "", "", debtest.Dir("./usr/"), debtest.Dir("./usr/share/"),
			debtest.Dir("./usr/share/heard/"), debtest.File("./usr/share/heard/x", "x")),
		d.add(t, "script", "", "postinst", "", bin("script")...),
		d.add(t, "tells", "", "", "activate elsewhere\n", bin("tells")...),
		d.add(t, "also-plain", "Replaces: plain\n", "", "", bin("plain")...),
		d.add(t, "pre", "Depends: deep:any (>= 1) | none, gone\n", "", "", bin("pre")...),
		d.add(t, "deep", "", "", "", bin("deep")...),
		d.add(t, "wants", "Pre-Depends: pre (>= 1), libc6\n", "preinst", "", bin("wants")...),
	}}
	if err := layTree(t.Context(), &required, func() io.Writer { return &base }, d, spec); err != nil {
		t.Fatal(err)
	}
	return required.Bytes(), base.Bytes()
}

// TestLayTree has what dpkg is to install, and what is installed by laying it.
func TestLayTree(t *testing.T) {
	required, base := layExample(t, "trixie")
	last, content := entries(t, required)
	later, more := entries(t, base)
	for name := range later {
		if last[name] != nil {
			t.Errorf("%s is laid over what the required packages have made of it", name)
		}
	}
	maps.Copy(last, later)
	maps.Copy(content, more)
	for name, want := range map[string]string{
		"debootstrap/required":      "libc6\nbefore\nlistens\n",
		"debootstrap/base.packages": "heard\nscript\ntells\nalso-plain\nwants\n",
	} {
		if d := cmp.Diff(want, content[name]); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	for name, want := range map[string][]string{
		"debootstrap/required.status": {"plain unpacked", "after unpacked"},
		"debootstrap/base.status":     {"data unpacked", "pre installed", "deep installed"},
	} {
		var got []string
		for stanza := range strings.SplitSeq(strings.TrimSpace(content[name]), "\n\n") {
			p, _, _ := strings.Cut(strings.TrimPrefix(stanza, "Package: "), "\n")
			_, state, _ := strings.Cut(stanza, "Status: install ok ")
			got = append(got, p+" "+strings.TrimSpace(state))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	const file = "var/cache/apt/archives/script_1.0-1_amd64.deb"
	if !strings.Contains(content["debootstrap/all.debpaths"], "\nscript /"+file+"\n") ||
		!strings.HasPrefix(content[file], "!<arch>") {
		t.Errorf("debpaths: %s", content["debootstrap/all.debpaths"])
	}
	index := content["var/lib/apt/lists/kimg_dists_trixie_main_binary-amd64_Packages"]
	if strings.Contains(index, "Package: plain\n") || !strings.Contains(index, "\nFilename: "+file+"\n\n") {
		t.Errorf("the index: %s", index)
	}
	if b := content["var/cache/apt/archives/before_1.0-1_amd64.deb"]; !strings.Contains(b, "data.tar        ") {
		t.Error("what is unpacked here anyway is compressed for dpkg")
	}
	// The required packages' files are there, of the base only those that dpkg does not install.
	for name, want := range map[string]bool{
		"usr/bin/before": true, "usr/bin/plain": true, "usr/bin/script": false, "usr/bin/wants": false,
		"usr/share/heard/x": false, "usr/bin/deep": true, "var/lib/dpkg/info/plain:amd64.list": true,
		"var/lib/dpkg/info/before.list": false,
	} {
		if (last[name] != nil) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
	for name, want := range map[string]bool{
		"usr/bin/plain": false, "debootstrap/required.status": false, "debootstrap/debpaths": false,
		"usr/share/data/": true, "usr/bin/deep": true, "debootstrap/base.status": true,
		"debootstrap/all.debpaths": true,
	} {
		if (later[name] != nil) != want {
			t.Errorf("%s is in the base's tar: %v", name, !want)
		}
	}
	for name, want := range map[string]bool{
		"usr/bin/": true, "usr/share/data/": true, "usr/share/data/empty/": false,
	} {
		if got := last[name].ModTime.Equal(epoch); got != want {
			t.Errorf("%s is of %s", name, last[name].ModTime)
		}
	}
	// A link into /usr only where a package has something behind it.
	links := []string{}
	for n, h := range last {
		if h.Typeflag == tar.TypeSymlink {
			links = append(links, n+" "+h.Linkname)
		}
	}
	slices.Sort(links)
	if d := cmp.Diff([]string{"bin usr/bin", "lib64 usr/lib64"}, links); d != "" {
		t.Errorf("links (-want +got):\n%s", d)
	}
}

// A suite that keeps /bin has it.
func TestLayTreeUnmerged(t *testing.T) {
	required, _ := layExample(t, "bionic")
	for r := tar.NewReader(bytes.NewReader(required)); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "bin/plain" {
			return
		}
	}
}

func TestLayTreeRefuses(t *testing.T) {
	s := suite.All()[0]
	for _, p := range []Package{
		{Name: "../x", Version: "1", Arch: "amd64"}, {Name: "x", Version: "1/2", Arch: "amd64"},
		{Name: "x", Version: "1", Arch: "a d"},
	} {
		if err := layTree(t.Context(), io.Discard, nil, debs{}, RootfsSpec{Suite: s, Base: []Package{p}}); err == nil ||
			!strings.Contains(err.Error(), "is not a name, version or architecture") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestLayGolden: what is laid is in no key but by RootfsVersion.
func TestLayGolden(t *testing.T) {
	required, base := layExample(t, "trixie")
	goldentest.Check(t, "testdata/lay.golden", "image.RootfsVersion", RootfsVersion,
		string(units.DigestOf(slices.Concat(required, base))), *update)
}

// TestInMemory: a machine's memory is left to it where a tree would take more than a quarter of it.
func TestInMemory(t *testing.T) {
	spec := RootfsSpec{Required: []Package{{Size: 100 << 20}}, Base: []Package{{Size: 28 << 20}}}
	for memory, want := range map[int64]bool{0: false, 5<<30 - 1: false, 5 << 30: true, 64 << 30: true} {
		if limit, ok := inMemory(memory, spec); ok != want || limit != memory/4 {
			t.Errorf("%d: %d, %v", memory, limit, ok)
		}
	}
}

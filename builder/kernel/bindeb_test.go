package kernel

import (
	"archive/tar"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDebEnv(t *testing.T) {
	got := debEnv("6.12.9-kimg", time.Unix(1700000000, 0))
	for _, want := range []string{"KDEB_PKGVERSION=6.12.9-kimg-1", "SOURCE_DATE_EPOCH=1700000000",
		"DEB_RULES_REQUIRES_ROOT=no"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %q", want, got)
		}
	}
	if !strings.HasPrefix(got[0], "PATH="+toolsDir+":") {
		t.Errorf("the tools do not come first: %s", got[0])
	}
}

func TestDebTools(t *testing.T) {
	r, err := debToolsTar()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if names = append(names, h.Name); h.Mode != 0o755 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
	}
	want := []string{"bindeb/chown", "bindeb/dpkg-buildpackage", "bindeb/dpkg-deb", "bindeb/gzip"}
	if !slices.Equal(names, want) {
		t.Errorf("tools %q, want %q", names, want)
	}
}

// packingMakefile packs as old kernels do: by hand, with chown, with the time of day,
// with sums in an order of chance, with what lies about, and into the directory above.
const packingMakefile = fakeMakefile + `
release:
	mkdir -p $(O)/include/config && echo 6.12.1 > $(O)/include/config/kernel.release
	touch $(O)/include/config/$$(cksum < $(O)/.config | cut -d' ' -f1)
bindeb-pkg:
	cd $(O) && test ! -e debian && mkdir -p debian && echo amd64 > debian/arch
	cd $(O) && printf 'linux-upstream (%s) %s; urgency=low\n\n  * Custom.\n\n -- %s <%s>  %s\n' \
		"$$KDEB_PKGVERSION" "$$KDEB_CHANGELOG_DIST" "$$DEBFULLNAME" "$$DEBEMAIL" "$$(date -R)" > debian/changelog
	cd $(O) && printf 'Source: linux-upstream\nMaintainer: x <x@y>\n\n' > debian/control
	cd $(O) && printf 'Package: linux-image-6.12.1\nArchitecture: amd64\nDescription: x\n' >> debian/control
	printf 'binary:\n\t$$(MAKE) -f /kimg/src/Makefile intdeb-pkg\n' > $(O)/debian/rules
	cd $(O) && dpkg-buildpackage -r"fakeroot -u" -a$$(cat debian/arch) -b -nc -uc
intdeb-pkg:
	cd $(O) && mkdir -p debian/tree/DEBIAN debian/tree/boot && cp System.map vmlinux debian/tree/boot
	cd $(O) && cp -r include debian/tree && cp debian/changelog debian/tree/boot/changelog
	cd $(O) && gzip -9 debian/tree/boot/changelog
	cd $(O)/debian/tree && md5sum boot/* include/*/* | shuf > DEBIAN/md5sums
	cd $(O) && chown -R root:root debian/tree && dpkg-gencontrol -plinux-image-6.12.1 -Pdebian/tree
	cd $(O) && dpkg-deb --build debian/tree ..
`

func TestBinDeb(t *testing.T) {
	t.Parallel()
	f, dir := newFixtureIn(t, "trixie-deb"), fakeTree(t)
	writeFile(t, dir+"/Makefile", packingMakefile)
	const name = "targets/linux-image-6.12.1_6.12.1-1_amd64.deb"
	var first string
	for i := range 3 {
		j := f.job(f.pin(dir))
		if i == 1 { // with another configuration, whose traces must not stay
			j = f.job(f.pin(dir), "B=y")
		}
		j.Targets = []string{"release", BinDeb}
		got, said, err := f.build(j)
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(said.log, "\n"))
		}
		var packages []string
		for n := range got {
			if strings.HasPrefix(n, TargetsDir+"/") {
				packages = append(packages, n)
			}
		}
		if !slices.Equal(packages, []string{name}) || !strings.HasPrefix(got[name], "!<arch>\ndebian-binary") {
			t.Fatalf("packages %q", packages)
		}
		if i == 0 {
			first = got[name]
		}
		if same := got[name] == first; same != (i != 1) {
			t.Errorf("package %d is as the first one: %v", i, same)
		}
	}
}

package kernel

import "testing"

func TestCheckTarget(t *testing.T) {
	for _, good := range []string{"fs/open.i", "modules", "vmlinux", "drivers/net/dummy.ko", "W1-x",
		"arch/x86/boot/compressed/head_64.o", "bindeb-pkg"} {
		if err := CheckTarget(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "-B", "A=b", "a b", "/etc/passwd", "../x", "fs/../../x", "deb-pkg",
		"srcdeb-pkg", "binrpm-pkg", "headers_install", "clean", "menuconfig", "a;b"} {
		if CheckTarget(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestBuildTargets(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	writeFile(t, dir+"/Makefile", fakeMakefile+`
fs/open.i:
	mkdir -p $(O)/fs && echo preprocessed > $(O)/fs/open.i
quiet:
	@echo only said
broken:
	@echo '*** no rule'; exit 2
`)
	j := f.job(f.pin(dir))
	j.Targets = []string{"fs/open.i", "quiet"}
	got, _, err := f.build(j)
	if err != nil {
		t.Fatal(err)
	}
	if got["targets/fs/open.i"] != "preprocessed\n" {
		t.Errorf("got %q", got)
	}
	j.Targets = []string{"broken"}
	if _, _, err := f.build(j); err == nil {
		t.Error("a target that fails is no error")
	}
}

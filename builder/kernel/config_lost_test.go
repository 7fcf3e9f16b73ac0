package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOfThisVersion(t *testing.T) {
	v := version(t, "6.1.176")
	for text, want := range map[string]bool{
		"CONFIG_A=y\n": true,
		"#\n# Linux/x86 6.1.176 Kernel Configuration\n#\n":                 true,
		"#\n# Linux/x86 6.1.192 Kernel Configuration\n#\n":                 false, // a stable release renames, too
		"#\n# Linux/x86 6.1.0 Kernel Configuration\n#\n":                   false,
		"#\n# Linux/x86 6.1.176-arch1 Kernel Configuration\n#\n":           false, // a distribution's, with its patches
		"#\n# Linux/x86_64 6.1.176-301.fc41.x86_64 Kernel Configuration\n": false,
	} {
		if got := ofThisVersion([]byte(text), v); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestLostWarning(t *testing.T) {
	lost := func(set string, by taker, of, why string) loss {
		r, err := ParseSet(set)
		if err != nil {
			t.Fatal(err)
		}
		return loss{Unmet: Unmet{Request: r, Got: "n", Why: why}, by: by, of: of, gone: by == byKernel && of == "gone"}
	}
	list := []loss{
		lost("FOO=y", byKernel, "gone", "no such symbol (did you mean FOOD?)"),
		lost("MODULE_SIG_SHA512=y", byKimg, "MODULE_SIG", "it depends on MODULE_SIG (which is n)"),
		lost("PREEMPT_RT=y", byKernel, "", "it depends on ARCH_SUPPORTS_RT (which is n)"),
		lost("MODULE_SIG=y", byKimg, "MODULE_SIG", ""),
		lost("DRM_I915=m", byRequest, "DRM", "it depends on DRM (which is n)"),
		lost("DRM_AST=m", byRequest, "DRM", "it depends on DRM (which is n)"),
		lost("SYSTEM_TRUSTED_KEYS=debian/certs/x.pem", byKimg, "SYSTEM_TRUSTED_KEYS", ""),
		lost("GCC_PLUGIN_X=y", byCompiler, "", ""),
		lost("BAR=y", byKernel, "gone", "no such symbol"),
		lost("LOOSE=y", byNobody, "", "it depends on BUS (which is n); --set BUS=y turns that on"),
	}
	c := Config{Base: "my.config", File: []byte("# Linux/x86 6.1.192 Kernel Configuration\n")}
	v := dialect{KernelVersion: version(t, "6.1.176")}
	got := lostWarning(c, v, list, []Request{{"DRM", "n", "set DRM=n"}})
	want := `my.config, written by Linux 6.1.192, asks for 10 options that are not taken in Linux 6.1.176:
  LOOSE=y: by the kernel: it depends on BUS (which is n); --set BUS=y turns that on
  MODULE_SIG=y, MODULE_SIG_SHA512=y: by kimg, so that two builds are the same (MODULE_SIG: embeds a random key); ` +
		`--set MODULE_SIG=y to have it
  SYSTEM_TRUSTED_KEYS="debian/certs/x.pem": by kimg: a distribution's config names key files that are not in the ` +
		`tree; --set SYSTEM_TRUSTED_KEYS=FILE names one that is
  DRM_I915=m, DRM_AST=m: by DRM=n (set DRM=n)
  PREEMPT_RT=y: by the kernel: it depends on ARCH_SUPPORTS_RT (which is n)
  FOO=y (did you mean FOOD?), BAR=y: by the kernel: renamed or gone
  GCC_PLUGIN_X=y: by a test of the compiler, it seems`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Of hundreds of reasons those of the most options are told, and what kimg took.
func TestLostWarningIsShort(t *testing.T) {
	list := []loss{{Unmet: Unmet{Request: Request{Symbol: "MODULE_SIG", Value: "y"}}, by: byKimg, of: "MODULE_SIG"}}
	for i := range 100 {
		for range 1 + i%50 {
			r := Request{Symbol: fmt.Sprintf("S%d", len(list)), Value: "m"}
			list = append(list, loss{Unmet: Unmet{Request: r, Why: fmt.Sprintf("it depends on D%d", i)}})
		}
	}
	got := lostWarning(Config{Base: "my.config"}, dialect{KernelVersion: version(t, "6.12")}, list, nil)
	lines := strings.Split(got, "\n")
	if len(lines) != 1+shownReasons+2 || !strings.Contains(lines[1], " like them: by the kernel: it depends on D49") ||
		!strings.Contains(lines[6], "MODULE_SIG=y: by kimg") || lines[7] != fmt.Sprintf(
		"  and %d more: kimg config --diff lists them all", len(list)-1-shownReasons*shown) {
		t.Errorf("%d lines:\n%s", len(lines), got)
	}
}

// TestDialect has a stable release that took over a rename of a later version, and one that did not.
func TestDialect(t *testing.T) {
	for _, c := range []struct{ version, has, set, want string }{
		{"6.1", "", "CPU_MITIGATIONS=n", "SPECULATION_MITIGATIONS=n"},
		{"6.1.176", "CPU_MITIGATIONS", "CPU_MITIGATIONS=n", "CPU_MITIGATIONS=n"},
		{"6.1.176", "CPU_MITIGATIONS", "SPECULATION_MITIGATIONS=n", "CPU_MITIGATIONS=n"},
		{"6.12", "SPECULATION_MITIGATIONS", "CPU_MITIGATIONS=n", "SPECULATION_MITIGATIONS=n"},
		{"6.1.176", "CPU_MITIGATIONS", "MITIGATION_RETPOLINE=y", "RETPOLINE=y"},
	} {
		r, err := ParseSet(c.set)
		if err != nil {
			t.Fatal(err)
		}
		d := dialect{version(t, c.version), map[string]bool{c.has: true}}
		if got := translate(d, []Request{r}); len(got) != 1 || got[0].String() != c.want {
			t.Errorf("%s on %s that has %s: %s, want %s", c.set, c.version, c.has, got, c.want)
		}
	}
}

// TestBuildRenamed turns off a symbol by the name that only another version has.
func TestBuildRenamed(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	writeFile(t, dir+"/lib/Kconfig", "menuconfig SPECULATION_MITIGATIONS\n\tbool \"m\"\n")
	got, _, err := f.build(f.job(f.pin(dir), "CPU_MITIGATIONS=y"))
	if err != nil || got["config"] != "CONFIG_A=y\nCONFIG_GDB_SCRIPTS=y\nCONFIG_SPECULATION_MITIGATIONS=y\n" {
		t.Errorf("%q, %v", got["config"], err)
	}
}

// TestBuildNeeds asks for what a compile would look for in vain.
func TestBuildNeeds(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	writeFile(t, dir+"/certs/mine.pem", "a key\n")
	writeFile(t, dir+"/fw/a/b.bin", "firmware\n")
	for _, c := range []struct {
		sets      []string
		want, way string
	}{
		{[]string{"KERNEL_LZO=y"}, "KERNEL_LZO=y (asked by set KERNEL_LZO=y) wants lzop, which the toolchain's image " +
			"does not have", "take another one: --set KERNEL_GZIP=y, KERNEL_BZIP2=y, KERNEL_LZMA=y, KERNEL_XZ=y, " +
			"KERNEL_LZ4=y or KERNEL_ZSTD=y"},
		{[]string{"KERNEL_LZ4=y", "INITRAMFS_COMPRESSION_LZO=y"}, "", ""}, // there is no initramfs to compress
		{[]string{"SYSTEM_TRUSTED_KEYS=certs/none.pem"}, `SYSTEM_TRUSTED_KEYS="certs/none.pem" ` +
			`(asked by set SYSTEM_TRUSTED_KEYS=certs/none.pem) names "certs/none.pem", which is not in the ` +
			`kernel's tree`,
			"put it there, or leave it out: --set SYSTEM_TRUSTED_KEYS="},
		{[]string{"SYSTEM_TRUSTED_KEYS=certs/mine.pem", "MODULE_SIG_KEY=certs/signing_key.pem"}, "", ""},
		{[]string{"EXTRA_FIRMWARE=a/b.bin a/c.bin", "EXTRA_FIRMWARE_DIR=fw"}, `EXTRA_FIRMWARE="a/b.bin a/c.bin" ` +
			`(asked by set EXTRA_FIRMWARE=a/b.bin a/c.bin) names "a/c.bin", which is not in the kernel's tree`,
			"put it there, or leave it out: --set EXTRA_FIRMWARE="},
		{[]string{"EXTRA_FIRMWARE=a/b.bin", "EXTRA_FIRMWARE_DIR=fw"}, "", ""},
		{[]string{"INITRAMFS_SOURCE=/no/root.cpio"}, `INITRAMFS_SOURCE="/no/root.cpio" (asked by set ` +
			`INITRAMFS_SOURCE=/no/root.cpio) names "/no/root.cpio", which is not in the kernel's tree`,
			"put it there, or leave it out: --set INITRAMFS_SOURCE="},
	} {
		_, _, err := f.build(f.job(f.pin(dir), c.sets...))
		var need *NeedError
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.sets, err)
		case c.want != "" && (!errors.As(err, &need) || err.Error() != "configure Linux 6.12.1: "+c.want ||
			need.Hint() != c.way):
			t.Errorf("%q:\ngot  %v\nwant %s\nhint %s", c.sets, err, c.want, c.way)
		}
	}
}

// TestBuildAsks has a base file that makes a kernel that kimg can do little with.
func TestBuildAsks(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	j := f.job(f.pin(dir))
	j.Config = Config{Base: "my.config", File: []byte("CONFIG_A=y\nCONFIG_GDB_SCRIPTS=y\nCONFIG_DEBUG_INFO=y\n" +
		"CONFIG_DEBUG_INFO_SPLIT=y\nCONFIG_VIRTIO_BLK=m\nCONFIG_ATA_PIIX=y\n")}
	var asked []string
	yes := false
	j.Ask = func(_ context.Context, question string) (bool, error) {
		asked = append(asked, question)
		return yes, nil
	}
	_, said, err := f.build(j)
	var lack *LackError
	if !errors.As(err, &lack) || !strings.HasPrefix(lack.Hint(), "build it with --set BLK_DEV_SD=y --set EXT4_FS=y ") ||
		!strings.Contains(lack.Hint(), " --set DEBUG_INFO_SPLIT=n") {
		t.Fatalf("%v, want a LackError", err)
	}
	if !slices.Equal(asked, []string{"Compile Linux 6.12.1 like this?"}) {
		t.Errorf("asked %q", asked)
	}
	told := strings.Join(said.log, "\n")
	for _, want := range []string{"warning as it is configured, this kernel cannot\n  find its root disk: it " +
		"is without BLK_DEV_SD\n  mount its root file system: it is without EXT4_FS\n",
		"\n  be debugged: it is with DEBUG_INFO_SPLIT\n  --set BLK_DEV_SD=y"} {
		if !strings.Contains(told, want) {
			t.Errorf("told %s\nwant %s", told, want)
		}
	}
	yes = true
	for range 2 { // once is enough
		if _, _, err := f.build(j); err != nil || len(asked) != 2 {
			t.Errorf("%v, asked %q", err, asked)
		}
	}
	j.Config.Base, j.Config.File = VM, nil // who has no file knows what was asked for
	if _, _, err := f.build(j); err != nil || len(asked) != 2 {
		t.Errorf("%v, asked %q", err, asked)
	}
}

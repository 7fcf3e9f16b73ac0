//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
)

// TestArchitectures builds guests of the architectures in KIMG_TEST_ARCHES, with commas, boots them and stops them.
// Each takes a compile, and a bootstrap whose packages' scripts are emulated: a quarter of an hour on two processors.
func TestArchitectures(t *testing.T) {
	names := os.Getenv("KIMG_TEST_ARCHES")
	if names == "" {
		t.Skip("KIMG_TEST_ARCHES names no architectures")
	}
	k := newKimg(t)
	eng := findEngine(t, k)
	for name := range strings.SplitSeq(names, ",") {
		t.Run(name, func(t *testing.T) {
			a, err := arch.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			guestOf(t, k, a)
			if left := append(eng.leftovers(t, k), mounts(t, k.dir)...); len(left) > 0 {
				t.Errorf("these were left: %q", left)
			}
		})
	}
}

// machines are what uname -m calls the architectures.
var machines = map[arch.Arch]string{
	arch.AMD64: "x86_64", arch.ARM64: "aarch64", arch.RISCV64: "riscv64", arch.PPC64EL: "ppc64le",
}

func guestOf(t *testing.T, k kimg, a arch.Arch) {
	out := filepath.Join(k.dir, a.Name)
	k.run(t, "", "build", "--arch", a.Name, "--config", "vm", "--out", out, "--progress", "plain").want(t, 0)
	verify(t, out)
	soundImage(t, filepath.Join(out, "rootfs.img"))

	r := k.run(t, "", "run", "--out", out, "--", "sh", "-c", "uname -m; dpkg --print-architecture").want(t, 0)
	if r.stdout != machines[a]+"\n"+a.Name+"\n" {
		t.Errorf("the guest is %q", r.stdout)
	}
	r = k.run(t, "", "check", "--out", out, "--break", "do_sys_openat2", "--print", "$lx_current().comm").want(t, 0)
	for _, want := range []string{"fs/open.c:", "do_sys_openat2", `= "`} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %s on stdout:\n%s", want, r.stdout)
		}
	}
	r = k.run(t, "", "run", "--out", out, "--init", "sh", "--", "uname", "-m").want(t, 0)
	if r.stdout != machines[a]+"\n" {
		t.Errorf("without systemd, the guest is %q", r.stdout)
	}
	programs := t.TempDir()
	if err := os.WriteFile(filepath.Join(programs, "two.c"), []byte("#include <stdio.h>\n"+
		"int main(void) { return printf(\"%d\\n\", 1 + 1) != 2; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mine := k
	mine.dir = programs
	mine.run(t, "", "toolchain", "run", "--out", out, "--", "sh", "-c", "$CC -static -o two two.c").want(t, 0)
	r = k.run(t, "", "run", "--out", out, "--init", "sh", "--share", programs+":/src", "--", "/src/two").want(t, 0)
	if r.stdout != "2\n" {
		t.Errorf("a program that was cross-compiled says %q", r.stdout)
	}
	recordOf(t, k, out, a)
	verify(t, out)
}

// recordOf records a guest and replays it, where that can be done.
func recordOf(t *testing.T, k kimg, out string, a arch.Arch) {
	record := []string{"run", "--out", out, "--init", "sh", "--record", "a", "--", "sh", "-c", "uname -m; exit 7"}
	if a.Recorded.Port == "" {
		k.run(t, "", record...).want(t, 2)
		return
	}
	r := k.run(t, "", record...).want(t, 7)
	if r.stdout != machines[a]+"\n" {
		t.Errorf("the recorded guest is %q", r.stdout)
	}
	r = k.run(t, "", "recording", "verify", "a", "--out", out).want(t, 0)
	if !strings.Contains(r.stdout, "the same console, the same ") {
		t.Errorf("its replay is %q", r.stdout)
	}
	r = k.run(t, "", "debug", "--out", out, "--replay", "a", "--at", "boot", "--batch", "--ex", "hbreak *start_kernel",
		"--ex", "continue", "--ex", "info symbol $pc", "--ex", "stepi", "--ex", "reverse-stepi",
		"--ex", "info symbol $pc").want(t, 0)
	want := 2
	if a.Recorded.Onward {
		want = 1
	}
	if at := strings.Count(r.stdout, "start_kernel in section"); at != want {
		t.Errorf("gdb was at start_kernel %d times, want %d:\n%s", at, want, r.stdout)
	}
	k.run(t, "", "recording", "rm", "a", "--out", out).want(t, 0)
}

package decode

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/splat"
)

const kernel = `const char linux_banner[] = "Linux version 6.12.117 (a@b) #1\n";
__attribute__((noinline)) int outer(volatile int *p)
{
	return *p + 1;
}
__attribute__((noreturn, noinline, section(".text.last"), aligned(1))) void inner(void)
{
	__builtin_trap();
}
__attribute__((noinline, section(".text.last"), aligned(1))) int after(volatile int *p)
{
	return *p + 2;
}
int main(int argc, char **argv) { return outer(&argc) + after(&argc); }
`

// build makes an out directory with a kernel and a module, of C programs.
func build(t *testing.T) *Build {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("gcc is missing")
		}
		t.Skip("gcc is missing: install it to run this test")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "modules/lib"), 0o777); err != nil {
		t.Fatal(err)
	}
	source := t.TempDir()
	for file, args := range map[string][]string{
		"init/main.c": {"-o", "vmlinux"}, "drivers/my/mod.c": {"-c", "-o", "modules/lib/my-mod.ko"},
	} {
		file = filepath.Join(source, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(kernel), 0o666); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(gcc, append(args, "-g", "-O2", file)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
	}
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestReleaseOf(t *testing.T) {
	b := build(t)
	if got := ReleaseOf(filepath.Join(b.dir, "vmlinux")); got != "6.12.117" {
		t.Errorf("it calls itself %q", got)
	}
	for _, other := range []string{filepath.Join(b.dir, "none"), b.dir} {
		if got := ReleaseOf(other); got != "" {
			t.Errorf("%s calls itself %q", other, got)
		}
	}
	for name, want := range map[string]bool{"6.1.5-abi7+": true, "6.1.5\x1b[1m": false, "": false,
		"6" + strings.Repeat("x", 64): false} {
		if releaseRE.MatchString(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}

func TestFill(t *testing.T) {
	b := build(t)
	at, err := b.kernel.Address("outer", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(0)
	for size = 1; ; size++ { // as the kernel says it
		if _, err := b.kernel.Address("outer", 0, size); err == nil || size > 1000 {
			break
		}
	}
	if at == 0 || size > 1000 {
		t.Fatalf("outer is at %#x and has %d bytes", at, size)
	}
	here := splat.Frame{Function: "outer", Offset: 1, Size: size}
	r := &splat.Report{At: &here, Traces: []splat.Trace{{Frames: []splat.Frame{
		{Function: "outer", Offset: 1, Size: size, Module: "my_mod", Return: true},
		{Function: "outer", Offset: 1, Size: size + 99},
		{Function: "outer", Offset: 1, Size: size, Module: "none"},
		{Function: "outer", Offset: 1, Size: size, Module: "none"},
	}}}}
	err = b.Fill(r)
	for file, f := range map[string]*splat.Frame{"init/main.c": r.At, "drivers/my/mod.c": &r.Traces[0].Frames[0]} {
		if len(f.Source) != 1 || f.Source[0].Function != "outer" || f.Source[0].Line < 2 || f.Source[0].Line > 5 ||
			f.Source[0].File != file {
			t.Errorf("%v: %+v, want a place in %s", f, f.Source, file)
		}
	}
	if r.Traces[0].Frames[1].Source != nil {
		t.Error("a function of another size got a place")
	}
	if err == nil || strings.Count(err.Error(), "there is no module none") != 1 ||
		!strings.Contains(err.Error(), "outer has another size here") {
		t.Errorf("the problems: %v", err)
	}
}

// TestFillTheLastCall: a function that ends in a call of one that never returns is the one before what is returned to.
func TestFillTheLastCall(t *testing.T) {
	b := build(t)
	size := map[string]uint64{}
	for _, name := range []string{"inner", "after"} {
		for size[name] = 1; size[name] < 1000; size[name]++ {
			if _, err := b.kernel.Address(name, 0, size[name]); err == nil {
				break
			}
		}
	}
	frames := []splat.Frame{
		{Function: "after", Size: size["after"], Return: true},
		{Function: "after", Size: size["after"], Return: true, Unreliable: true}, // its address was on the stack
		{Function: "after", Size: size["after"]},
	}
	if err := b.Fill(&splat.Report{Traces: []splat.Trace{{Frames: frames}}}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"inner", "after", "after"} {
		if s := frames[i].Source; len(s) == 0 || s[len(s)-1].Function != want {
			t.Errorf("frame %d is in %+v, want %s", i, s, want)
		}
	}
}

func TestMatch(t *testing.T) {
	b := build(t)
	b.kernel.BuildID = "aa"
	banner := "Linux version 6.12.117 (a@b) #1"
	for _, tt := range []struct {
		name            string
		release, id     string
		banner          string
		same, uncertain bool
	}{
		{"the same build ID", "6.12.117", "aa", "", true, false},
		{"another build ID", "6.12.117", "bb", banner, false, true},
		{"the same banner", "6.12.117", "", banner, true, false},
		{"another banner", "6.12.117", "", banner + " SMP", false, true},
		{"the version alone", "6.12.117", "", "", true, true},
		{"another version", "6.1.1", "", "", false, true},
		{"another version by the banner", "", "", "Linux version 6.1.1 (a@b) #1", false, true},
		{"nothing", "", "", "", true, true},
	} {
		m := b.Match(&splat.Report{Release: tt.release, BuildID: tt.id}, tt.banner)
		if m.Same != tt.same || m.Why != "" != tt.uncertain {
			t.Errorf("%s: %+v", tt.name, m)
		}
	}
}

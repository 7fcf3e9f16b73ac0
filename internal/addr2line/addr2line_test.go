package addr2line

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const header = `static inline __attribute__((always_inline)) int tiny(volatile int *p)
{
	return *p / 2;
}
`

const source = `#include "tiny.h"
const char linux_banner[] = "Linux version 6.12.117 (a@b) #1\n";
static inline __attribute__((always_inline)) int middle(volatile int *p)
{
	return tiny(p) + 1;
}

__attribute__((noinline)) int outer(volatile int *p)
{
	int x = *p;
	x += middle(p);
	return x;
}

__attribute__((noinline, section(".init.text"))) int first(volatile int *p)
{
	return outer(p) + 3;
}

int main(int argc, char **argv) { return first(&argc); }
`

// compile makes an object of the source, or a program.
func compile(t testing.TB, args ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("gcc is missing")
		}
		t.Skip("gcc is missing: install it to run this test")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"tiny.h": header, "main.c": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(gcc, append(args, "-O2", "-Wl,--build-id=sha1", "-o", "out", "main.c")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return filepath.Join(dir, "out")
}

func open(t testing.TB, name string) *File {
	t.Helper()
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// everywhere asks for every instruction of a function, and returns the distinct answers.
func everywhere(t *testing.T, f *File, function string) (all [][]Place) {
	t.Helper()
	at, err := f.Address(function, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for size := f.functions[function][0].size; size > 0; size-- {
		places, err := f.Places(at + size - 1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, places)
	}
	return all
}

func TestPlaces(t *testing.T) {
	for _, args := range [][]string{
		{"-gdwarf-4"}, {"-gdwarf-5"}, {"-gdwarf-5", "-gz=zlib"}, {"-gdwarf-4", "-c"}, {"-gdwarf-5", "-c"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			f := open(t, compile(t, args...))
			inlined := []Place{{"tiny", "tiny.h", 3}, {"middle", "main.c", 5}, {"outer", "main.c", 11}}
			found := false
			for _, places := range everywhere(t, f, "outer") {
				if last := places[len(places)-1]; last.Function != "outer" || last.File != "main.c" {
					t.Errorf("outer is at %+v", places)
				}
				found = found || reflect.DeepEqual(places, inlined)
			}
			if !found {
				t.Errorf("nowhere in outer is %+v: %+v", inlined, everywhere(t, f, "outer"))
			}
			for _, places := range everywhere(t, f, "first") {
				if len(places) != 1 || places[0].Function != "first" || places[0].Line < 15 || places[0].Line > 18 {
					t.Errorf("first is at %+v", places)
				}
			}
			if f.Banner != "Linux version 6.12.117 (a@b) #1" {
				t.Errorf("banner %q", f.Banner)
			}
			if program := f.elf.Type != elf.ET_REL; program != (len(f.BuildID) == 40) {
				t.Errorf("build ID %q", f.BuildID)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	f := open(t, compile(t, "-g"))
	size := f.functions["outer"][0].size
	if at, err := f.Address("outer", 2, size); err != nil || at != f.functions["outer"][0].address+2 {
		t.Errorf("%#x, %v", at, err)
	}
	var none *NoFunctionError
	if _, err := f.Address("outer", 2, size+100); !errors.As(err, &none) || !none.Other {
		t.Errorf("another size: %v", err)
	}
	if _, err := f.Address("nowhere", 2, 0); !errors.As(err, &none) || none.Other {
		t.Errorf("another name: %v", err)
	}
	if _, err := f.Address("outer", size+1, size); err == nil {
		t.Error("an offset beyond the function was taken")
	}
	f.functions["outer"] = append(f.functions["outer"], symbol{1, size})
	if _, err := f.Address("outer", 2, size); err == nil {
		t.Error("one of two functions of a name and a size was taken")
	}
	if places, err := f.Places(1); err != nil || places != nil {
		t.Errorf("nowhere: %+v, %v", places, err)
	}
}

func TestNoDebugInfo(t *testing.T) {
	f := open(t, compile(t, "-s"))
	if _, err := f.Places(1); !errors.Is(err, ErrNoDebugInfo) {
		t.Error(err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a directory was opened")
	}
}

// TestDamaged has files that lie: an error or an answer, and no panic and no hang.
func TestDamaged(t *testing.T) {
	name := compile(t, "-gdwarf-5", "-c")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	for at := 64; at < len(good); at += 7 {
		b := append([]byte(nil), good...)
		b[at] ^= 0xff
		if at%3 == 0 {
			b = b[:at]
		}
		if err := os.WriteFile(bad, b, 0o666); err != nil {
			t.Fatal(err)
		}
		f, err := Open(bad)
		if err != nil {
			continue
		}
		for function := range f.functions {
			if address, err := f.Address(function, 1, 0); err == nil {
				_, _ = f.Places(address)
			}
		}
		f.Close()
	}
}

// BenchmarkKernel looks up a report of 30 functions in the vmlinux that KIMG_BENCH_VMLINUX names.
func BenchmarkKernel(b *testing.B) {
	name := os.Getenv("KIMG_BENCH_VMLINUX")
	if name == "" {
		b.Skip("KIMG_BENCH_VMLINUX names no vmlinux")
	}
	for b.Loop() {
		f, err := Open(name)
		if err != nil {
			b.Fatal(err)
		}
		found, asked := 0, 0
		for function := range f.functions {
			if asked == 30 {
				break
			}
			if at, err := f.Address(function, 1, 0); err == nil {
				places, err := f.Places(at)
				if err != nil {
					b.Fatal(err)
				}
				if asked++; len(places) > 0 {
					found++
				}
			}
		}
		b.ReportMetric(float64(found), "found")
		f.Close()
	}
}

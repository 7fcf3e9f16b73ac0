package builder

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
)

// notices are what is told, and is no warning.
type notices []string

func (n *notices) Emit(e progress.Event) {
	if e.Kind == progress.Notice {
		*n = append(*n, e.Text)
	}
}

// TestNamed has a kernel call itself otherwise than its Makefile's text, or its package, says.
func TestNamed(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("gcc is missing")
		}
		t.Skip("gcc is missing: install it to run this test")
	}
	for _, tt := range []struct{ banner, release, told string }{
		{"Linux version 5.10.223 (a@b)", "", ""},
		{"Linux version 5.10.223-abi7 (a@b)", "5.10.223-abi7", "Linux 5.10.223 calls itself 5.10.223-abi7 (uname -r)"},
		{"Linux version 5.10.224 (a@b)", "5.10.224", "Linux 5.10.223 calls itself 5.10.224 (uname -r)"},
		{"Linux version 5.10.223-[1mx (a@b)", "", ""},
	} {
		var said notices
		s, l := openSession(t, Env{Cache: t.TempDir(), Host: t.TempDir(), Sink: &said}, spec.Default()), fixture(t)
		vmlinux := filepath.Join(t.TempDir(), "vmlinux")
		cmd := exec.Command(gcc, "-o", vmlinux, "-x", "c", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf("const char linux_banner[] = %q;\nint main(void) { return 0; }\n",
			tt.banner))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		digest, size, err := s.store.Take(vmlinux)
		if err != nil {
			t.Fatal(err)
		}
		made := []steps.Output{{Name: artifact.Vmlinux, Digest: digest, Size: size}}
		res := steps.Results{kernelStep: {Outputs: made}}
		l.Kernel.Release = "of an earlier build"
		p := s.plan(l)
		m, lock, err := s.manifest(p, res)
		if err != nil {
			t.Fatal(err)
		}
		want := l.Kernel.Version.String()
		if tt.release != "" {
			want = tt.release
		}
		if l.Kernel.Release != tt.release || m.Build.Kernel != want || strings.Join(said, "\n") != tt.told {
			t.Errorf("%s: the lock has %q, the manifest %q, told is %q", tt.banner, l.Kernel.Release, m.Build.Kernel,
				said)
		}
		if read, err := spec.ParseLock(lock); err != nil || read.Kernel.Called() != want {
			t.Errorf("%s: the lock reads %+v, %v", tt.banner, read.Kernel, err)
		}
	}
}

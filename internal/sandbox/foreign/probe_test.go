package foreign

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/kimg/kimg/internal/arch"
)

// The probe of an architecture is its program alone: it exits with 42 where it runs, and with something else where a
// shell takes it for a script.
func TestProbe(t *testing.T) {
	for _, a := range arch.All {
		b := Probe(a)
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		if f.Machine != a.ELF || f.Type != elf.ET_EXEC || len(f.Progs) != 1 || f.Progs[0].Filesz != uint64(len(b)) ||
			f.Entry != f.Progs[0].Vaddr+uint64(len(b)-len(a.Exit42)) {
			t.Errorf("%s: %+v", a, f.FileHeader)
		}
		file := filepath.Join(t.TempDir(), "probe")
		if err := os.WriteFile(file, b, 0o755); err != nil {
			t.Fatal(err)
		}
		status := func(args ...string) int {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir = t.TempDir()
			if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Errorf("%s: %v", a, err)
			}
			return cmd.ProcessState.ExitCode()
		}
		if runtime.GOOS == "linux" {
			if got := status("sh", file); got == 42 || got == 0 {
				t.Errorf("%s: taken for a script it exits with %d", a, got)
			}
			if a.OCI == runtime.GOARCH {
				if got := status(file); got != 42 {
					t.Errorf("%s: it exits with %d", a, got)
				}
			}
		}
		for _, emulator := range []string{a.Emulator, a.Emulator + "-static"} {
			if path, err := exec.LookPath(emulator); err == nil {
				if got := status(path, file); got != 42 {
					t.Errorf("%s: by %s it exits with %d", a, path, got)
				}
			}
		}
	}
}

package outdir

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kimg/kimg/builder/spec/spectest"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/units"
)

// built is an out directory as a build leaves it.
func built(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	m := &Manifest{Version: manifestVersion}
	for name, text := range map[string]string{
		"bzImage": "kernel", "rootfs.img": "image", "scripts/gdb/x.py": "script",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
			os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		m.Build.Artifacts = append(m.Build.Artifacts,
			Artifact{Path: name, Size: int64(len(text)), SHA256: units.DigestOf([]byte(text)), Mode: 0o644})
	}
	lock, err := spectest.Lock(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m.Build.Lock = units.DigestOf(lock)
	b, err := m.Marshal()
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, artifact.Lock), lock, 0o644),
		os.WriteFile(filepath.Join(dir, artifact.Manifest), b, 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestVerify(t *testing.T) {
	flip := func(file string, at int) func(string) error {
		return func(dir string) error {
			name := filepath.Join(dir, file)
			b, err := os.ReadFile(name)
			if err == nil {
				b[(at+len(b))%len(b)] ^= 1
				err = os.WriteFile(name, b, 0o644)
			}
			return err
		}
	}
	replace := func(file string, by func(name string) error) func(string) error {
		return func(dir string) error {
			name := filepath.Join(dir, file)
			return errors.Join(os.RemoveAll(name), by(name))
		}
	}
	for _, tt := range []struct {
		name   string
		attack func(dir string) error
		want   []string // of each fault: its path and a word
	}{
		{"nothing", func(string) error { return nil }, nil},
		{"a flipped byte", flip("bzImage", 2), []string{"bzImage content was changed"}},
		{"two", func(d string) error { return errors.Join(flip("bzImage", 0)(d), flip("rootfs.img", -1)(d)) },
			[]string{"bzImage content", "rootfs.img content"}},
		{"longer", func(d string) error {
			return os.WriteFile(filepath.Join(d, "rootfs.img"), []byte("imagex"), 0o644)
		}, []string{"rootfs.img 6 bytes"}},
		{"gone", replace("scripts/gdb/x.py", func(string) error { return nil }),
			[]string{"scripts/gdb/x.py not there"}},
		{"a link to the same", replace("bzImage", func(n string) error {
			return errors.Join(os.WriteFile(n+".real", []byte("kernel"), 0o644), os.Symlink("bzImage.real", n))
		}), []string{"bzImage a link"}},
		{"a directory of links", replace("scripts", func(n string) error { return os.Symlink("/etc", n) }),
			[]string{"scripts/gdb/x.py cannot be read"}},
		{"a directory", replace("bzImage", func(n string) error { return os.Mkdir(n, 0o755) }),
			[]string{"bzImage a directory"}},
		{"more may write it", func(d string) error { return os.Chmod(filepath.Join(d, "bzImage"), 0o666) },
			[]string{"bzImage mode is 0666"}},
		{"its owner may not", func(d string) error { return os.Chmod(filepath.Join(d, "bzImage"), 0o444) },
			[]string{"bzImage mode is 0444"}},
		{"a umask of 077", func(d string) error { return os.Chmod(filepath.Join(d, "bzImage"), 0o600) }, nil},
		{"the lock", flip(artifact.Lock, 200),
			[]string{artifact.Lock + " digest", artifact.Lock + " not the lock of this build"}},
		{"another lock", func(d string) error {
			l := spectest.Lock(t)
			l.Kernel.Epoch++
			b, err := l.Marshal()
			return errors.Join(err, os.WriteFile(filepath.Join(d, artifact.Lock), b, 0o644))
		}, []string{artifact.Lock + " not the lock of this build"}},
		{"no lock", replace(artifact.Lock, func(string) error { return nil }), []string{artifact.Lock + " not there"}},
		{"what the manifest says", func(d string) error {
			m, err := Read(d)
			if err != nil {
				return err
			}
			m.Build.Suite = "other"
			b, err := json.Marshal(m)
			return errors.Join(err, os.WriteFile(filepath.Join(d, artifact.Manifest), b, 0o644))
		}, []string{artifact.Manifest + " was changed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := built(t)
			if err := tt.attack(dir); err != nil {
				t.Fatal(err)
			}
			v, err := Verify(t.Context(), dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if v.Checked != 5 || len(v.Faults) != len(tt.want) {
				t.Fatalf("%d checked, faults %q, want %q", v.Checked, v.Faults, tt.want)
			}
			wantFaults(t, v, tt.want)
		})
	}
}

// wantFaults wants a fault for each of want: its path, and words of what it says.
func wantFaults(t *testing.T, v *Verified, want []string) {
	t.Helper()
	for _, w := range want {
		path, word, _ := strings.Cut(w, " ")
		if !slices.ContainsFunc(v.Faults,
			func(f Fault) bool { return f.Path == path && strings.Contains(f.What, word) }) {
			t.Errorf("faults %.600q lack %q", v.Faults, w)
		}
	}
}

func TestVerifyWithoutAManifest(t *testing.T) {
	if _, err := Verify(t.Context(), t.TempDir(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestVerifyDamagedManifest: one that is there and cannot be read is a fault of the
// build, and nothing else.
func TestVerifyDamagedManifest(t *testing.T) {
	text := func(text string) func(string) error {
		return func(name string) error { return os.WriteFile(name, []byte(text), 0o644) }
	}
	for name, make := range map[string]func(name string) error{
		"empty":          text(""),
		"cut off":        text("{"),
		"of version 99":  text(`{"version": 99, "digest": "x"}`),
		"without digest": text(`{"version": 1}`),
		"of other files": text(`{"version": 1, "digest": "x", "build": {"artifacts": [{"path": "../../etc/passwd"}]}}`),
		"too large": func(name string) error {
			return errors.Join(text("{")(name), os.Truncate(name, 30<<30))
		},
		"a pipe":      func(name string) error { return syscall.Mkfifo(name, 0o644) },
		"a directory": func(name string) error { return os.Mkdir(name, 0o755) },
		"a link": func(name string) error {
			return errors.Join(text(`{"version": 1}`)(name+".real"), os.Symlink(artifact.Manifest+".real", name))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := built(t)
			file := filepath.Join(dir, artifact.Manifest)
			if err := errors.Join(os.Remove(file), make(file)); err != nil {
				t.Fatal(err)
			}
			v, err := Verify(t.Context(), dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if v.Checked != 1 || len(v.Faults) != 1 || v.Faults[0].Path != artifact.Manifest ||
				!strings.Contains(v.Faults[0].What, "damaged") &&
					!strings.Contains(v.Faults[0].What, "not a plain file") {
				t.Errorf("%+v", v)
			}
			if _, err := Read(dir); err == nil && (name == "too large" || name == "a pipe") {
				t.Error("it was read")
			}
		})
	}
}

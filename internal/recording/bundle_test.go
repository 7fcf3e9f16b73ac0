package recording

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/kimg/kimg/internal/artifact"
)

// exported is a recording as a file.
func exported(t *testing.T, out string, thin bool) []byte {
	t.Helper()
	r, err := Open(t.Context(), out, "a")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.Export(t.Context(), &b, thin); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExport(t *testing.T) {
	out := build(t)
	sealed(t, out, "a")
	elsewhere := t.TempDir()
	r, err := Import(t.Context(), elsewhere, "b", bytes.NewReader(exported(t, out, false)))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Open(t.Context(), elsewhere, "b"); err != nil || again.Verify(t.Context()) != nil {
		t.Errorf("%v", err)
	}
	if r.Pins() != r.Dir() {
		t.Errorf("its tools are those of %q", r.Pins())
	}
	for _, file := range []string{
		artifact.Lock, artifact.GDBLoader, artifact.GDBScripts + "/linux/a.py", artifact.ModulesDir + "/kernel/a.ko",
		Tape + "/" + Console} {
		if _, err := os.Stat(r.Path(file)); err != nil {
			t.Error(err)
		}
	}
	if _, err := Import(t.Context(), elsewhere, "b", bytes.NewReader(nil)); reason(t, err) != "there is one" {
		t.Error(err)
	}
}

func TestExportThin(t *testing.T) {
	out := build(t)
	sealed(t, out, "a")
	file := exported(t, out, true)
	same := build(t)
	if err := os.WriteFile(filepath.Join(same, artifact.Lock), []byte("another kimg's"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Import(t.Context(), same, "b", bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(r.Path(artifact.Lock)); err != nil || string(b) != "this is "+artifact.Lock {
		t.Errorf("%q, %v: not the lock of the build that was recorded", b, err)
	}
	if _, err := os.Stat(r.Path(artifact.GDBLoader)); err != nil {
		t.Error(err)
	}
	other := build(t)
	if err := os.WriteFile(filepath.Join(other, artifact.Disk), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), other, "b", bytes.NewReader(file)); err == nil {
		t.Error("another disk is taken")
	}
	if _, err := os.Stat(filepath.Join(other, Home, "b")); !os.IsNotExist(err) {
		t.Errorf("something stays of it: %v", err)
	}
}

// Whatever a file has, nothing is written but what a recording may have.
func TestHostileImport(t *testing.T) {
	out := build(t)
	sealed(t, out, "a")
	good := exported(t, out, false)
	zr, err := zstd.NewReader(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	tr := tar.NewReader(zr)
	head, err := tr.Next()
	if err != nil {
		t.Fatal(err)
	}
	record := make([]byte, head.Size)
	if _, err := io.ReadFull(tr, record); err != nil {
		t.Fatal(err)
	}
	for what, h := range map[string]tar.Header{
		"a path out of it":   {Name: "../x", Size: 1},
		"an absolute path":   {Name: "/tmp/x", Size: 1},
		"a link":             {Name: artifact.GDBLoader, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		"another file":       {Name: "tape/x", Size: 1},
		"another size":       {Name: artifact.Disk, Size: 1},
		"scripts out of it":  {Name: artifact.GDBScripts + "/../../../x", Size: 1},
		"modules out of it":  {Name: artifact.ModulesDir + "/../../../x", Size: 1},
		"the lock":           {Name: lockFile, Size: 1},
		"the record's again": {Name: recordFile, Size: 1},
	} {
		var b bytes.Buffer
		zw, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		tw := tar.NewWriter(zw)
		h.Mode = 0o644
		for _, one := range []struct {
			head tar.Header
			text []byte
		}{{tar.Header{Name: recordFile, Size: int64(len(record)), Mode: 0o600}, record}, {h, make([]byte, h.Size)}} {
			if err := tw.WriteHeader(&one.head); err != nil {
				t.Fatal(err)
			}
			if _, err := tw.Write(one.text); err != nil {
				t.Fatal(err)
			}
		}
		tw.Close()
		zw.Close()
		to := t.TempDir()
		if _, err := Import(t.Context(), to, "b", &b); err == nil {
			t.Errorf("%s is taken", what)
		}
		if found, _ := os.ReadDir(filepath.Join(to, Home)); len(found) > 0 {
			t.Errorf("%s: something stays", what)
		}
	}
	for _, cut := range []int{0, 10, len(good) / 2, len(good) - 1} {
		if _, err := Import(t.Context(), t.TempDir(), "b", bytes.NewReader(good[:cut])); err == nil {
			t.Errorf("%d bytes of %d are taken", cut, len(good))
		}
	}
	for at := 0; at < len(good); at += 17 {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		r, err := Import(t.Context(), t.TempDir(), "b", bytes.NewReader(bad))
		if err == nil && r.Verify(t.Context()) != nil {
			t.Errorf("byte %d: what was taken does not verify", at)
		}
	}
}

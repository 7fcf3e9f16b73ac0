package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/attest/attesttest"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/image/export"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/vm"
)

// formatFunc is a format for tests.
type formatFunc func(ctx context.Context, b *export.Build, w io.Writer) error

func (f formatFunc) Export(ctx context.Context, b *export.Build, w io.Writer) error {
	return f(ctx, b, w)
}

func kindOf(f formatFunc) *export.Kind {
	return &export.Kind{
		Name:  "test",
		File:  "test",
		Needs: []string{artifact.Disk},
		New:   func(export.Options) export.Format { return f },
	}
}

// builtDir is an out directory with a manifest and next to no artifacts.
func builtDir(t *testing.T) (Env, string) {
	t.Helper()
	dir := t.TempDir()
	m := outdir.NewManifest(outdir.BuildFacts{}, outdir.RunFacts{Engine: "an engine", Mirror: "a mirror"})
	m.Build.Suite, m.Build.Epoch = "trixie", 1700000000
	m.Build.Artifacts = []outdir.Artifact{{Path: artifact.Disk, Mode: 0o644}}
	text, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{artifact.Manifest: text, artifact.Disk: []byte("image"),
		LockFile: []byte("lock")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Env{Cache: t.TempDir(), Host: t.TempDir()}, dir
}

func TestExport(t *testing.T) {
	env, out := builtDir(t)
	to := filepath.Join(t.TempDir(), "to")
	var was *export.Build
	write := func(text string) ExportRequest {
		return ExportRequest{
			Out:  out,
			File: to,
			Format: kindOf(func(_ context.Context, b *export.Build, w io.Writer) error {
				was = b
				_, err := io.WriteString(w, text)
				return err
			}),
		}
	}
	holds := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(to); err != nil || string(got) != want {
			t.Errorf("the file holds %q (%v), want %q", got, err, want)
		}
		if list, err := os.ReadDir(filepath.Dir(to)); err != nil || len(list) != 1 {
			t.Errorf("beside it is %v (%v)", list, err)
		}
	}
	if err := Export(t.Context(), env, write("one")); err != nil {
		t.Fatal(err)
	}
	holds("one")
	if st, err := os.Stat(to); err != nil || st.Mode().Perm()&0o111 != 0 || st.Mode().Perm()&0o400 == 0 {
		t.Errorf("mode %v (%v)", st.Mode(), err)
	}
	if was.Suite != "trixie" || was.Epoch.Unix() != 1700000000 || was.Dir != out || len(was.Files) != 3 {
		t.Errorf("it was told of %+v", was)
	}
	for _, f := range was.Files {
		if f.Path == artifact.Manifest &&
			(strings.Contains(string(f.Data), "a mirror") || !strings.Contains(string(f.Data), "trixie")) {
			t.Errorf("the manifest that is handed on:\n%s", f.Data)
		}
	}

	var exists *ExistsError
	if err := Export(t.Context(), env, write("two")); !errors.As(err, &exists) {
		t.Errorf("over a file: %v", err)
	}
	holds("one")
	req := write("two")
	req.Force = true
	if err := Export(t.Context(), env, req); err != nil {
		t.Fatal(err)
	}
	holds("two")

	bad := errors.New("bad")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, c := range []struct {
		ctx  context.Context
		do   func(w io.Writer) error
		want error
	}{
		{t.Context(), func(io.Writer) error { return bad }, bad},
		{ctx, func(w io.Writer) error {
			cancel()
			_, err := io.WriteString(w, "more")
			return err
		}, context.Canceled},
	} {
		req.Format = kindOf(func(_ context.Context, _ *export.Build, w io.Writer) error {
			io.WriteString(w, "half")
			return c.do(w)
		})
		if err := Export(c.ctx, env, req); !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
		holds("two")
	}
}

// TestExportKnowsTheArchitecture: an image without its kernel is still of the architecture that was built.
func TestExportKnowsTheArchitecture(t *testing.T) {
	env, out := builtDir(t)
	for name, want := range map[string]arch.Arch{"": arch.AMD64, "arm64": arch.ARM64, "vax": {}} {
		m, err := outdir.Read(out)
		if err != nil {
			t.Fatal(err)
		}
		m.Build.Arch = name
		text, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, artifact.Manifest), text, 0o600); err != nil {
			t.Fatal(err)
		}
		var got arch.Arch
		err = Export(t.Context(), env, ExportRequest{Out: out, File: filepath.Join(t.TempDir(), "to"),
			Format: kindOf(func(_ context.Context, b *export.Build, _ io.Writer) error {
				got = b.Arch
				return nil
			})})
		if got != want || err != nil && want != (arch.Arch{}) || err == nil && want == (arch.Arch{}) {
			t.Errorf("a build of %q is exported as one of %v: %v", name, got, err)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	env, out := builtDir(t)
	any := kindOf(func(_ context.Context, _ *export.Build, w io.Writer) error {
		_, err := io.WriteString(w, "text")
		return err
	})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(out, artifact.Disk), link); err != nil {
		t.Fatal(err)
	}
	hard := filepath.Join(filepath.Dir(out), "hard")
	if err := os.Link(filepath.Join(out, artifact.Disk), hard); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(out, artifact.Disk): "is an artifact of the build itself",
		hard:                              "is an artifact of the build itself",
		link:                              "is no regular file",
		t.TempDir():                       "is no regular file",
		os.DevNull:                        "is no regular file",
		filepath.Join(out, "no/dir"):      "there is no directory",
	} {
		err := Export(t.Context(), env, ExportRequest{Out: out, File: file, Force: true, Format: any})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(out, artifact.Disk)); err != nil || string(b) != "image" {
		t.Errorf("the artifact holds %q (%v)", b, err)
	}

	var missing *vm.MissingArtifactError
	for dir, want := range map[string]string{t.TempDir(): artifact.Manifest, out: "bzImage"} {
		kind := *any
		kind.Needs = []string{"bzImage"}
		err := Export(t.Context(), env, ExportRequest{Out: dir, File: filepath.Join(t.TempDir(), "f"), Format: &kind})
		if !errors.As(err, &missing) || missing.File != want {
			t.Errorf("without %s: %v", want, err)
		}
	}
}

func TestExportToAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	env, out := builtDir(t)
	for _, name := range []string{"raw", "bundle"} {
		kind, err := export.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		plain := *kind
		plain.Guest, plain.Kernel, plain.Needs = false, false, nil
		err = Export(t.Context(), env, ExportRequest{Out: out, Stream: full, Format: &plain})
		if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(fmt.Sprint(err), "export "+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who gets the bundle can check it as well as who made it.
func TestBundleIsWholeToVerify(t *testing.T) {
	dir, _ := described(t)
	key, pub := attesttest.Key(t)
	if v, err := Sign(t.Context(), Env{Cache: t.TempDir(), Sign: key}, dir); err != nil || len(v.Faults) > 0 {
		t.Fatalf("%+v (%v)", v, err)
	}
	kind, err := export.Find("bundle")
	if err != nil {
		t.Fatal(err)
	}
	plain := *kind
	plain.Guest = false
	file := filepath.Join(t.TempDir(), "bundle.tar")
	env := Env{Cache: t.TempDir(), Host: t.TempDir()}
	if err := Export(t.Context(), env, ExportRequest{Out: dir, File: file, Format: &plain}); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(to, h.Name)
		if h.Typeflag == tar.TypeDir {
			continue
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b,
			h.FileInfo().Mode())); err != nil {
			t.Fatal(err)
		}
	}
	v, err := outdir.Verify(t.Context(), filepath.Join(to, "kimg-out"), []*attest.PublicKey{pub})
	if err != nil || len(v.Faults) > 0 || len(v.SignedBy) != 1 {
		t.Errorf("%+v (%v)", v, err)
	}
}

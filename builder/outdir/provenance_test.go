package outdir

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/spec/spectest"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/units"
)

// described is an out directory as a build leaves it, documents and all.
func described(t *testing.T) (string, *spec.Lock) {
	t.Helper()
	dir, l := t.TempDir(), spectest.Lock(t)
	m := &Manifest{Version: manifestVersion, Build: BuildFacts{
		Kernel: l.Kernel.Version.String(), Suite: l.Rootfs.Suite, Config: l.Config.Base, Epoch: l.Rootfs.Epoch,
		Toolchain: NewToolchain(l.Toolchain), Imaging: NewToolchain(l.Imaging), Inputs: Inputs(l),
	}}
	for _, name := range []string{"bzImage", "rootfs.img", "scripts/gdb/x.py"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
			os.WriteFile(file, []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
		m.Build.Artifacts = append(m.Build.Artifacts,
			Artifact{Path: name, Size: int64(len(name)), SHA256: units.DigestOf([]byte(name)), Mode: 0o644})
	}
	lock, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m.Build.Lock = units.DigestOf(lock)
	out := openTestDir(t, dir)
	if err := out.Write(artifact.Lock, lock); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WriteManifest(m, l); err != nil {
		t.Fatal(err)
	}
	return dir, l
}

func openTestDir(t *testing.T, dir string) *Dir {
	t.Helper()
	out, err := Open(dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sign(t *testing.T, dir string, key *attest.Key) {
	t.Helper()
	v, err := openTestDir(t, dir).SignUnchanged(t.Context(), key, nil)
	if err != nil || len(v.Faults) > 0 {
		t.Fatalf("%+v (%v)", v, err)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A second build of the same writes nothing, and one by another kimg says nothing
// new.
func TestDocumentsStay(t *testing.T) {
	dir, l := described(t)
	names := []string{artifact.Manifest, attest.ProvenanceFile, attest.SBOMFile}
	looks := func() (all []FileStat) {
		for _, name := range names {
			l, err := statFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, l)
		}
		return all
	}
	again := func() *Manifest {
		m, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		m.Documents, m.Run = nil, RunFacts{Kimg: "other"}
		if m, err = openTestDir(t, dir).WriteManifest(m, l); err != nil {
			t.Fatal(err)
		}
		return m
	}
	before := looks()
	if m := again(); m.Run.Kimg == "other" || !reflect.DeepEqual(looks(), before) {
		t.Error("a build that changed nothing was written down again")
	}

	// As if another kimg had built it.
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := m.describe(l, attest.Builder("v0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	statement := docs[attest.ProvenanceFile]
	*m.document(attest.ProvenanceFile) = Document{attest.ProvenanceFile, int64(len(statement)),
		units.DigestOf(statement)}
	text, err := m.Marshal()
	out := openTestDir(t, dir)
	if err := errors.Join(err, out.Write(artifact.Manifest, text),
		out.Write(attest.ProvenanceFile, statement)); err != nil {
		t.Fatal(err)
	}
	before = looks()
	again()
	if !reflect.DeepEqual(looks(), before) ||
		attest.BuilderOf(read(t, dir, attest.ProvenanceFile)) != attest.Builder("v0.0.1") {
		t.Error("who built it was written over by who looked")
	}

	// What was removed or damaged comes back, and so do the documents of an older kimg.
	if err := errors.Join(os.Remove(filepath.Join(dir, attest.SBOMFile)),
		os.WriteFile(filepath.Join(dir, attest.ProvenanceFile), []byte("{}"), 0o644)); err != nil {
		t.Fatal(err)
	}
	again()
	if v, err := Verify(t.Context(), dir, nil); err != nil || len(v.Faults) > 0 {
		t.Errorf("%+v (%v)", v, err)
	}
	m, err = Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Documents = nil
	text, err = m.Marshal()
	if err := errors.Join(err, out.Write(artifact.Manifest, text),
		os.Remove(filepath.Join(dir, attest.SBOMFile))); err != nil {
		t.Fatal(err)
	}
	if again(); len(read(t, dir, attest.SBOMFile)) == 0 {
		t.Error("an older kimg's build has no SBOM yet")
	}
}

func TestDocumentsAreKnownAsKimgs(t *testing.T) {
	dir, _ := described(t)
	if err := openTestDir(t, dir).Guard(artifact.Documents()); err != nil {
		t.Errorf("of kimg: %v", err)
	}
	var foreign *ForeignError
	if err := os.Remove(filepath.Join(dir, artifact.Manifest)); err != nil {
		t.Fatal(err)
	}
	if err := openTestDir(t, dir).Guard(artifact.Documents()); !errors.As(err, &foreign) {
		t.Errorf("of somebody else: %v", err)
	}
}

// The same lock gives the same documents, wherever the kernel is and whatever the user's
// name is.
func TestDocumentsTellNoPaths(t *testing.T) {
	describe := func(request string, edit func(*spec.Lock)) map[string][]byte {
		l := spectest.Lock(t)
		l.Kernel = spec.KernelLock{Request: request, Source: "directory", Version: l.Kernel.Version,
			SHA256: l.Kernel.SHA256, Epoch: l.Kernel.Epoch}
		edit(l)
		m := &Manifest{Build: BuildFacts{
			Kernel: "6.1", Toolchain: NewToolchain(l.Toolchain), Imaging: NewToolchain(l.Imaging),
			Artifacts: []Artifact{{Path: "bzImage", SHA256: units.DigestOf(nil)}}, Inputs: Inputs(l),
		}}
		m.Build.Lock = units.DigestOf([]byte("lock"))
		docs, err := m.describe(l, attest.Builder("v1"))
		if err != nil {
			t.Fatal(err)
		}
		return docs
	}
	none := func(*spec.Lock) {}
	one, two := describe("/home/ann/src/linux", none), describe("../bob/linux", none)
	for name, text := range one {
		if !bytes.Equal(text, two[name]) {
			t.Errorf("%s depends on where the kernel lies", name)
		}
		for _, word := range []string{"/home", "ann/", "bob", "src/linux"} {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s contains %q", name, word)
			}
		}
	}
	if bytes.Equal(one[attest.ProvenanceFile],
		describe("linux", func(l *spec.Lock) { l.Config.Set = []string{"KASAN=y"} })[attest.ProvenanceFile]) {
		t.Error("the request is not in it")
	}
}

func TestMaterials(t *testing.T) {
	l := spectest.Lock(t)
	var kinds []string
	packages := 0
	for _, m := range l.Materials() {
		if m.Kind == attest.Package {
			packages++
		}
		if m.Kind != attest.Package && (len(kinds) == 0 || kinds[len(kinds)-1] != string(m.Kind)) {
			kinds = append(kinds, string(m.Kind))
		}
	}
	want := len(l.Rootfs.Packages())
	for _, tl := range []spec.ToolchainLock{l.Toolchain, l.Imaging} {
		want += len(tl.Lock.Base) + len(tl.Lock.Packages)
	}
	if packages != want || strings.Join(kinds, " ") != "kernel index" {
		t.Errorf("%d packages, want %d; and %q", packages, want, kinds)
	}
	k := l.Materials()[0]
	if k.URI != "pkg:deb/debian/linux-source-5.10@1.0-1?arch=amd64&distro=bullseye" || k.Supplier != "Debian" {
		t.Errorf("%+v", k)
	}
	i := l.Materials()[1]
	if i.URI != "https://snapshot.debian.org/archive/debian/20250809T091630Z/dists/bullseye/InRelease" ||
		len(i.SignedBy) != 1 {
		t.Errorf("%+v", i)
	}

	l.Kernel = spec.KernelLock{Request: "6.1.9", Source: "release", Version: l.Kernel.Version, SHA256: l.Kernel.SHA256,
		Download: &kernelorg.Verified{URL: "https://example.org/v6.x/linux-6.1.9.tar.xz",
			SignedBy: []string{"A"}, TarSignedBy: []string{"B"}}}
	k = l.Materials()[0]
	if k.Name != "linux-6.1.9.tar.xz" || k.URI != l.Kernel.Download.URL || len(k.SignedBy) != 2 {
		t.Errorf("%+v", k)
	}
	if in := Inputs(l)[0]; in.Name != l.Kernel.Download.URL || len(in.SignedBy) != 2 {
		t.Errorf("%+v", in)
	}
	l.Kernel = spec.KernelLock{Request: "../dir/linux", Source: "directory", Version: l.Kernel.Version,
		SHA256: l.Kernel.SHA256}
	if k = l.Materials()[0]; !k.Tree || k.Name != "linux" || k.URI != "" {
		t.Errorf("%+v", k)
	}
}

// An edited manifest does not match the statement, which has its digest.
func edited(t *testing.T, dir string, edit func(*Manifest)) {
	t.Helper()
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	edit(m)
	b, err := m.Marshal()
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, artifact.Manifest), b, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// rewritten replaces the statement, and has the manifest say that it is right.
func rewritten(t *testing.T, dir string, edit func(map[string]any)) {
	t.Helper()
	var st map[string]any
	if err := json.Unmarshal(read(t, dir, attest.ProvenanceFile), &st); err != nil {
		t.Fatal(err)
	}
	edit(st)
	text, err := json.Marshal(st)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, attest.ProvenanceFile), text, 0o644)); err != nil {
		t.Fatal(err)
	}
	edited(t, dir, func(m *Manifest) {
		*m.document(attest.ProvenanceFile) = Document{attest.ProvenanceFile, int64(len(text)), units.DigestOf(text)}
	})
}

// TestGitMoves commits what was built: the manifest then has the commit, and
// is otherwise unchanged.
func TestGitMoves(t *testing.T) {
	dir, l := described(t)
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	kimg := m.Run.Kimg
	m.Documents, m.Run = nil, RunFacts{Kimg: "other", Git: &kernel.GitState{Commit: "0123"}}
	if _, err = openTestDir(t, dir).WriteManifest(m, l); err != nil {
		t.Fatal(err)
	}
	if m, err = Read(dir); err != nil || m.Run.Git == nil || m.Run.Git.Commit != "0123" ||
		m.Run.Kimg != kimg || len(m.Documents) != len(artifact.Documents()) {
		t.Errorf("%+v, %v", m, err)
	}
}

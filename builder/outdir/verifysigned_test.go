package outdir

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/attest/attesttest"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/units"
)

func TestVerifySigned(t *testing.T) {
	dir, _ := described(t)
	key, pub := attesttest.Key(t)
	_, stranger := attesttest.Key(t)
	faults := func(keys ...*attest.PublicKey) *Verified {
		v, err := Verify(t.Context(), dir, keys)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := faults(); len(v.Faults) > 0 || len(v.Notes) > 0 || v.Checked != 7 {
		t.Errorf("unsigned: %+v", v)
	}
	if v := faults(pub); len(v.Faults) != 1 || !strings.Contains(v.Faults[0].What, "the build is not signed") {
		t.Errorf("unsigned, with a key: %+v", v)
	}
	sign(t, dir, key)
	if v := faults(); len(v.Faults) > 0 || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], key.ID) {
		t.Errorf("signed, without a key: %+v", v)
	}
	if v := faults(stranger, pub); len(v.Faults) > 0 || len(v.SignedBy) != 1 ||
		v.SignedBy[0] != (Signer{pub.File, "ed25519", pub.ID}) {
		t.Errorf("signed: %+v", v)
	}
	if v := faults(stranger); len(v.Faults) != 1 ||
		!strings.Contains(v.Faults[0].What, "not signed by "+stranger.File) || len(v.SignedBy) > 0 {
		t.Errorf("by another key: %+v", v)
	}
	for _, name := range []string{artifact.Manifest, attest.ProvenanceFile, attest.SBOMFile,
		attest.SignatureFile, artifact.Lock} {
		if text := read(t, dir, name); bytes.Contains(text, []byte(filepath.Dir(key.File))) {
			t.Errorf("%s contains where the key is", name)
		}
	}
}

// The attacks know all that a build knows, but for the key.
func TestVerifyAttacked(t *testing.T) {
	key, pub := attesttest.Key(t)
	evil, _ := attesttest.Key(t)
	flip := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b := read(t, dir, name)
			b[len(b)/2] ^= 1
			put(t, dir, name, b)
		}
	}
	deep := []byte(strings.Repeat(`{"a":`, 20_000))
	huge := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, name), attest.MaxSignature+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		attack func(t *testing.T, dir string)
		want   []string // a path, and a word of its fault
	}{
		{"an artifact's byte", flip("bzImage"), []string{"bzImage content was changed"}},
		{"the lock's byte", flip(artifact.Lock), []string{artifact.Lock + " not the lock of this build"}},
		{"the provenance's byte", flip(attest.ProvenanceFile), []string{
			attest.ProvenanceFile + " content was changed", attest.SignatureFile + " no signature of this build",
		}},
		{"the SBOM's byte", flip(attest.SBOMFile), []string{attest.SBOMFile + " content was changed"}},
		{"the envelope's byte", flip(attest.SignatureFile),
			[]string{attest.SignatureFile + " no signature of this build"}},
		{"an artifact and the manifest", func(t *testing.T, dir string) {
			put(t, dir, "bzImage", []byte("evilKrn"))
			edited(t, dir, func(m *Manifest) { m.Build.Artifacts[0].SHA256 = units.DigestOf([]byte("evilKrn")) })
		}, []string{
			attest.ProvenanceFile + " subject bzImage has another sha256", attest.ProvenanceFile + " manifestDigest",
		}},
		{"an artifact less", func(t *testing.T, dir string) {
			edited(t, dir, func(m *Manifest) { m.Build.Artifacts = m.Build.Artifacts[1:] })
		}, []string{attest.ProvenanceFile + " subject bzImage is not an artifact"}},
		{"an artifact more", func(t *testing.T, dir string) {
			put(t, dir, "vmlinux-gdb.py", nil)
			edited(t, dir, func(m *Manifest) {
				m.Build.Artifacts = append(m.Build.Artifacts,
					Artifact{Path: "vmlinux-gdb.py", SHA256: units.DigestOf(nil), Mode: 0o644})
			})
		}, []string{attest.ProvenanceFile + " subjects lack vmlinux-gdb.py"}},
		{"what the manifest says", func(t *testing.T, dir string) {
			edited(t, dir, func(m *Manifest) { m.Build.Kernel = "1.0" })
		}, []string{attest.ProvenanceFile + " manifestDigest"}},
		{"subjects removed", func(t *testing.T, dir string) {
			rewritten(t, dir, func(st map[string]any) { st["subject"] = st["subject"].([]any)[1:] })
		}, []string{
			attest.ProvenanceFile + " subjects lack bzImage", attest.SignatureFile + " no signature of this build",
		}},
		{"subjects removed, and signed anew", func(t *testing.T, dir string) {
			rewritten(t, dir, func(st map[string]any) { st["subject"] = st["subject"].([]any)[1:] })
			resign(t, dir, evil)
		}, []string{attest.ProvenanceFile + " subjects lack bzImage", attest.SignatureFile + " it is not signed by"}},
		{"by another key", func(t *testing.T, dir string) { resign(t, dir, evil) },
			[]string{attest.SignatureFile + " it is not signed by"}},
		{"everything but the key", func(t *testing.T, dir string) {
			put(t, dir, "bzImage", []byte("evilKrn"))
			m, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			l, err := spec.ReadLock(filepath.Join(dir, artifact.Lock))
			if err != nil {
				t.Fatal(err)
			}
			m.Build.Artifacts[0].SHA256, m.Documents = units.DigestOf([]byte("evilKrn")), nil
			if _, err := openTestDir(t, dir).WriteManifest(m, l); err != nil {
				t.Fatal(err)
			}
			resign(t, dir, evil)
		}, []string{attest.SignatureFile + " it is not signed by"}},
		{"the documents", func(t *testing.T, dir string) {
			edited(t, dir, func(m *Manifest) { m.Documents = nil })
		}, []string{attest.SignatureFile + " nothing is signed"}},
		{"one of them", func(t *testing.T, dir string) {
			edited(t, dir, func(m *Manifest) { m.Documents = m.Documents[:1] })
		}, []string{attest.SBOMFile + " the manifest does not name it"}},
		{"the payload's type", func(t *testing.T, dir string) {
			put(t, dir, attest.SignatureFile, bytes.Replace(read(t, dir, attest.SignatureFile),
				[]byte("vnd.in-toto+json"), []byte("vnd.other+json"), 1))
		}, []string{attest.SignatureFile + " no signature of this build"}},
		{"no signature", func(t *testing.T, dir string) { drop(t, dir, attest.SignatureFile) },
			[]string{attest.SignatureFile + " not signed: it is not there"}},
		{"no provenance", func(t *testing.T, dir string) { drop(t, dir, attest.ProvenanceFile) },
			[]string{attest.ProvenanceFile + " not there"}},
		{"no SBOM", func(t *testing.T, dir string) { drop(t, dir, attest.SBOMFile) },
			[]string{attest.SBOMFile + " not there"}},
		{"a link to the provenance", func(t *testing.T, dir string) {
			b := read(t, dir, attest.ProvenanceFile)
			put(t, dir, "other", b)
			drop(t, dir, attest.ProvenanceFile)
			if err := os.Symlink("other", filepath.Join(dir, attest.ProvenanceFile)); err != nil {
				t.Fatal(err)
			}
		}, []string{attest.ProvenanceFile + " a link"}},
		{"a deep provenance", func(t *testing.T, dir string) { put(t, dir, attest.ProvenanceFile, deep) },
			[]string{attest.ProvenanceFile + " not an in-toto statement"}},
		{"a deep SBOM", func(t *testing.T, dir string) { put(t, dir, attest.SBOMFile, deep) },
			[]string{attest.SBOMFile + " content was changed"}},
		{"a deep envelope", func(t *testing.T, dir string) { put(t, dir, attest.SignatureFile, deep) },
			[]string{attest.SignatureFile + " no signature of this build"}},
		{"a huge provenance", huge(attest.ProvenanceFile), []string{attest.ProvenanceFile + " at most"}},
		{"a huge SBOM", huge(attest.SBOMFile), []string{attest.SBOMFile + " at most"}},
		{"a huge envelope", huge(attest.SignatureFile), []string{attest.SignatureFile + " at most"}},
		{"a dependency", func(t *testing.T, dir string) {
			rewritten(t, dir, func(st map[string]any) {
				d := st["predicate"].(map[string]any)["buildDefinition"].(map[string]any)
				d["resolvedDependencies"] = d["resolvedDependencies"].([]any)[1:]
			})
			resign(t, dir, key) // by mistake, the right one
		}, []string{attest.ProvenanceFile + " lack what the lock has: kernel linux-source-5.10"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, _ := described(t)
			sign(t, dir, key)
			tt.attack(t, dir)
			v, err := Verify(t.Context(), dir, []*attest.PublicKey{pub})
			if err != nil {
				t.Fatal(err)
			}
			wantFaults(t, v, tt.want)
		})
	}
}

// A signature of another statement is reported even without a key.
func TestVerifyOutdatedSignature(t *testing.T) {
	dir, _ := described(t)
	key, _ := attesttest.Key(t)
	sign(t, dir, key)
	put(t, dir, attest.SignatureFile, []byte("{}\n"))
	v, err := Verify(t.Context(), dir, nil)
	if err != nil || len(v.Faults) != 1 || v.Faults[0].Path != attest.SignatureFile {
		t.Errorf("%+v (%v)", v, err)
	}
}

func TestSignRefuses(t *testing.T) {
	dir, _ := described(t)
	key, _ := attesttest.Key(t)
	put(t, dir, "bzImage", []byte("changed"))
	v, err := openTestDir(t, dir).SignUnchanged(t.Context(), key, nil)
	if err != nil || len(v.Faults) != 1 {
		t.Errorf("%+v (%v)", v, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, attest.SignatureFile)); !isAbsent(err) {
		t.Error("what was changed has been signed")
	}
	if _, err := openTestDir(t, t.TempDir()).SignUnchanged(t.Context(), key, nil); !isAbsent(err) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := openTestDir(t, built(t)).SignUnchanged(t.Context(), key, nil); err == nil ||
		!strings.Contains(err.Error(), "build it again") {
		t.Errorf("an older kimg's: %v", err)
	}
}

// A build takes the signature of the earlier one away, and keeps that of the same.
func TestBuildSigns(t *testing.T) {
	dir, l := described(t)
	key, pub := attesttest.Key(t)
	build := func(key *attest.Key) {
		if err := openTestDir(t, dir).Sign(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	build(nil)
	if _, err := os.Lstat(filepath.Join(dir, attest.SignatureFile)); !isAbsent(err) {
		t.Error("without a key there is a signature")
	}
	build(key)
	first, err := statFile(filepath.Join(dir, attest.SignatureFile))
	if err != nil {
		t.Fatal(err)
	}
	build(nil)
	build(key)
	if again, err := statFile(filepath.Join(dir, attest.SignatureFile)); err != nil || again != first {
		t.Errorf("the same signature was written again (%v)", err)
	}
	if v, err := Verify(t.Context(), dir, []*attest.PublicKey{pub}); err != nil || len(v.Faults) > 0 {
		t.Errorf("%+v (%v)", v, err)
	}
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Build.Kernel, m.Documents = "9.9", nil
	if _, err := openTestDir(t, dir).WriteManifest(m, l); err != nil {
		t.Fatal(err)
	}
	build(nil)
	if _, err := os.Lstat(filepath.Join(dir, attest.SignatureFile)); !isAbsent(err) {
		t.Error("the signature of another build was left")
	}
}

func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func drop(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// resign replaces the signatures by one key's, of the statement that is there.
func resign(t *testing.T, dir string, key *attest.Key) {
	t.Helper()
	bundle, err := attest.Sign(t.Context(), nil, read(t, dir, attest.ProvenanceFile), key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, attest.SignatureFile, bundle)
}

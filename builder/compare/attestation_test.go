package compare

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/internal/artifact"
)

// testBuild is what the documents are about.
func testBuild() attest.Build {
	dash := attest.Material{
		Kind: attest.Package, Name: "dash", Version: "0.5-1", Digest: sum("dash"), For: attest.RootFS,
		URI: "pkg:deb/debian/dash@0.5-1",
	}
	tool := dash
	tool.For = "toolchain trixie"
	return attest.Build{
		Builder: attest.Builder("1"), Kernel: "6.12.1", Suite: "trixie", Epoch: time.Unix(17, 0),
		Requested: map[string]any{"suite": "trixie"}, Chosen: map[string]any{"epoch": 17},
		Artifacts: []attest.Artifact{
			{Path: artifact.Config, SHA256: sum("config")}, {Path: artifact.Disk, SHA256: sum("image")},
		},
		Materials: []attest.Material{
			{Kind: attest.Kernel, Name: "linux", Version: "6.12.1", Digest: sum("kernel"), For: "kernel"},
			dash, tool,
			{Kind: attest.Patch, Name: "0001.patch", Digest: sum("patch"), For: "kernel"},
		},
	}
}

// describe writes the documents of a build into a directory.
func describe(t testing.TB, dir string, b attest.Build) {
	t.Helper()
	statement, err := attest.Provenance(b)
	if err != nil {
		t.Fatal(err)
	}
	sbom, err := attest.SBOM(b)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, artifact.Provenance, string(statement))
	put(t, dir, artifact.SBOM, string(sbom))
}

func TestAttestations(t *testing.T) {
	run := func(edit func(*attest.Build), change func(dir string)) *Report {
		t.Helper()
		a, b := outDir(t, text(t, testManifest())), outDir(t, text(t, testManifest()))
		describe(t, a, testBuild())
		other := testBuild()
		edit(&other)
		describe(t, b, other)
		change(b)
		r, err := Dirs(context.Background(), a, b)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	same, unchanged := func(*attest.Build) {}, func(string) {}
	if r := run(same, unchanged); !r.Same() || len(r.Notes) > 0 {
		t.Errorf("the same: %+v", r)
	}
	r := run(func(b *attest.Build) { b.Builder = attest.Builder("2") }, unchanged)
	note := "provenance.json: written by " + attest.Builder("1") + ", and by " + attest.Builder("2")
	if !r.Same() || len(r.Notes) != 1 || r.Notes[0] != note {
		t.Errorf("another kimg: %+v", r)
	}
	r = run(same, func(dir string) {
		if err := os.Remove(filepath.Join(dir, artifact.SBOM)); err != nil {
			t.Fatal(err)
		}
	})
	if !r.Same() || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "only one") {
		t.Errorf("an older kimg: %+v", r)
	}
	for _, tt := range []struct {
		edit        func(*attest.Build)
		where, a, b string
		cause       Cause
	}{
		{func(b *attest.Build) { b.Artifacts[0].SHA256 = sum("") },
			"provenance.json subjects[config].sha256", string(sum("config")), string(sum("")), Follows},
		{func(b *attest.Build) { b.Requested["suite"] = "sid" }, "provenance.json requested.suite",
			"trixie", "sid", Config},
		{func(b *attest.Build) { b.Materials[1].Version = "0.5-2" },
			"provenance.json inputs[rootfs package dash]", "0.5-1", "0.5-2", Package},
		{func(b *attest.Build) { b.Materials[3].Digest = sum("") },
			"provenance.json inputs[kernel patch 0001.patch].sha256", string(sum("patch")), string(sum("")), Source},
		{func(b *attest.Build) { b.Materials[1].Version = "0.5-2" },
			"sbom.spdx.json packages[package dash]", "0.5-1", "0.5-2", Package},
		{func(b *attest.Build) { b.Artifacts[1].SHA256 = sum("") },
			"sbom.spdx.json packages[OPERATING_SYSTEM rootfs.img].sha256",
			string(sum("image")), string(sum("")), Follows},
		{func(b *attest.Build) { b.Materials[1].For = "toolchain trixie-deb" },
			"sbom.spdx.json relationships.rootfs.img CONTAINS dash", "there", "", Follows},
	} {
		if d := has(t, run(tt.edit, unchanged), tt.where); d.A != tt.a || d.B != tt.b || d.Cause != tt.cause {
			t.Errorf("%s: %+v", tt.where, d)
		}
	}
	// What follows from an artifact is not reported beside it.
	r = run(func(b *attest.Build) { b.Artifacts[0].SHA256 = sum("") }, func(dir string) {
		put(t, dir, artifact.Config, strings.Replace(configText, "A=y", "A=n", 1))
	})
	for _, d := range r.Differences {
		if d.Artifact == artifact.Provenance {
			t.Errorf("reported twice: %+v", d)
		}
	}
}

func TestHostileAttestations(t *testing.T) {
	deep := strings.Repeat(`{"packages":[`, 20_000)
	for _, text := range []string{"", "[]", "{}", `{"packages": {"a": 1}, "subject": "x", "predicate": []}`,
		`{"packages": [1, null, {"checksums": [1]}], "relationships": [null]}`, deep} {
		for _, name := range []string{artifact.Provenance, artifact.SBOM} {
			if r := compareText(t, name, text, text+" "); r.Same() {
				t.Errorf("%s: %.40q is the same with a space behind it", name, text)
			}
		}
	}
}

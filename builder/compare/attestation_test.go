package compare

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const provenanceText = `{"_type": "https://in-toto.io/Statement/v1",
"subject": [{"name": "config", "digest": {"sha256": "aa"}}], "predicateType": "https://slsa.dev/provenance/v1",
"predicate": {"buildDefinition": {"buildType": "v1", "externalParameters": {"suite": "trixie"}, "internalParameters": {"epoch": 17},
 "resolvedDependencies": [
 {"name": "dash", "uri": "pkg:deb/debian/dash@0.5-1", "digest": {"sha256": "22"}, "annotations": {"kind": "package", "for": "rootfs", "version": "0.5-1"}},
 {"name": "dash", "uri": "pkg:deb/debian/dash@0.5-1", "digest": {"sha256": "22"}, "annotations": {"kind": "package", "for": "toolchain trixie", "version": "0.5-1"}},
 {"name": "0001.patch", "digest": {"sha256": "33"}, "annotations": {"kind": "patch", "for": "kernel"}}]},
 "runDetails": {"builder": {"id": "kimg@1"}}}}`

const sbomText = `{"spdxVersion": "SPDX-2.3", "documentNamespace": "one", "packages": [
 {"name": "dash", "SPDXID": "SPDXRef-dash", "versionInfo": "0.5-1", "checksums": [{"algorithm": "SHA256", "checksumValue": "22"}]},
 {"name": "rootfs.img", "SPDXID": "SPDXRef-image", "primaryPackagePurpose": "OPERATING_SYSTEM", "checksums": [{"algorithm": "SHA256", "checksumValue": "44"}]}],
 "relationships": [{"spdxElementId": "SPDXRef-image", "relatedSpdxElement": "SPDXRef-dash", "relationshipType": "CONTAINS"}]}`

func TestAttestations(t *testing.T) {
	replace := func(name, text, old, new string) func(string) {
		if !strings.Contains(text, old) {
			t.Fatalf("there is no %q", old)
		}
		return func(dir string) { put(t, dir, name, strings.Replace(text, old, new, 1)) }
	}
	run := func(changes ...func(dir string)) *Report {
		t.Helper()
		a, b := outDir(t, manifestText), outDir(t, manifestText)
		for _, dir := range []string{a, b} {
			put(t, dir, provenanceFile, provenanceText)
			put(t, dir, sbomFile, sbomText)
		}
		for _, change := range changes {
			change(b)
		}
		r, err := Dirs(context.Background(), a, b)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	remove := func(name string) func(string) {
		return func(dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r := run(); !r.Same() || len(r.Notes) > 0 {
		t.Errorf("the same: %+v", r)
	}
	if r := run(replace(provenanceFile, provenanceText, "kimg@1", "kimg@2")); !r.Same() || len(r.Notes) != 1 || r.Notes[0] != "provenance.json: written by kimg@1, and by kimg@2" {
		t.Errorf("another kimg: %+v", r)
	}
	if r := run(remove(sbomFile)); !r.Same() || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "only one") {
		t.Errorf("an older kimg: %+v", r)
	}
	for _, tt := range []struct {
		name, text, old, new string
		where, a, b          string
		cause                Cause
	}{
		{provenanceFile, provenanceText, `"sha256": "aa"`, `"sha256": "bb"`, "subjects[config].sha256", "aa", "bb", Follows},
		{provenanceFile, provenanceText, `"suite": "trixie"`, `"suite": "sid"`, "asked.suite", "trixie", "sid", Config},
		{provenanceFile, provenanceText, `"version": "0.5-1"`, `"version": "0.5-2"`, "inputs[rootfs package dash]", "0.5-1", "0.5-2", Package},
		{provenanceFile, provenanceText, `"sha256": "33"`, `"sha256": "34"`, "inputs[kernel patch 0001.patch].sha256", "33", "34", Source},
		{sbomFile, sbomText, `"versionInfo": "0.5-1"`, `"versionInfo": "0.5-2"`, "packages[package dash]", "0.5-1", "0.5-2", Package},
		{sbomFile, sbomText, `"checksumValue": "44"`, `"checksumValue": "45"`, "packages[OPERATING_SYSTEM rootfs.img].sha256", "44", "45", Follows},
		{sbomFile, sbomText, "CONTAINS", "DEPENDS_ON", "relationships.rootfs.img CONTAINS dash", "there", "", Follows},
	} {
		r := run(replace(tt.name, tt.text, tt.old, tt.new))
		if d := has(t, r, tt.name+" "+tt.where); d.A != tt.a || d.B != tt.b || d.Cause != tt.cause {
			t.Errorf("%s for %s: %+v", tt.new, tt.old, d)
		}
	}
	// What follows from an artifact is not told beside it.
	r := run(func(dir string) { put(t, dir, "config", "#\n# Linux/x86 6.12.1 Kernel Configuration\n#\nCONFIG_A=n\n") },
		replace(provenanceFile, provenanceText, `"sha256": "aa"`, `"sha256": "bb"`))
	for _, d := range r.Differences {
		if d.Artifact == provenanceFile {
			t.Errorf("told twice: %+v", d)
		}
	}
}

func TestHostileAttestations(t *testing.T) {
	deep := strings.Repeat(`{"packages":[`, 20_000)
	for _, text := range []string{"", "[]", "{}", `{"packages": {"a": 1}, "subject": "x", "predicate": []}`, `{"packages": [1, null, {"checksums": [1]}], "relationships": [null]}`, deep} {
		for _, name := range []string{provenanceFile, sbomFile} {
			if r := compareText(t, name, text, text+" "); r.Same() {
				t.Errorf("%s: %.40q is the same with a space behind it", name, text)
			}
		}
	}
}

package attest

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/package-url/packageurl-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/kimg/kimg/internal/units"
)

func sum(s string) units.Digest { return units.DigestOf([]byte(s)) }

// fixture is a build of every kind of material.
func fixture() Build {
	deb := func(name, version, what string) Material {
		return Material{Kind: Package, Name: name, Version: version, For: what, Supplier: "Debian",
			File: "pool/main/x/" + name + ".deb",
			URI:  DebURL("debian", "trixie", name, version, "amd64"), Digest: sum(name)}
	}
	return Build{
		Builder: Builder("v1.2.3"), Kernel: "6.12.8", Suite: "trixie", Epoch: time.Unix(1_700_000_000, 0),
		Requested: map[string]any{"kernel": "6.12.8", "suite": "trixie", "include": List([]string{"a<b", "c"})},
		Chosen:    map[string]any{"compiler": "gcc-14", "epoch": int64(1_700_000_000)},
		Artifacts: []Artifact{
			{"bzImage", sum("bzImage")}, {"modules.tar", sum("modules")}, {"rootfs.img", sum("image")},
			{"scripts/gdb/a_b.py", sum("")}, {"scripts/gdb/a-b.py", sum("")},
		},
		Materials: []Material{
			{Kind: Kernel, Name: "linux-6.12.8.tar.xz", Version: "6.12.8",
				URI: "https://example.org/linux-6.12.8.tar.xz", Digest: sum("kernel"), For: "kernel",
				SignedBy: []string{"B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1"}},
			{Kind: Patch, Name: "0001-fix.patch", Digest: sum("patch"), For: "kernel"},
			{Kind: Config, Name: "debug.config", Digest: sum("config"), For: "kernel"},
			{Kind: Index, Name: "trixie", URI: "https://example.org/InRelease",
				Digest: sum("index"), For: RootFS, Date: time.Unix(1_700_000_000, 0)},
			deb("libstdc++6", "14.2.0-19", RootFS), deb("bsdutils", "1:2.41-5", RootFS),
			deb("gcc-14", "14.2.0-19", "toolchain trixie"),
			{Kind: Lock, Name: "kimg.lock", Digest: sum("lock"), For: "all"},
		},
	}
}

func provenance(t *testing.T, b Build) []byte {
	t.Helper()
	text, err := Provenance(b)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestProvenance(t *testing.T) {
	text := provenance(t, fixture())
	if again := provenance(t, fixture()); !bytes.Equal(text, again) {
		t.Errorf("the same build has two statements:\n%s\n%s", text, again)
	}
	if wrong := Check(text, fixture()); len(wrong) > 0 {
		t.Errorf("it is not what was written: %q", wrong)
	}
	var st struct {
		Type    string `json:"_type"`
		Subject []struct {
			Name   string            `json:"name"`
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string `json:"predicateType"`
		Predicate     struct {
			BuildDefinition struct {
				ResolvedDependencies []struct {
					Name, URI string
					Digest    map[string]string
				} `json:"resolvedDependencies"`
			} `json:"buildDefinition"`
			RunDetails struct {
				Builder  struct{ ID string }
				Metadata any
			} `json:"runDetails"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(text, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != "https://in-toto.io/Statement/v1" || st.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("it is a %q with a %q", st.Type, st.PredicateType)
	}
	if len(st.Subject) != 5 || st.Subject[2].Name != "rootfs.img" ||
		st.Subject[2].Digest["sha256"] != string(sum("image")) {
		t.Errorf("subjects %v", st.Subject)
	}
	deps := st.Predicate.BuildDefinition.ResolvedDependencies
	if len(deps) != 8 || deps[4].URI != "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie" ||
		deps[4].Digest["sha256"] != string(sum("libstdc++6")) {
		t.Errorf("dependencies %v", deps)
	}
	if r := st.Predicate.RunDetails; r.Builder.ID != "https://github.com/kimg/kimg@v1.2.3" || r.Metadata != nil {
		t.Errorf("run details %v", r)
	}
	if !bytes.Contains(text, []byte("a<b")) {
		t.Error("a request is spelled in another way")
	}
	if by := BuilderOf(text); by != Builder("v1.2.3") {
		t.Errorf("its builder is %q", by)
	}
}

func TestDirectory(t *testing.T) {
	b := fixture()
	b.Materials[0] = Material{
		Kind: Kernel, Name: "linux", Version: "6.12.8", Digest: sum("tree"), For: "kernel", Tree: true,
	}
	if text := string(provenance(t, b)); !strings.Contains(text, `"kimgTree": "`+string(sum("tree"))) ||
		strings.Contains(text, `"sha256": "`+string(sum("tree"))) {
		t.Error("the digest of a directory is given as one of a file")
	}
	doc := readSBOM(t, b)
	for _, p := range doc.Packages {
		if p.PackageName == "linux" &&
			(len(p.PackageChecksums) > 0 || !strings.Contains(p.PackageSourceInfo, string(sum("tree")))) {
			t.Errorf("%+v", p)
		}
	}
}

// Each change of a statement is reported, by what was changed.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(b *Build)
		want string
	}{
		{"a subject less", func(b *Build) { b.Artifacts = b.Artifacts[:2] },
			"subjects lack rootfs.img, scripts/gdb/a-b.py, scripts/gdb/a_b.py"},
		{"a subject more", func(b *Build) { b.Artifacts = append(b.Artifacts, Artifact{"evil", sum("")}) },
			"subject evil is not an artifact"},
		{"another subject", func(b *Build) { b.Artifacts[0].SHA256 = sum("") }, "subject bzImage has another sha256"},
		{"a subject twice", func(b *Build) { b.Artifacts = append(b.Artifacts, b.Artifacts[0]) },
			"the subject bzImage twice"},
		{"a request", func(b *Build) { b.Requested["suite"] = "sid" },
			"externalParameters are not those of the lock and the manifest: suite"},
		{"no request", func(b *Build) { delete(b.Requested, "kernel") }, "manifest: kernel"},
		{"a choice", func(b *Build) { b.Chosen["epoch"] = int64(1) }, "internalParameters are not"},
		{"a dependency less", func(b *Build) { b.Materials = b.Materials[1:] },
			"lack what the lock has: kernel linux-6.12.8.tar.xz (for kernel)"},
		{"a dependency more", func(b *Build) {
			b.Materials = append(b.Materials, Material{Kind: Package, Name: "x", For: RootFS, Digest: sum("")})
		}, "have what the lock does not: package x (for rootfs)"},
		{"another digest", func(b *Build) { b.Materials[6].Digest = sum("") },
			"another digest or origin than the lock: package gcc-14"},
		{"another signer", func(b *Build) { b.Materials[0].SignedBy = nil },
			"another digest or origin than the lock: kernel"},
		{"a dependency twice", func(b *Build) { b.Materials = append(b.Materials, b.Materials[0]) },
			"have what the lock does not: kernel linux-6.12.8.tar.xz (for kernel), number 2"},
		{"one in place of another", func(b *Build) { b.Materials[1] = b.Materials[0] },
			"lack what the lock has: patch"},
		{"another builder", func(b *Build) { b.Builder = "https://example.org/builder" }, "not a kimg"},
	} {
		b := fixture()
		tt.edit(&b)
		wrong := Check(provenance(t, b), fixture())
		if !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, tt.want) }) {
			t.Errorf("%s: got %q, want %q", tt.name, wrong, tt.want)
		}
	}
	two, swapped := fixture(), fixture()
	for _, b := range []*Build{&two, &swapped} {
		b.Materials = append(b.Materials,
			Material{Kind: Patch, Name: "0001-fix.patch", Digest: sum("another patch"), For: "kernel"})
	}
	if wrong := Check(provenance(t, two), two); len(wrong) > 0 {
		t.Errorf("two patches of one name: %q", wrong)
	}
	swapped.Materials[1].Digest = sum("a third")
	if wrong := Check(provenance(t, swapped), two); len(wrong) != 1 {
		t.Errorf("one of two patches of one name: %q", wrong)
	}
	b := fixture()
	b.Builder = Builder("v9")
	if wrong := Check(provenance(t, b), fixture()); len(wrong) > 0 {
		t.Errorf("another kimg: %q", wrong)
	}
}

func TestCheckHostile(t *testing.T) {
	good := string(provenance(t, fixture()))
	for name, tt := range map[string]struct{ text, want string }{
		"nothing": {"", "not an in-toto statement"},
		"deep":    {strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), "not an in-toto statement"},
		"deep inside": {strings.Replace(good, `"compiler": "gcc-14"`,
			`"compiler": `+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000), 1), "not an in-toto statement"},
		"huge":         {strings.Repeat(" ", MaxDocument) + good, "more than"},
		"cut off":      {good[:len(good)/2], "not an in-toto statement"},
		"a field more": {strings.Replace(good, `"subject"`, `"extra": 1, "subject"`, 1), "not an in-toto statement"},
		"twice": {strings.Replace(good, `"predicateType"`, `"subject": [], "predicateType"`, 1),
			"not an in-toto statement"},
		"a field inside": {strings.Replace(good, `"buildType"`, `"extra": 1, "buildType"`, 1),
			"not valid SLSA provenance"},
		"no subjects": {`{"_type": "https://in-toto.io/Statement/v1", ` +
			`"predicateType": "https://slsa.dev/provenance/v1", "predicate": {}}`, "not a valid in-toto statement"},
		"a predicate": {strings.Replace(good, "slsa.dev/provenance/v1", "slsa.dev/provenance/v0.2", 1),
			"not SLSA provenance"},
		"a build type": {strings.Replace(good, "#build-type-v1", "#build-type-v2", 1), "does not know"},
		"when it began": {strings.Replace(good, `"runDetails": {`,
			`"runDetails": {"metadata": {"startedOn": "2026-01-01T00:00:00Z"}, `, 1), "more than the builder"},
	} {
		wrong := Check([]byte(tt.text), fixture())
		if !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, tt.want) }) {
			t.Errorf("%s: got %.300q, want %q", name, wrong, tt.want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	good, err := Provenance(fixture())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"00"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if wrong := Check(text, fixture()); len(wrong) == 0 && !bytes.Contains(text, []byte(sum("image"))) {
			t.Errorf("passed without the image's digest: %q", text)
		}
	})
}

func readSBOM(t *testing.T, b Build) *spdx.Document {
	t.Helper()
	text, err := SBOM(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema(t, text); err != nil {
		t.Errorf("not by SPDX's schema: %v", err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	return doc
}

// schema holds a document against SPDX's own schema.
func schema(t *testing.T, text []byte) error {
	t.Helper()
	f, err := os.Open("testdata/spdx-schema-2.3.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("spdx.json", raw); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func TestSchemaRefuses(t *testing.T) {
	good, err := SBOM(fixture())
	if err != nil {
		t.Fatal(err)
	}
	for was, is := range map[string]string{
		`"CONTAINS"`: `"HOLDS"`, `"SHA256"`: `"SHA-256"`, `"creators"`: `"makers"`, `"packageFileName"`: `"filename"`,
	} {
		if err := schema(t, bytes.Replace(good, []byte(was), []byte(is), 1)); err == nil {
			t.Errorf("with %s for %s it is let pass", is, was)
		}
	}
}

func TestSBOM(t *testing.T) {
	doc := readSBOM(t, fixture())
	if doc.CreationInfo.Created != "2023-11-14T22:13:20Z" || len(doc.CreationInfo.Creators) != 1 {
		t.Errorf("created %v", doc.CreationInfo)
	}
	byID := map[common.ElementID]*spdx.Package{}
	for _, p := range doc.Packages {
		if byID[p.PackageSPDXIdentifier] != nil {
			t.Errorf("two elements are called %s", p.PackageSPDXIdentifier)
		}
		byID[p.PackageSPDXIdentifier] = p
	}
	if len(byID) != 9 {
		t.Errorf("%d packages: artifacts, kernel, patch and the root filesystem's make 9", len(byID))
	}
	var got []string
	for _, r := range doc.Relationships {
		a, b := "document", byID[r.RefB.ElementRefID].PackageName
		if p := byID[r.RefA.ElementRefID]; p != nil {
			a = p.PackageName
		}
		got = append(got, a+" "+r.Relationship+" "+b)
	}
	for _, want := range []string{
		"document DESCRIBES rootfs.img", "rootfs.img CONTAINS libstdc++6", "rootfs.img CONTAINS bsdutils",
		"rootfs.img CONTAINS modules.tar",
		"bzImage GENERATED_FROM linux", "0001-fix.patch PATCH_FOR linux",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("it does not tell %q: %q", want, got)
		}
	}
	i := slices.IndexFunc(doc.Packages, func(p *spdx.Package) bool { return p.PackageName == "bsdutils" })
	p := doc.Packages[i]
	purl, err := packageurl.FromString(p.PackageExternalReferences[0].Locator)
	if err != nil || purl.Name != "bsdutils" || purl.Version != "1:2.41-5" ||
		purl.Qualifiers.Map()["distro"] != "trixie" {
		t.Errorf("package URL %v (%v)", purl, err)
	}
	if p.PackageVersion != "1:2.41-5" || p.PackageSupplier.Supplier != "Debian" ||
		p.PackageLicenseDeclared != "NOASSERTION" ||
		p.PackageChecksums[0] != (common.Checksum{Algorithm: common.SHA256, Value: string(sum("bsdutils"))}) {
		t.Errorf("%+v", p)
	}
	i = slices.IndexFunc(doc.Packages, func(p *spdx.Package) bool { return p.PackageName == "linux" })
	if p := doc.Packages[i]; p.PackageLicenseDeclared != kernelLicence ||
		p.PackageDownloadLocation != "https://example.org/linux-6.12.8.tar.xz" {
		t.Errorf("%+v", p)
	}
}

func TestSBOMName(t *testing.T) {
	one, two := readSBOM(t, fixture()), readSBOM(t, fixture())
	if one.DocumentNamespace != two.DocumentNamespace {
		t.Error("the same document has two names")
	}
	b := fixture()
	b.Materials[4].Digest = sum("other")
	if other := readSBOM(t, b); other.DocumentNamespace == one.DocumentNamespace {
		t.Error("two documents have one name")
	}
	b = fixture()
	b.Builder = Builder("v9")
	if other := readSBOM(t, b); other.DocumentNamespace != one.DocumentNamespace {
		t.Error("another kimg gives the same packages another name")
	}
}

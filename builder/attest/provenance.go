package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/package-url/packageurl-go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// predicateType is that of SLSA provenance, version 1 (slsa.dev/spec/v1.0/provenance).
const predicateType = "https://slsa.dev/provenance/v1"

// treeDigest is the name, in a digest set, of kimg's own digest of a directory: the sha256 in hexadecimal of its
// files' names and contents. dirHash does not serve: it covers neither links nor whether a file is executable.
const treeDigest = "kimgTree"

// Provenance is the text of a build's statement about its artifacts.
func Provenance(b Build) ([]byte, error) {
	p, err := predicate(b)
	if err != nil {
		return nil, fmt.Errorf("write provenance: %w", err)
	}
	st := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: predicateType}
	for _, a := range b.Artifacts {
		digest := map[string]string{"sha256": string(a.SHA256)}
		st.Subject = append(st.Subject, &intoto.ResourceDescriptor{Name: a.Path, Digest: digest})
	}
	st.Predicate = &structpb.Struct{}
	text, err := protojson.Marshal(p)
	if err == nil {
		err = protojson.Unmarshal(text, st.Predicate)
	}
	if err == nil {
		err = st.Validate()
	}
	if err == nil {
		text, err = protojson.Marshal(st)
	}
	if err != nil {
		return nil, fmt.Errorf("write provenance: %w", err)
	}
	// protojson varies its white space on purpose.
	var bare, out bytes.Buffer
	if err := json.Compact(&bare, text); err != nil {
		return nil, fmt.Errorf("write provenance: %w", err)
	}
	if err := json.Indent(&out, bare.Bytes(), "", "  "); err != nil {
		return nil, fmt.Errorf("write provenance: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func predicate(b Build) (*slsa.Provenance, error) {
	d := &slsa.BuildDefinition{BuildType: BuildType}
	var err error
	if d.ExternalParameters, err = structpb.NewStruct(b.Requested); err != nil {
		return nil, err
	}
	if d.InternalParameters, err = structpb.NewStruct(b.Chosen); err != nil {
		return nil, err
	}
	for _, m := range b.Materials {
		r, err := descriptor(m)
		if err != nil {
			return nil, err
		}
		d.ResolvedDependencies = append(d.ResolvedDependencies, r)
	}
	p := &slsa.Provenance{BuildDefinition: d, RunDetails: &slsa.RunDetails{Builder: &slsa.Builder{Id: b.Builder}}}
	return p, p.Validate()
}

func descriptor(m Material) (*intoto.ResourceDescriptor, error) {
	r := &intoto.ResourceDescriptor{Name: m.Name, Uri: m.URI, Digest: map[string]string{"sha256": string(m.Digest)}}
	if m.Tree {
		r.Digest = map[string]string{treeDigest: string(m.Digest)}
	}
	notes := map[string]any{"kind": string(m.Kind), "for": m.For}
	if m.Version != "" {
		notes["version"] = m.Version
	}
	if !m.Date.IsZero() {
		notes["date"] = m.Date.UTC().Format("2006-01-02T15:04:05Z")
	}
	if len(m.SignedBy) > 0 {
		notes["signedBy"] = List(m.SignedBy)
	}
	if m.Unsigned {
		notes["unsigned"] = true
	}
	var err error
	r.Annotations, err = structpb.NewStruct(notes)
	return r, err
}

// List is a list in the form of Build.Requested and Build.Chosen.
func List(words []string) []any {
	l := make([]any, len(words))
	for i, w := range words {
		l[i] = w
	}
	return l
}

// readStatement reads what Provenance writes, and refuses what has more in it.
func readStatement(text []byte) (*intoto.Statement, *slsa.Provenance, error) {
	if len(text) > MaxDocument {
		return nil, nil, fmt.Errorf("it has more than %d bytes", MaxDocument)
	}
	st := &intoto.Statement{}
	if err := protojson.Unmarshal(text, st); err != nil {
		return nil, nil, fmt.Errorf("it is not an in-toto statement: %w", err)
	}
	if err := st.Validate(); err != nil {
		return nil, nil, fmt.Errorf("it is not a valid in-toto statement: %w", err)
	}
	if st.PredicateType != predicateType {
		return nil, nil, fmt.Errorf("its predicate is %q, not SLSA provenance", st.PredicateType)
	}
	// Its build type is read first: one of another kimg may have other fields.
	definition := st.Predicate.GetFields()["buildDefinition"].GetStructValue()
	if is := definition.GetFields()["buildType"].GetStringValue(); is != BuildType {
		return nil, nil, fmt.Errorf("its build type is %q, which this kimg does not know", is)
	}
	p := &slsa.Provenance{}
	raw, err := protojson.Marshal(st.Predicate)
	if err == nil {
		err = protojson.Unmarshal(raw, p)
	}
	if err == nil {
		err = p.Validate()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("it is not valid SLSA provenance: %w", err)
	}
	return st, p, nil
}

// BuilderOf is the builder that a statement names; empty: the statement is not kimg's.
func BuilderOf(text []byte) string {
	_, p, err := readStatement(text)
	if err != nil {
		return ""
	}
	return p.RunDetails.Builder.Id
}

// sameRun reports whether two statements' run details are the same, apart from the builder's id.
func sameRun(a, b *slsa.RunDetails) bool {
	x, y := proto.CloneOf(a), proto.CloneOf(b)
	x.Builder.Id, y.Builder.Id = "", ""
	return proto.Equal(x, y)
}

// DebURL is the package URL of a binary package of a distribution, such as
// pkg:deb/debian/dpkg@1.22.21?arch=amd64&distro=trixie.
func DebURL(family, suite, name, version, arch string) string {
	q := packageurl.QualifiersFromMap(map[string]string{"arch": arch, "distro": suite})
	return packageurl.NewPackageURL(packageurl.TypeDebian, family, name, version, q, "").ToString()
}

// OtherDebURL is the package URL of a Debian package from another archive than a distribution's own. Its vendor is
// whom the archive says that it is from, and else its host; where it is is told in any case.
func OtherDebURL(archive, origin, suite, name, version, arch string) string {
	vendor := strings.ToLower(strings.Join(strings.Fields(origin), "-"))
	if u, err := url.Parse(archive); vendor == "" && err == nil {
		vendor = u.Hostname()
	}
	about := map[string]string{"arch": arch, "repository_url": archive}
	if !strings.HasSuffix(suite, "/") { // else a directory
		about["distro"] = suite
	}
	q := packageurl.QualifiersFromMap(about)
	return packageurl.NewPackageURL(packageurl.TypeDebian, vendor, name, version, q, "").ToString()
}

package attest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// maxNamed is how many things of one kind Check names.
const maxNamed = 3

// Check compares a statement with the build that it should be about, and returns what
// is wrong, for users to read. The builder need not be the Build's, but must be a kimg.
func Check(text []byte, b Build) []string {
	st, got, err := readStatement(text)
	if err != nil {
		return []string{err.Error()}
	}
	want, err := predicate(b)
	if err != nil {
		return []string{err.Error()}
	}
	wrong := checkSubjects(st.Subject, b.Artifacts)
	d, w := got.BuildDefinition, want.BuildDefinition
	wrong = append(wrong, checkParameters("externalParameters", d.ExternalParameters, w.ExternalParameters)...)
	wrong = append(wrong, checkParameters("internalParameters", d.InternalParameters, w.InternalParameters)...)
	wrong = append(wrong, checkMaterials(d.ResolvedDependencies, w.ResolvedDependencies)...)
	if id := got.RunDetails.Builder.Id; !strings.HasPrefix(id, Builder("")) {
		wrong = append(wrong, fmt.Sprintf("its builder is %q, which is not a kimg", id))
	}
	if !sameRun(got.RunDetails, want.RunDetails) {
		wrong = append(wrong, "its runDetails have more than the builder")
	}
	return wrong
}

func checkSubjects(got []*intoto.ResourceDescriptor, artifacts []Artifact) []string {
	want := map[string]string{}
	for _, a := range artifacts {
		want[a.Path] = string(a.SHA256)
	}
	var twice, other, strange []string
	seen := map[string]bool{}
	for _, s := range got {
		sum, known := want[s.Name]
		switch {
		case seen[s.Name]:
			twice = append(twice, s.Name)
		case !known:
			strange = append(strange, s.Name)
		case s.Digest["sha256"] != sum:
			other = append(other, s.Name)
		}
		seen[s.Name] = true
	}
	var missing []string
	for name := range want {
		if !seen[name] {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return describe([]finding{
		{"its subjects lack %s, which the build made", missing},
		{"its subject %s has another sha256 than the build's", other},
		{"its subject %s is not an artifact of the build", strange},
		{"it has the subject %s twice", twice},
	})
}

func checkParameters(what string, got, want *structpb.Struct) []string {
	var other []string
	all := maps.Clone(got.GetFields())
	if all == nil {
		all = map[string]*structpb.Value{}
	}
	maps.Copy(all, want.GetFields())
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !proto.Equal(got.GetFields()[key], want.GetFields()[key]) {
			other = append(other, key)
		}
	}
	return describe([]finding{{"its " + what + " are not those of the lock and the manifest: %s", other}})
}

func checkMaterials(got, want []*intoto.ResourceDescriptor) []string {
	index := func(list []*intoto.ResourceDescriptor) map[string]*intoto.ResourceDescriptor {
		by := map[string]*intoto.ResourceDescriptor{}
		for _, r := range list {
			notes := r.Annotations.GetFields()
			name := fmt.Sprintf("%s %s (for %s)", notes["kind"].GetStringValue(), r.Name, notes["for"].GetStringValue())
			key := name // two of the user's own files may have one name
			for n := 2; by[key] != nil; n++ {
				key = fmt.Sprintf("%s, number %d", name, n)
			}
			by[key] = r
		}
		return by
	}
	g, w := index(got), index(want)
	var missing, other, strange []string
	for _, key := range slices.Sorted(maps.Keys(w)) {
		switch {
		case g[key] == nil:
			missing = append(missing, key)
		case !proto.Equal(g[key], w[key]):
			other = append(other, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(g)) {
		if w[key] == nil {
			strange = append(strange, key)
		}
	}
	return describe([]finding{
		{"its resolvedDependencies lack what the lock has: %s", missing},
		{"its resolvedDependencies have another digest or origin than the lock: %s", other},
		{"its resolvedDependencies have what the lock does not: %s", strange},
	})
}

type finding struct {
	text  string
	names []string
}

func describe(list []finding) (lines []string) {
	for _, f := range list {
		if len(f.names) == 0 {
			continue
		}
		names := strings.Join(f.names[:min(maxNamed, len(f.names))], ", ")
		if more := len(f.names) - maxNamed; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		lines = append(lines, fmt.Sprintf(f.text, names))
	}
	return lines
}

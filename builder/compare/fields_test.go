package compare

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
)

// fields are the places that a document of a type may have, as diffTrees names them
// but for the items of lists, and the types of the items of those lists.
func fields(t reflect.Type, tag string) (places map[string]bool, lists map[string]reflect.Type) {
	places, lists = map[string]bool{}, map[string]reflect.Type{}
	var walk func(where string, t reflect.Type)
	walk = func(where string, t reflect.Type) {
		places[where] = true
		switch t.Kind() {
		case reflect.Pointer:
			walk(where, t.Elem())
		case reflect.Slice:
			if t.Elem().Kind() == reflect.Struct {
				lists[where] = t.Elem()
			}
		case reflect.Struct:
			for f := range t.Fields() {
				name, how, _ := strings.Cut(f.Tag.Get(tag), ",")
				switch {
				case how == "inline":
					walk(where, f.Type)
				case name != "" && f.IsExported():
					walk(strings.TrimPrefix(where+"."+name, "."), f.Type)
				}
			}
		}
	}
	walk("", t)
	return places, lists
}

var (
	manifestType = reflect.TypeFor[outdir.Manifest]()
	lockType     = reflect.TypeFor[spec.Lock]()
)

// TestFieldsAreThere: each field that is written here by its name is one that a
// manifest, a lock, a provenance or an SBOM has. One that was renamed would be compared
// without its cause, or not at all.
func TestFieldsAreThere(t *testing.T) {
	manifest, _ := fields(manifestType, "json")
	lock, _ := fields(lockType, "yaml")
	if !manifest[buildField] {
		t.Errorf("a manifest has no %s", buildField)
	}
	for _, f := range outcomeFields {
		if !manifest[buildField+"."+f] {
			t.Errorf("a manifest's %s has no %s", buildField, f)
		}
	}
	for _, f := range drawnFields {
		if !lock[f] {
			t.Errorf("a lock has no %s", f)
		}
	}
	for _, f := range slices.Concat(itemFields, itemValues) {
		if !hasItemField(f) {
			t.Errorf("no item of a list has a %s", f)
		}
	}
	statement, sbom := documentsOf(t, testBuild())
	others := union(slices.Collect(maps.Keys(provenanceTree(statement))), slices.Collect(maps.Keys(sbomTree(sbom))))
	for _, c := range treeCauses {
		f, _, _ := strings.Cut(c.prefix, "[")
		f = strings.TrimSuffix(f, ".")
		if !manifest[f] && !manifest[buildField+"."+f] && !lock[f] && !slices.Contains(others, f) &&
			c.prefix != oldActions {
			t.Errorf("the rule for %q is about a field that no document has", c.prefix)
		}
	}
}

func hasItemField(name string) bool {
	for typ, tag := range map[reflect.Type]string{manifestType: "json", lockType: "yaml"} {
		_, lists := fields(typ, tag)
		for _, item := range lists {
			if places, _ := fields(item, tag); places[name] {
				return true
			}
		}
	}
	return false
}

// TestFieldsHaveRules: each field of a manifest's build and of a lock has a cause, and
// each list of them has items with names.
func TestFieldsHaveRules(t *testing.T) {
	without := map[string]string{
		"version": "it is of the form, not of the build",
	}
	for typ, tag := range map[reflect.Type]string{reflect.TypeFor[outdir.BuildFacts](): "json", lockType: "yaml"} {
		places, lists := fields(typ, tag)
		for f := range places {
			known := treeCause(f) != "" || treeCause(f+".") != "" || treeCause(f+"[") != "" || without[f] != ""
			if f != "" && !strings.Contains(f, ".") && !known {
				t.Errorf("%s: a difference of %s has no cause", typ, f)
			}
		}
		for f, item := range lists {
			names, _ := fields(item, tag)
			if !slices.ContainsFunc(itemFields, func(k string) bool { return names[k] }) {
				t.Errorf("%s: the items of %s have none of the fields %q", typ, f, itemFields)
			}
		}
	}
}

// TestLockIsKnown: a lock of any name is compared as one.
func TestLockIsKnown(t *testing.T) {
	text, err := (&spec.Lock{}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !isDocument(thing{base: "mine.lock"}, text) {
		t.Errorf("%.80q is not known as a lock", text)
	}
}

// documentsOf are the provenance and the SBOM of a build, as trees.
func documentsOf(t testing.TB, b attest.Build) (statement, sbom map[string]any) {
	t.Helper()
	text, err := attest.Provenance(b)
	if err != nil {
		t.Fatal(err)
	}
	other, err := attest.SBOM(b)
	if err != nil {
		t.Fatal(err)
	}
	statement, sbom, err = two(text, other, func(text []byte) (map[string]any, error) { return readTree(memory(text)) })
	if err != nil {
		t.Fatal(err)
	}
	return statement, sbom
}

// TestTreesOfDocuments: what other tools' forms have is all found where their forms
// have it now.
func TestTreesOfDocuments(t *testing.T) {
	statement, sbom := documentsOf(t, testBuild())
	for name, tree := range map[string]map[string]any{"provenance": provenanceTree(statement), "SBOM": sbomTree(sbom)} {
		for k, v := range tree {
			if leaf(v) == "" {
				t.Errorf("the %s has no %s", name, k)
			}
			if l, ok := v.([]any); ok {
				if m, ok := items(l); !ok || len(m) != len(l) {
					t.Errorf("the %s has %d of %d %s by their names", name, len(m), len(l), k)
				}
				for _, item := range l {
					if s := leaf(get(item, "sha256")); len(s) != 64 {
						t.Errorf("the %s has a %v with the sha256 %q", name, get(item, "name"), s)
					}
				}
			}
		}
	}
	if s := fmt.Sprint(provenanceTree(statement)[builderPlace]); s != attest.Builder("1") {
		t.Errorf("its builder is %q", s)
	}
}

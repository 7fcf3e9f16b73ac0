package compare

import (
	"context"
	"errors"
	"io/fs"
	"maps"

	"github.com/kimg/kimg/internal/artifact"
)

// builderPlace is where a provenance says which kimg wrote it.
const builderPlace = "builder"

// attestations compares the documents of two builds for other tools. They follow from the inputs and the artifacts,
// so they are compared where these are the same. Another builder is not a difference of the builds, nor is an older
// kimg that wrote no such documents.
func (r *Report) attestations(ctx context.Context, a, b string) error {
	if !r.Same() {
		return nil
	}
	for _, name := range artifact.Documents() {
		l, err := inBoth(ctx, name, a, b)
		if errors.Is(err, fs.ErrNotExist) {
			if err := l.missing(name, a, b); err != nil {
				return err
			}
			for _, d := range l.Differences {
				if d.A != d.B && (d.A == "" || d.B == "") {
					r.note("%s: only one of the two has it", name)
				}
			}
			continue
		}
		if err != nil {
			return err
		}
		for _, d := range l.Differences {
			if d.Where == builderPlace {
				r.note("%s: written by %s, and by %s", name, d.A, d.B)
				continue
			}
			r.add(d)
		}
		r.Notes = append(r.Notes, l.Notes...)
	}
	return nil
}

// plainTree is a document's tree in the form of locks' and manifests': with the same fields for the names of items.
func plainTree(base string, tree map[string]any) map[string]any {
	switch base {
	case artifact.Provenance:
		return provenanceTree(tree)
	case artifact.SBOM:
		return sbomTree(tree)
	}
	return tree
}

func provenanceTree(tree map[string]any) map[string]any {
	definition := get(tree, "predicate", "buildDefinition")
	types := []any{tree["_type"], tree["predicateType"], get(definition, "buildType")}
	out := map[string]any{
		builderPlace: get(tree, "predicate", "runDetails", "builder", "id"),
		"requested":  get(definition, "externalParameters"),
		"chosen":     get(definition, "internalParameters"),
		"type":       leaf(types),
	}
	var subjects, inputs []any
	for _, s := range list(tree["subject"]) {
		subjects = append(subjects, map[string]any{"name": get(s, "name"), "sha256": get(s, "digest", "sha256")})
	}
	for _, d := range list(get(definition, "resolvedDependencies")) {
		item := map[string]any{"name": get(d, "name"), "uri": get(d, "uri"), "digest": get(d, "digest")}
		if notes, ok := get(d, "annotations").(map[string]any); ok {
			maps.Copy(item, notes) // kind, for, version among them
		}
		if sum := get(d, "digest", "sha256"); sum != nil {
			item["sha256"] = sum
		}
		inputs = append(inputs, item)
	}
	out["subjects"], out["inputs"] = subjects, inputs
	return out
}

// plainPackage is the kind of a package of which an SBOM says no purpose.
const plainPackage = "package"

func sbomTree(tree map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, tree)
	names := map[string]string{}
	var packages []any
	for _, p := range list(tree["packages"]) {
		item := map[string]any{"kind": plainPackage}
		if m, ok := p.(map[string]any); ok {
			maps.Copy(item, m)
		}
		if purpose := get(p, "primaryPackagePurpose"); purpose != nil {
			item["kind"] = purpose
		}
		item["version"], item["sha256"] = get(p, "versionInfo"), sha256Of(p)
		delete(item, "versionInfo")
		names[leaf(item["SPDXID"])] = leaf(item["name"])
		packages = append(packages, item)
	}
	relations := map[string]any{}
	for _, r := range list(tree["relationships"]) {
		end := func(key string) string {
			id := leaf(get(r, key))
			if name := names[id]; name != "" {
				return name
			}
			return id
		}
		relations[end("spdxElementId")+" "+leaf(get(r, "relationshipType"))+" "+end("relatedSpdxElement")] = "there"
	}
	out["packages"], out["relationships"] = packages, relations
	return out
}

func sha256Of(p any) any {
	for _, c := range list(get(p, "checksums")) {
		if get(c, "algorithm") == "SHA256" {
			return get(c, "checksumValue")
		}
	}
	return nil
}

func get(tree any, keys ...string) any {
	for _, k := range keys {
		m, ok := tree.(map[string]any)
		if !ok {
			return nil
		}
		tree = m[k]
	}
	return tree
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

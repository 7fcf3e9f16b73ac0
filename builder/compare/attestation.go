package compare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/kimg/kimg/internal/artifact"
)

// builderPlace is where a provenance says which kimg wrote it.
const builderPlace = "builder"

// attestations compares what two builds say of themselves to other tools. That
// follows from the inputs and the artifacts: it is told where these are the same.
// Who the builder was is no difference of the builds, nor that an older kimg
// wrote no such documents.
func (r *Report) attestations(ctx context.Context, a, b string) error {
	if !r.Same() {
		return nil
	}
	for _, name := range artifact.Documents() {
		var l Report
		err := l.files(ctx, name, filepath.Join(a, name), filepath.Join(b, name))
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

// plainTree is a document's tree with its items named as those of locks and
// manifests are.
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
	out := map[string]any{
		builderPlace: get(tree, "predicate", "runDetails", "builder", "id"),
		"asked":      get(definition, "externalParameters"),
		"chosen":     get(definition, "internalParameters"),
		"type":       fmt.Sprint(leaf(tree["_type"]), " ", leaf(tree["predicateType"]), " ", leaf(get(definition, "buildType"))),
	}
	var subjects, inputs []any
	for _, s := range list(tree["subject"]) {
		subjects = append(subjects, map[string]any{"name": get(s, "name"), "sha256": get(s, "digest", "sha256")})
	}
	for _, d := range list(get(definition, "resolvedDependencies")) {
		item := map[string]any{"name": get(d, "name"), "uri": get(d, "uri"), "digest": get(d, "digest")}
		if notes, ok := get(d, "annotations").(map[string]any); ok {
			for k, v := range notes { // kind, for, version among them
				item[k] = v
			}
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
	for k, v := range tree {
		if k != "packages" && k != "relationships" {
			out[k] = v
		}
	}
	names := map[string]string{}
	var packages []any
	for _, p := range list(tree["packages"]) {
		item := map[string]any{"kind": plainPackage}
		if m, ok := p.(map[string]any); ok {
			for k, v := range m {
				item[k] = v
			}
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

// get follows keys into a tree; nil where it has none of them.
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

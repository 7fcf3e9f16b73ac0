package compare

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/internal/artifact"
	"go.yaml.in/yaml/v3"
)

// A manifest and a lock are compared as trees, by the names that their items have, and not by the types of packages
// spec and outdir: an older kimg's are compared as well, and a field that this kimg does not know is not lost. The
// names of fields that are written here are held to those types by a test.

// buildField is the part of a manifest that does not depend on where or when.
const buildField = "build"

// outcomeFields are the fields of a manifest's build that say what came of the rest.
var outcomeFields = []string{"artifacts", "steps"}

// drawnFields are the places in a lock of what mke2fs would draw at random.
var drawnFields = []string{"image.uuid", "image.hash-seed"}

// oldActions is what a lock of version 2 called its actions.
const oldActions = "means"

// itemFields name the items of lists, together; of itemValues, the first that an item has is its value in a report.
var (
	itemFields = []string{"for", "kind", "name", "path", "id", "user", "url", "suite"}
	itemValues = []string{"version", "sha256", "action", "inrelease"}
)

// maxDocument bounds a manifest or lock, in bytes.
const maxDocument = 32 << 20

func isDocument(t thing, head []byte) bool {
	known := t.base == artifact.Manifest || t.base == artifact.Lock || slices.Contains(artifact.Documents(), t.base)
	return t.where == "" && (known || bytes.HasPrefix(head, []byte("# Written by kimg: everything outside")))
}

func (r *Report) documents(_ context.Context, t thing, a, b blob, _ changes) error {
	x, y, err := two(a, b, readTree)
	if err != nil {
		return err
	}
	r.trees(t.artifact, plainTree(t.base, x), plainTree(t.base, y))
	return nil
}

func readTree(b blob) (map[string]any, error) {
	p, err := b.bytes(maxDocument)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(p, &tree); err != nil { // JSON is YAML
		return nil, fmt.Errorf("%w: %w", errOpaque, err)
	}
	return tree, nil
}

func (r *Report) trees(artifact string, a, b any) {
	diffTrees("", a, b, func(where, x, y string) {
		r.add(Difference{artifact, where, x, y, treeCause(where)})
	})
}

func diffTrees(where string, a, b any, found func(where, a, b string)) {
	x, okA := a.(map[string]any)
	y, okB := b.(map[string]any)
	if okA && okB {
		for _, k := range keys(x, y) {
			diffTrees(strings.TrimPrefix(where+"."+k, "."), x[k], y[k], found)
		}
		return
	}
	lx, okA := items(a)
	ly, okB := items(b)
	if okA && okB && len(lx)+len(ly) > 0 {
		for _, k := range keys(lx, ly) {
			diffItems(where+"["+k+"]", lx[k], ly[k], found)
		}
		return
	}
	if s, t := leaf(a), leaf(b); s != t {
		found(where, s, t)
	}
}

func diffItems(where string, x, y map[string]any, found func(where, a, b string)) {
	if x == nil || y == nil || leaf(x["version"]) != leaf(y["version"]) {
		found(where, itemText(x), itemText(y))
		return
	}
	diffTrees(where, any(x), any(y), found)
}

func keys[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// items are the items of a list by their names; ok is false where they have none, or two have one name.
func items(v any) (out map[string]map[string]any, ok bool) {
	if v == nil {
		return nil, true
	}
	l, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out = map[string]map[string]any{}
	for _, one := range l {
		m, ok := one.(map[string]any)
		if !ok {
			return nil, false
		}
		var name []string
		for _, k := range itemFields {
			if s := leaf(m[k]); s != "" {
				name = append(name, s)
			}
		}
		key := strings.Join(name, " ")
		if _, twice := out[key]; twice || key == "" {
			return nil, false
		}
		out[key] = m
	}
	return out, true
}

func itemText(m map[string]any) string {
	if m == nil {
		return ""
	}
	for _, k := range itemValues {
		if s := leaf(m[k]); s != "" {
			return s
		}
	}
	return "there"
}

func leaf(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		var l []string
		for _, one := range v {
			l = append(l, leaf(one))
		}
		return strings.Join(l, ",")
	case map[string]any:
		var l []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			l = append(l, k+"="+leaf(v[k]))
		}
		return strings.Join(l, " ")
	}
	return fmt.Sprint(v)
}

// archField is what manifests and locks call the architecture.
const archField = "arch"

// treeCauses are causes by the beginning of the place; the first that fits counts.
var treeCauses = []struct {
	prefix string
	cause  Cause
}{
	{"inputs[kernel " + string(attest.Kernel) + " ", Source},
	{"inputs[kernel " + string(attest.Config) + " ", Config},
	{"inputs[kernel " + string(attest.Patch) + " ", Source},
	{"inputs[kernel " + string(attest.Fix) + " ", Source},
	{"inputs[kernel " + string(attest.Toolchain) + " ", Compiler},
	{"requested.", Config},
	{"chosen.", Follows},
	{"packages[SOURCE ", Source},
	{"packages[" + plainPackage + " ", Package},
	{"packages[", Follows},
	{"relationships", Follows},
	{"subjects", Follows},
	{"documents", Follows},
	{"documentNamespace", Follows},
	{"inputs[rootfs " + string(attest.File) + " ", Config},
	{"inputs[", Package},
	{"toolchain", Compiler},
	{"imaging", Compiler},
	{"kernel.request", Config},
	{"kernel", Source},
	{"config", Config},
	{"custom", Config},
	{"suite", Config},
	{"rootfs.include", Config},
	{"rootfs.suite", Config},
	{"rootfs.variant", Config},
	{"rootfs", Package},
	{"epoch", Package}, // the archive's date
	{"image.size", Config},
	{"image.", Follows}, // from the packages
	{"artifacts", Follows},
	{"steps", Follows},
	{"actions", Follows},
	{oldActions, Follows},
	{"lock", Follows},
	{"digest", Follows},
}

func treeCause(where string) Cause {
	where = strings.TrimPrefix(where, "build.")
	if where == archField {
		return Arch
	}
	for _, c := range treeCauses {
		if strings.HasPrefix(where, c.prefix) {
			return c.cause
		}
	}
	return ""
}

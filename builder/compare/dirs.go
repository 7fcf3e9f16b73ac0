package compare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
)

// inputs is what a Report calls what the builds were made from; it stands in the place of an artifact.
const inputs = "inputs"

// Dirs compares two out directories: first what the builds were made from, as their manifests and locks say, then
// every artifact that either manifest names, byte by byte. A directory without a manifest, or with one whose
// artifacts this kimg cannot tell, is compared with all the files that are in it.
func Dirs(ctx context.Context, a, b string) (*Report, error) {
	r := &Report{A: a, B: b, Differences: []Difference{}}
	x, y, err := two(a, b, readDir)
	if err != nil {
		return nil, err
	}
	described := x.build != nil && y.build != nil
	if described {
		r.inputs(x.build, y.build)
	}
	la, lb, err := two(x, y, func(d *directory) ([]string, error) { return d.artifacts(r, described) })
	if err != nil {
		return nil, err
	}
	if err := r.locks(ctx, a, b); err != nil {
		return nil, err
	}
	moved := r.Causes()
	for _, name := range order(union(la, lb)) {
		if err := r.artifact(ctx, name, a, b); err != nil {
			return nil, err
		}
	}
	if described {
		if r.Same() { // what the manifests say of artifacts and steps follows from all before it
			r.trees(artifact.Manifest, x.build, y.build)
		}
		if err := r.attestations(ctx, a, b); err != nil {
			return nil, err
		}
		if err := r.runs(ctx, a, b); err != nil {
			return nil, err
		}
	}
	r.attribute(moved)
	r.expected(x.manifest)
	return r, nil
}

// expected says of artifacts that differ whether the build said that they would.
func (r *Report) expected(m *outdir.Manifest) {
	if m == nil {
		return
	}
	for _, a := range m.Build.Artifacts {
		differs := func(d Difference) bool { return d.Artifact == a.Path }
		if a.Varies != "" && slices.ContainsFunc(r.Differences, differs) {
			r.note("%s: no two builds have the same: %s", a.Path, a.Varies)
		}
	}
}

type directory struct {
	name     string
	build    map[string]any   // of its manifest, as a tree; nil: it has no manifest
	manifest *outdir.Manifest // nil where this kimg cannot read it
	why      error            // that it cannot
}

func readDir(dir string) (*directory, error) {
	d := &directory{name: dir}
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	name := filepath.Join(dir, artifact.Manifest)
	b, err := openBlob(name)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.f.Close()
	tree, err := readTree(b)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", name, err)
	}
	var ok bool
	if d.build, ok = tree[buildField].(map[string]any); !ok {
		return nil, fmt.Errorf("read manifest %s: it has no %s", name, buildField)
	}
	if d.manifest, d.why = outdir.Read(dir); d.why == nil {
		d.why = d.manifest.CheckVersion()
	}
	if d.why == nil && len(d.manifest.Build.Artifacts) == 0 {
		d.why = fmt.Errorf("read manifest %s: it names no artifacts", name)
	}
	return d, nil
}

// artifacts are the files to compare: where both builds are described, those that the manifest names. A manifest of
// another kimg, which may name them in another way, leaves out none: all files are compared then.
func (d *directory) artifacts(r *Report, described bool) (names []string, err error) {
	if described && d.why == nil {
		for _, a := range d.manifest.Build.Artifacts {
			names = append(names, a.Path)
		}
		return names, nil
	}
	names, err = files(d.name)
	if described {
		r.note("%s: %v; all files of the directory are compared", d.name, d.why)
		names = slices.DeleteFunc(names, func(n string) bool {
			return n == artifact.Signature || slices.Contains(artifact.Documents(), n)
		})
	}
	return names, err
}

// inputs compares what two builds were made from. Artifacts and steps follow from that, or are compared themselves.
func (r *Report) inputs(a, b map[string]any) {
	made := func(k string, _ any) bool { return slices.Contains(outcomeFields, k) }
	x, y := maps.Clone(a), maps.Clone(b)
	maps.DeleteFunc(x, made)
	maps.DeleteFunc(y, made)
	for _, m := range []map[string]any{x, y} {
		if m[archField] == nil { // a manifest does not name the default
			m[archField] = arch.Default.Name
		}
	}
	r.trees(inputs, x, y)
}

func inBoth(ctx context.Context, name, a, b string) (*Report, error) {
	r := &Report{A: a, B: b}
	name = filepath.FromSlash(name)
	return r, r.files(ctx, filepath.ToSlash(name), filepath.Join(a, name), filepath.Join(b, name))
}

// runs notes where two manifests of the same build differ: what was true of one run is no difference of the builds.
func (r *Report) runs(ctx context.Context, a, b string) error {
	if !r.Same() {
		return nil
	}
	l, err := inBoth(ctx, artifact.Manifest, a, b)
	if err != nil {
		return err
	}
	var where []string
	for _, d := range l.Differences {
		where = append(where, d.Where)
	}
	if len(where) > 0 {
		r.note("%s: the same build, but these fields differ: %s", artifact.Manifest, count(where))
	}
	return nil
}

// locks compares the locks, where both builds have one. What the manifests have reported is not reported twice.
func (r *Report) locks(ctx context.Context, a, b string) error {
	seen := map[[2]string]bool{}
	for _, d := range r.Differences {
		seen[[2]string{d.A, d.B}] = true
	}
	l, err := inBoth(ctx, artifact.Lock, a, b)
	if errors.Is(err, fs.ErrNotExist) {
		return r.missing(artifact.Lock, a, b)
	}
	if err != nil {
		return err
	}
	for _, d := range l.Differences {
		if !seen[[2]string{d.A, d.B}] {
			r.add(d)
		}
	}
	r.Notes = append(r.Notes, l.Notes...)
	return nil
}

const maxFiles = 100_000

func files(dir string) ([]string, error) {
	var out []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && name != artifact.Manifest && name != artifact.Lock {
			out = append(out, name)
		}
		if len(out) > maxFiles {
			return fmt.Errorf("it has more than %d files: is it an out directory?", maxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", dir, err)
	}
	return out, nil
}

func union(a, b []string) []string {
	l := slices.Sorted(slices.Values(slices.Concat(a, b)))
	return slices.Compact(l)
}

// order puts the artifacts that others follow from first.
func order(names []string) []string {
	first := []string{artifact.Config, artifact.Vmlinux, artifact.SystemMap}
	for _, a := range arch.All {
		first = append(first, artifact.KernelImage(a))
	}
	first = append(first, artifact.Disk)
	rank := func(n string) int {
		if i := slices.Index(first, n); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

func (r *Report) artifact(ctx context.Context, name, a, b string) error {
	from := len(r.Differences)
	x, y := filepath.Join(a, filepath.FromSlash(name)), filepath.Join(b, filepath.FromSlash(name))
	err := r.files(ctx, name, x, y)
	if errors.Is(err, fs.ErrNotExist) {
		return r.missing(name, a, b)
	}
	if err != nil {
		return err
	}
	if len(r.Differences) > from {
		return nil
	}
	// Content alone does not make an artifact: nothing can read a vmlinux of mode 0.
	st, other, err := two(x, y, os.Stat)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if p, q := st.Mode().Perm(), other.Mode().Perm(); p != q {
		r.add(Difference{name, "mode", octal(p), octal(q), modeCause(p, q)})
	}
	return nil
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%04o", unixMode(m)) }

// unixMode is a mode's twelve bits as chmod(1) has them.
func unixMode(m fs.FileMode) uint32 {
	n := uint32(m.Perm())
	for f, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&f != 0 {
			n |= bit
		}
	}
	return n
}

func modeCause(a, b fs.FileMode) Cause {
	if umasked(a, b) {
		return Umask
	}
	return ""
}

const theFile = "the file"

// missing reports a file that one directory, or both, lack.
func (r *Report) missing(name, a, b string) error {
	there := func(dir string) (string, error) {
		_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "there", err
	}
	x, y, err := two(a, b, there)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if x != y {
		r.add(Difference{name, theFile, x, y, ""})
	} else if name != artifact.Lock {
		r.add(Difference{name, theFile, "named by the manifest, not there", "not there either", ""})
	}
	return nil
}

// attribute gives differences of artifacts without a cause of their own the cause that follows from the inputs. Of two
// architectures all is another: what else two values look like says nothing there.
func (r *Report) attribute(moved map[Cause]int) {
	config, ids := false, false
	for _, d := range r.Differences {
		config = config || d.Artifact == artifact.Config && d.Cause == Config
		ids = ids || d.Artifact == artifact.Lock && slices.Contains(drawnFields, d.Where)
	}
	for i := range r.Differences {
		d := &r.Differences[i]
		if ids && d.Cause == Random && (d.Where == "superblock: s_uuid" || d.Where == "superblock: s_hash_seed") {
			d.Cause = Follows // from the lock, which derives them from the packages
		}
		asked := d.Artifact == inputs || d.Artifact == artifact.Lock || d.Artifact == artifact.Manifest
		if moved[Arch] > 0 && !asked {
			d.Cause = Follows
		}
		if d.Cause != "" || asked {
			continue
		}
		kernel := d.Artifact != artifact.Disk
		switch {
		case d.Where == theFile:
		case kernel && moved[Source] > 0:
			d.Cause = Source
		case kernel && (moved[Config] > 0 || config):
			d.Cause = Config
		case moved[Compiler] > 0:
			d.Cause = Compiler
		case !kernel && moved[Package] > 0:
			d.Cause = Package
		}
	}
}

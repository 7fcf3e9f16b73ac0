package compare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// inputs is what a Report calls the artifact that is none: what the builds were
// made from.
const inputs = "inputs"

// Dirs compares two out directories: first what the builds were made from, as
// their manifests and locks say, then every artifact that either manifest names,
// byte by byte. A directory without a manifest is compared with all the files
// that are in it.
func Dirs(ctx context.Context, a, b string) (*Report, error) {
	r := &Report{A: a, B: b, Differences: []Difference{}}
	var names []string
	ma, err := manifest(a)
	if err != nil {
		return nil, err
	}
	mb, err := manifest(b)
	if err != nil {
		return nil, err
	}
	var rest func()
	if ma != nil && mb != nil {
		rest = r.manifests(ma, mb)
		names = union(artifactNames(ma), artifactNames(mb))
	} else {
		la, err := files(a)
		if err != nil {
			return nil, err
		}
		lb, err := files(b)
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(union(la, lb), func(n string) bool { return n == lockFile })
	}
	if err := r.locks(ctx, a, b); err != nil {
		return nil, err
	}
	moved := r.Causes()
	for _, name := range order(names) {
		if err := r.artifact(ctx, name, a, b); err != nil {
			return nil, err
		}
	}
	if rest != nil && r.Same() {
		rest()
	}
	if rest != nil {
		if err := r.attestations(ctx, a, b); err != nil {
			return nil, err
		}
		if err := r.runs(ctx, a, b); err != nil {
			return nil, err
		}
	}
	r.attribute(moved)
	return r, nil
}

// manifest reads a directory's manifest; nil when it has none.
func manifest(dir string) (map[string]any, error) {
	name := filepath.Join(dir, manifestFile)
	b, err := openBlob(name)
	if errors.Is(err, fs.ErrNotExist) {
		if st, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		} else if !st.IsDir() {
			return nil, fmt.Errorf("compare: %s is no directory", dir)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.f.Close()
	m, err := readTree(b)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", name, err)
	}
	build, ok := m["build"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("read manifest %s: it tells of no build", name)
	}
	return build, nil
}

// manifests compares what two builds were made from. What the manifests say of
// artifacts and steps follows from that, or is seen in the artifacts; rest tells
// of it.
func (r *Report) manifests(a, b map[string]any) (rest func()) {
	made := func(k string, _ any) bool { return k == "artifacts" || k == "steps" }
	x, y := maps.Clone(a), maps.Clone(b)
	maps.DeleteFunc(x, made)
	maps.DeleteFunc(y, made)
	r.trees(inputs, x, y)
	return func() { r.trees(manifestFile, a, b) }
}

// runs notes where two manifests of the same build differ: what was true of one run
// is no difference of the builds, and yet their files are not the same.
func (r *Report) runs(ctx context.Context, a, b string) error {
	if !r.Same() {
		return nil
	}
	var l Report
	if err := l.files(ctx, manifestFile, filepath.Join(a, manifestFile), filepath.Join(b, manifestFile)); err != nil {
		return err
	}
	var where []string
	for _, d := range l.Differences {
		where = append(where, d.Where)
	}
	if len(where) > 0 {
		r.note("%s: what it says beside the build differs: %s", manifestFile, count(where))
	}
	return nil
}

// locks compares the locks, where both builds have one. What the manifests have
// told is not told twice.
func (r *Report) locks(ctx context.Context, a, b string) error {
	told := map[[2]string]bool{}
	for _, d := range r.Differences {
		told[[2]string{d.A, d.B}] = true
	}
	var l Report
	err := l.files(ctx, lockFile, filepath.Join(a, lockFile), filepath.Join(b, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r.missing(lockFile, a, b)
	}
	if err != nil {
		return err
	}
	for _, d := range l.Differences {
		if !told[[2]string{d.A, d.B}] {
			r.add(d)
		}
	}
	if len(l.Differences) > 0 && r.Same() {
		r.add(l.Differences...)
	}
	r.Notes = append(r.Notes, l.Notes...)
	return nil
}

// artifactNames are the files that a manifest names below its directory.
func artifactNames(m map[string]any) []string {
	var out []string
	l, _ := m["artifacts"].([]any)
	for _, one := range l {
		a, _ := one.(map[string]any)
		if name, _ := a["path"].(string); filepath.IsLocal(filepath.FromSlash(name)) {
			out = append(out, name)
		}
	}
	return out
}

// maxFiles bounds a directory without a manifest.
const maxFiles = 100_000

func files(dir string) ([]string, error) {
	var out []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && name != manifestFile {
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
	rank := func(n string) int {
		if i := slices.Index([]string{"config", "vmlinux", "System.map", "bzImage", "rootfs.img"}, n); i >= 0 {
			return i
		}
		return 100
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// artifact compares one artifact of two directories.
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
	if len(r.Differences) == from {
		// Content alone makes no artifact: a vmlinux-gdb.py that nobody may read is none.
		sa, err := os.Stat(x)
		if err != nil {
			return fmt.Errorf("compare: %w", err)
		}
		sb, err := os.Stat(y)
		if err != nil {
			return fmt.Errorf("compare: %w", err)
		}
		if p, q := sa.Mode().Perm(), sb.Mode().Perm(); p != q {
			r.add(Difference{name, "mode", octal(p), octal(q), modeCause(p, q)})
		}
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

// missing tells of a file that one directory, or both, lack.
func (r *Report) missing(name, a, b string) error {
	there := func(dir string) (string, error) {
		_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "there", err
	}
	x, err := there(a)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	y, err := there(b)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if x != y {
		r.add(Difference{name, "the file", x, y, ""})
	} else if name != lockFile {
		r.add(Difference{name, "the file", "named by the manifest, not there", "not there either", ""})
	}
	return nil
}

// attribute gives the differences of artifacts that have no cause of their own
// the one that the inputs say.
func (r *Report) attribute(moved map[Cause]int) {
	config, ids := false, false
	for _, d := range r.Differences {
		config = config || d.Artifact == "config" && d.Cause == Config
		ids = ids || d.Artifact == lockFile && (d.Where == "image.uuid" || d.Where == "image.hash-seed")
	}
	for i := range r.Differences {
		d := &r.Differences[i]
		if ids && d.Cause == Random && (d.Where == "superblock: s_uuid" || d.Where == "superblock: s_hash_seed") {
			d.Cause = Follows // from the lock, which derives them from the packages
		}
		if d.Cause != "" || d.Artifact == inputs || d.Artifact == lockFile || d.Artifact == manifestFile {
			continue
		}
		kernel := strings.HasPrefix(d.Artifact, "vmlinux") || path.Dir(d.Artifact) != "." ||
			d.Artifact == "bzImage" || d.Artifact == "System.map" || d.Artifact == "config"
		switch {
		case d.Where == "the file":
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

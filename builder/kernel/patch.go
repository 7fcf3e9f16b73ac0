package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/builder/kernel/tree"
	"github.com/kimg/kimg/internal/units"
)

// Patch is one patch to a kernel's source. A job's patches are applied in their order, and all of them or none.
type Patch struct {
	Name  string // what errors call it
	Text  string
	Strip int  // leading directories of its names that are dropped: -p
	Fix   *Fix // kimg's own, which is applied where the tree needs it; nil: a user's
}

// The patched files of a source volume have their originals in patchDir, by a hash of their paths, beside
// patchState, which says what has been applied. So a patch that goes or changes costs no new source, and a build
// after it compiles what is different and no more.
const (
	patchDir   = ".kimg-patch"
	patchState = patchDir + "/state"
	patchWork  = workDir + "/patch"
)

// patched is what has been applied to a volume's tree.
type patched struct {
	Key   string        `json:"key"`             // of the patches; "": none, or not these originals any more
	Files []patchedFile `json:"files"`           // those that patches name
	Fixes []string      `json:"fixes,omitempty"` // that the tree needed
}

type patchedFile struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // of the original: absent, f, x
}

// without forgets the originals that a change of the source brings anew: the patches have to be applied again.
func (p patched) without(c tree.Delta) patched {
	moved := map[string]bool{}
	for _, e := range c.Send {
		moved[e.Path] = true
	}
	for _, name := range c.Remove {
		moved[name] = true
	}
	left := slices.DeleteFunc(slices.Clone(p.Files), func(f patchedFile) bool { return moved[f.Path] })
	if len(left) == len(p.Files) {
		return p
	}
	return patched{Files: left}
}

// clash says whether a change has a file where a patched one has a directory, or vice versa: then all is sent anew.
func (p patched) clash(c tree.Delta) bool {
	files, dirs := map[string]bool{}, map[string]bool{}
	for _, f := range p.Files {
		files[f.Path] = true
		for dir := tree.Parent(f.Path); dir != ""; dir = tree.Parent(dir) {
			dirs[dir] = true
		}
	}
	return slices.ContainsFunc(c.Send, func(e tree.File) bool {
		for dir := tree.Parent(e.Path); dir != ""; dir = tree.Parent(dir) {
			if files[dir] {
				return true
			}
		}
		return dirs[e.Path]
	})
}

// stored is the name of an original in patchDir.
func stored(path string) string { return string(units.DigestOf([]byte(path))) }

// patchVersion is raised when the same patches are applied in another way.
const patchVersion = "kimg patches 1"

// patchKey names a list of patches; "": none.
func patchKey(list []Patch) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(patchVersion)
	for _, p := range list {
		fmt.Fprintf(&b, "\x00%d %v %d %s", p.Strip, p.Fix != nil, len(p.Text), p.Text)
	}
	return string(units.DigestOf([]byte(b.String())))
}

var (
	//go:embed patch_try.sh
	patchTry string
	//go:embed patch_put.sh
	patchPut string
)

// ParsePatches reads all of a job's patches; a *diffs.Error says what is wrong with the first that cannot be used.
func ParsePatches(list []Patch) ([][]diffs.File, error) {
	all := make([][]diffs.File, len(list))
	for i, p := range list {
		var err error
		if all[i], err = diffs.Parse(p.Name, p.Text, p.Strip); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// patch makes the volume's tree the pristine one with the patches applied, which are tried on copies first.
func (d *delivery) patch(ctx context.Context, list []Patch) error {
	key := patchKey(list)
	if key == d.patched.Key && (key != "" || len(d.patched.Files) == 0) {
		d.reportFixes(list)
		return nil
	}
	files, err := ParsePatches(list)
	if err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	j := newPatchJob(list, files, d.patched)
	if err := d.try(ctx, j); err != nil {
		return err
	}
	next, put := j.result(key)
	state, err := json.Marshal(next)
	if err != nil {
		return err
	}
	d.half = true
	out, err := d.output(ctx, strings.NewReader(string(state)+"\n"+put), 64<<20,
		"bash", "-c", patchPut, "bash", srcDir, srcDir+"/"+patchDir, patchWork, sourceMark)
	if err != nil {
		return fmt.Errorf("put the patched files into the tree: %w", err)
	}
	d.half, d.patched = false, next
	if n := len(list); n > 0 {
		fmt.Fprintf(d.task.Log(), "applied %d patches, which changed %d files since the last build\n",
			n, strings.Count(out, "\n"))
	}
	d.reportFixes(list)
	return nil
}

func (d *delivery) try(ctx context.Context, j *patchJob) error {
	in, err := j.input()
	if err != nil {
		return err
	}
	out, err := d.output(ctx, bytes.NewReader(in), 64<<20,
		"bash", "-c", patchTry, "bash", srcDir, srcDir+"/"+patchDir, patchWork)
	if err != nil {
		return fmt.Errorf("apply patches: %w", err)
	}
	fault, err := j.read(out, d.tree.Version)
	if err != nil {
		return err
	}
	for _, w := range j.warnings {
		d.task.Warn(w)
	}
	if fault != nil {
		return fault
	}
	return nil
}

func (d *delivery) reportFixes(list []Patch) {
	for _, p := range list {
		if p.Fix != nil && slices.Contains(d.patched.Fixes, p.Name) {
			d.task.Say("fix " + p.Fix.Line())
		}
	}
}

// input is what patch_try.sh reads.
func (j *patchJob) input() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(name, text string) error { return putFile(w, name, 0o644, text) }
	var plan, list, made strings.Builder
	for i, path := range j.paths {
		from := "tree"
		if f, ok := j.had[path]; ok {
			if from = "stored"; f.Kind == "absent" {
				from = "absent"
				made.WriteString(path + "\n")
			}
		}
		fmt.Fprintf(&list, "%d\t%s\t%s\t%s\n", i, from, stored(path), path)
	}
	for p, patch := range j.list {
		kind := "own"
		if patch.Fix != nil {
			kind = "fix"
		}
		fmt.Fprintf(&plan, "B\t%d\t%s\n", p, kind)
		if patch.Fix != nil {
			for n, needle := range patch.Fix.Needs {
				there := 1
				if needle.Absent {
					there = 0
				}
				fmt.Fprintf(&plan, "N\t%d\t%d\t%d.%d\t%d\n", p, j.index[needle.File], p, n, there)
				if err := put(fmt.Sprintf("n/%d.%d", p, n), needle.Text+"\n"); err != nil {
					return nil, err
				}
			}
		}
		for s, f := range j.files[p] {
			fmt.Fprintf(&plan, "F\t%d\t%d\t%c\t%d\t%d\t%c\t%d\n",
				p, s, f.Op, j.index[f.From], j.index[f.To], f.Mode, len(f.Hunks))
			if err := put(fmt.Sprintf("s/%d.%d", p, s), f.Text()); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(&plan, "E\t%d\n", p)
	}
	for name, text := range map[string]string{"plan": plan.String(), "files": list.String(), "made": made.String()} {
		if err := put(name, text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

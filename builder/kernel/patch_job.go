package kernel

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/internal/units"
)

// patchJob is what patch_try.sh is to do, and what it reported.
type patchJob struct {
	list  []Patch
	files [][]diffs.File // of each patch
	had   map[string]patchedFile
	gone  []patchedFile // those of before that no patch names any more

	paths []string       // every file that a patch names, in their order
	index map[string]int // of a path in paths

	kinds    []string // of the originals
	skipped  map[int]bool
	warnings []string
}

func newPatchJob(list []Patch, files [][]diffs.File, before patched) *patchJob {
	j := &patchJob{
		list: list, files: files,
		had: map[string]patchedFile{}, index: map[string]int{}, skipped: map[int]bool{},
	}
	add := func(path string) {
		if _, ok := j.index[path]; !ok {
			j.index[path] = len(j.paths)
			j.paths = append(j.paths, path)
		}
	}
	for i := range files {
		for _, f := range files[i] {
			add(f.From)
			add(f.To)
		}
		if fix := list[i].Fix; fix != nil {
			for _, n := range fix.Needs {
				add(n.File)
			}
		}
	}
	for _, f := range before.Files {
		j.had[f.Path] = f
		if _, ok := j.index[f.Path]; !ok {
			j.gone = append(j.gone, f)
		}
	}
	j.kinds = make([]string, len(j.paths))
	return j
}

// result is the state after the patches, and what patch_put.sh is to do for it.
func (j *patchJob) result(key string) (patched, string) {
	next := patched{Key: key}
	var put strings.Builder
	for i, path := range j.paths {
		next.Files = append(next.Files, patchedFile{path, j.kinds[i]})
		action := "new"
		if _, ok := j.had[path]; ok {
			action = "keep"
		}
		fmt.Fprintf(&put, "%s\t%d\t%s\t%s\n", action, i, stored(path), path)
	}
	for _, f := range j.gone {
		fmt.Fprintf(&put, "restore\t-\t%s\t%s\n", stored(f.Path), f.Path)
	}
	for i, p := range j.list {
		if p.Fix != nil && !j.skipped[i] {
			next.Fixes = append(next.Fixes, p.Name)
		}
	}
	return next, put.String()
}

var (
	failedRE = regexp.MustCompile(`^Hunk #(\d+) FAILED at `)
	fuzzRE   = regexp.MustCompile(`^Hunk #(\d+) succeeded at \d+ with fuzz (\d+)`)
)

// read reads the report of patch_try.sh. fault says what does not apply; nil: all does.
func (j *patchJob) read(said string, tree units.KernelVersion) (fault *PatchError, err error) {
	bad := func(p int, f PatchFault) {
		if j.list[p].Fix != nil {
			if !j.skipped[p] {
				j.warnings = append(j.warnings,
					fmt.Sprintf("fix %s does not apply to this tree and is left out", j.list[p].Name))
			}
			j.skipped[p] = true
			return
		}
		if fault == nil {
			fault = &PatchError{Patch: j.list[p].Name, Tree: tree}
		}
		fault.Faults = append(fault.Faults, f)
	}
	odd := map[string]bool{}
	lines := strings.Split(said, "\n")
	for at := 0; at < len(lines); at++ {
		words := strings.Fields(lines[at])
		if len(words) == 0 {
			continue
		}
		nums, err := numbers(words[1:min(len(words), 3)])
		if err != nil && !(words[0] == "L" || words[0] == "X") || len(nums) == 0 {
			return nil, fmt.Errorf("apply patches: the container said %q", lines[at])
		}
		switch words[0] {
		case "L":
			j.kinds[nums[0]] = words[2]
		case "X": // even of a fix: the tree is not what it seems
			path := j.paths[nums[0]]
			p, f := j.first(path)
			if fault == nil {
				fault = &PatchError{Patch: j.list[p].Name, Tree: tree}
			}
			fault.Faults = append(fault.Faults, PatchFault{File: path, Line: f.Line, Why: placeFaults[words[2]]})
			odd[path] = true
		case "K":
			j.skipped[nums[0]] = true
		case "S":
			p, f := nums[0], j.files[nums[0]][nums[1]]
			var output []string
			for ; at+1 < len(lines) && strings.HasPrefix(lines[at+1], "| "); at++ {
				output = append(output, lines[at+1][2:])
			}
			if !odd[f.From] && !odd[f.To] {
				j.section(p, f, words[3], output, bad)
			}
		}
	}
	return fault, nil
}

func numbers(words []string) ([]int, error) {
	var out []int
	for _, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil {
			return out, err
		}
		out = append(out, n)
	}
	return out, nil
}

// placeFaults are why a file cannot be patched where it is, by patch_try.sh's words.
var placeFaults = map[string]string{
	"link":  "refused: it is a symbolic link in the tree, or below one",
	"below": "its directory is a file in the tree",
	"other": "in the tree it is not a file",
}

func (j *patchJob) first(path string) (int, diffs.File) {
	for p, files := range j.files {
		for _, f := range files {
			if f.From == path || f.To == path {
				return p, f
			}
		}
	}
	return 0, diffs.File{To: path}
}

func (j *patchJob) section(p int, f diffs.File, status string, output []string, bad func(int, PatchFault)) {
	fault := PatchFault{File: f.To, Line: f.Line}
	switch status {
	case "ok":
		if c := encoded(f); c != "" && j.list[p].Fix == nil {
			j.warnings = append(j.warnings, fmt.Sprintf("patch %s: %s: what it adds has %s in it, as a mail "+
				"or a page has that was saved undecoded: check it", j.list[p].Name, f.To, c))
		}
		for _, line := range output {
			if m := fuzzRE.FindStringSubmatch(line); m != nil && j.list[p].Fix == nil {
				j.warnings = append(j.warnings,
					fmt.Sprintf("patch %s: %s: hunk %s applied with fuzz %s: check that it is in the right place",
						j.list[p].Name, f.To, m[1], m[2]))
			}
		}
		return
	case "missing":
		fault.File, fault.Why = f.From, "there is no such file"
	case "exists":
		fault.Why = "the patch creates it, and it exists already"
	case "left":
		fault.Why = "the patch deletes it, and it has more in it than the patch removes"
	case "blanks":
		fault.Why, fault.Blanks = "it differs from the tree in blanks and tabs only", true
	case "reject":
		if slices.ContainsFunc(output, func(l string) bool { return strings.Contains(l, "previously applied") }) {
			fault.Why, fault.Applied = "this change, or a part of it, is in the tree already", true
			if q := j.sameBefore(p, f); q >= 0 {
				fault.Why, fault.Twice = "this change is made before it, by patch "+j.list[q].Name, true
			}
			break
		}
		for _, line := range output {
			m := failedRE.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			n, _ := strconv.Atoi(m[1])
			if n < 1 || n > len(f.Hunks) {
				continue
			}
			h := f.Hunks[n-1]
			bad(p, PatchFault{File: f.To, Hunk: n, Of: len(f.Hunks), Header: h.Header, Line: h.Line})
			fault.File = ""
		}
		if fault.File == "" {
			return
		}
		fault.Why = "GNU patch says: " + strings.Join(output, "; ")
	}
	bad(p, fault)
}

// sameBefore is an earlier patch that makes the same change to a file; -1: none does.
func (j *patchJob) sameBefore(p int, f diffs.File) int {
	for q := range p {
		if slices.ContainsFunc(j.files[q], func(g diffs.File) bool { return g.To == f.To && g.Text() == f.Text() }) {
			return q
		}
	}
	return -1
}

// encoded is what a patch adds that no source has, and quoted-printable (RFC 2045, 6.7) and HTML have.
func encoded(f diffs.File) string {
	codes := []string{"=3D"}
	if ext := path.Ext(f.To); ext == ".c" || ext == ".h" || ext == ".S" {
		codes = append(codes, "&lt;", "&gt;", "&amp;")
	}
	for _, h := range f.Hunks {
		for line := range strings.Lines(h.Text) {
			for _, c := range codes {
				if line[0] == '+' && strings.Contains(line, c) {
					return c
				}
			}
		}
	}
	return ""
}

// PatchError is a patch that does not apply to the tree. Nothing was changed.
type PatchError struct {
	Patch  string
	Tree   units.KernelVersion // what the tree's Makefile says
	Faults []PatchFault        // at least one
}

// PatchFault is one reason why a patch does not apply.
type PatchFault struct {
	File    string // in the tree
	Hunk    int    // from 1; 0: not one hunk alone
	Of      int    // hunks that the patch has for the file
	Header  string // the hunk's
	Line    int    // in the patch, from 1
	Why     string // "" with a hunk
	Applied bool   // the tree seems to have the change
	Twice   bool   // with Applied: an earlier patch makes it
	Blanks  bool   // the file in the tree has other blanks and tabs
}

func (e *PatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apply patch %s: it does not apply to Linux %s", e.Patch, e.Tree)
	for i, f := range e.Faults {
		if i == keepErrors {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Faults)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s: ", f.File)
		if f.Hunk > 0 {
			fmt.Fprintf(&b, "hunk %d of %d: %s (line %d of the patch)", f.Hunk, f.Of, f.Header, f.Line)
		} else {
			fmt.Fprintf(&b, "%s (line %d of the patch)", f.Why, f.Line)
		}
	}
	return b.String()
}

func (e *PatchError) Hint() string {
	missing := 0
	for _, f := range e.Faults {
		switch {
		case f.Twice:
			return "leave it out, or the other"
		case f.Blanks:
			return "tabs became blanks on the way, as in a copy from a terminal or a web page: take the patch as a " +
				"file, or from the mail itself"
		}
		if f.Applied {
			return fmt.Sprintf("leave it out: Linux %s has it; kimg applies patches to the unpatched source", e.Tree)
		}
		if f.Hunk == 0 {
			missing++
		}
	}
	if missing == len(e.Faults) {
		return fmt.Sprintf("was it made for Linux %s? A series file may say -pN after its name; the default is -p1",
			e.Tree)
	}
	return fmt.Sprintf("rebase it onto Linux %s, or build the kernel that it was made for", e.Tree)
}

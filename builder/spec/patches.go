package spec

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/yamlfile"
)

// PatchLock pins a patch to the kernel's source, whole, so that it can be replayed where its file is not.
type PatchLock struct {
	Path   string    `yaml:"path"` // without its directory, which is the user's own business
	Strip  int       `yaml:"strip"`
	SHA256 Digest    `yaml:"sha256"`
	Text   PatchText `yaml:"text"`
}

// The bounds of the patches of one kernel: they are all in its lock.
const (
	maxPatches   = 4096
	maxPatchText = 8 << 20 // bytes, of all of them
)

// seriesFile is what quilt calls the list of a directory's patches.
const seriesFile = "series"

// coverLetter is a mail of git format-patch that has no patch in it: of a first version, or of v2.
var coverLetter = regexp.MustCompile(`^(v\d+-)?0000-cover-letter\.`)

// patchEndings are those of a directory's patches: diffs, mails and mailboxes.
var patchEndings = []string{".patch", ".diff", ".eml", ".mbox"}

// patchLine is one that a patch has, or a mail, and a list of patches has not.
var patchLine = regexp.MustCompile(`(?m)^(diff |Index: |--- |\+\+\+ |@@ -|From |[A-Z][A-Za-z-]*: )`)

// ReadPatches reads what --patch names, in order: files, directories and series.
func ReadPatches(paths []string) ([]PatchLock, error) { return readPatches(paths, Spec{}.Wrong) }

func readPatches(paths []string, wrong func(flag string, path any, err error) error) ([]PatchLock, error) {
	var all []PatchLock
	left := maxPatchText
	for _, p := range paths {
		list, err := listPatches(p)
		if err != nil {
			return nil, wrong("--patch", p, err)
		}
		for _, at := range list {
			lock, err := at.read(left)
			if err == nil && len(all) == maxPatches {
				err = fmt.Errorf("there are more than %d patches", maxPatches)
			}
			if err != nil {
				return nil, wrong("--patch", p, err)
			}
			left -= len(lock.Text)
			all = append(all, lock)
		}
	}
	if _, err := kernel.ParsePatches(texts(all)); err != nil {
		return nil, err
	}
	return all, nil
}

// patchAt is where a patch is. A directory's own names do not lead out of it.
type patchAt struct {
	dir, name string
	strip     int // unsaid: the patch itself tells
}

// unsaid is the -p that no series gives.
const unsaid = -1

func listPatches(path string) ([]patchAt, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read patch: %w", err)
	}
	if st.IsDir() {
		_, err := os.Stat(filepath.Join(path, seriesFile))
		switch {
		case err == nil:
			return readSeries(path, seriesFile)
		case errors.Is(err, fs.ErrNotExist):
			return sortedPatches(path)
		}
		return nil, fmt.Errorf("read patch: %w", err)
	}
	dir, name := filepath.Split(path)
	if name == seriesFile || strings.HasPrefix(name, seriesFile+".") || strings.HasSuffix(name, "."+seriesFile) {
		text, err := patchAt{dir: dir, name: name}.text(maxPatchText)
		if err != nil || !patchLine.MatchString(text) {
			return readSeries(dir, name)
		}
	}
	return []patchAt{{dir, name, unsaid}}, nil
}

// sortedPatches are a directory's patches where it has no series file.
func sortedPatches(dir string) ([]patchAt, error) {
	des, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read patches: %w", err)
	}
	var list []patchAt
	for _, de := range des {
		name := de.Name()
		if slices.Contains(patchEndings, filepath.Ext(name)) && !coverLetter.MatchString(name) && !de.IsDir() {
			list = append(list, patchAt{dir, name, unsaid})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("read patches: %s has no series file, and no file that ends in %s", dir,
			strings.Join(patchEndings, ", "))
	}
	return list, nil // os.ReadDir sorts
}

// readSeries reads quilt's list of patches: names relative to the list, maybe with -pN, and comments.
func readSeries(dir, name string) ([]patchAt, error) {
	text, err := patchAt{dir: dir, name: name}.text(maxPatchText)
	if err != nil {
		return nil, err
	}
	list, err := parseSeries(text)
	for i := range list {
		list[i].dir = dir
	}
	if err != nil {
		return nil, fmt.Errorf("read series %s: %w", filepath.Join(dir, name), err)
	}
	return list, nil
}

func parseSeries(text string) ([]patchAt, error) {
	var list []patchAt
	n := 0
	for line := range strings.Lines(text) {
		n++
		words := strings.Fields(line)
		if i := slices.IndexFunc(words, func(w string) bool { return w[0] == '#' }); i >= 0 {
			words = words[:i]
		}
		if len(words) == 0 {
			continue
		}
		at := patchAt{name: words[0], strip: unsaid}
		if !filepath.IsLocal(at.name) {
			return nil, fmt.Errorf("line %d: refused: %q leads out of the directory", n, at.name)
		}
		for _, w := range words[1:] {
			strip, ok := strings.CutPrefix(w, "-p")
			var err error
			if at.strip, err = strconv.Atoi(strip); !ok || err != nil || at.strip < 0 || at.strip > diffs.MaxStrip {
				return nil, fmt.Errorf("line %d: %q: want -pN, which is the one option that kimg knows", n, w)
			}
		}
		list = append(list, at)
	}
	if len(list) == 0 {
		return nil, errors.New("it names no patch")
	}
	return list, nil
}

func (p patchAt) read(left int) (PatchLock, error) {
	text, err := p.text(left)
	if err != nil {
		return PatchLock{}, err
	}
	if text, err = diffs.Decode(p.name, text); err != nil {
		return PatchLock{}, err
	}
	if p.strip == unsaid {
		p.strip = diffs.Strip(text)
	}
	d := units.DigestOf([]byte(text))
	return PatchLock{Path: filepath.Base(p.name), Strip: p.strip, SHA256: d, Text: PatchText(text)}, nil
}

// text reads a file of at most left bytes. What a series names is opened below its directory.
func (p patchAt) text(left int) (string, error) {
	root, err := os.OpenRoot(cmp.Or(p.dir, "."))
	if err != nil {
		return "", fmt.Errorf("read patch: %w", err)
	}
	defer root.Close()
	b, err := reading.SmallIn(root, p.name, int64(left))
	if err != nil {
		name := filepath.Join(p.dir, p.name)
		return "", fmt.Errorf("read patch %s: %w (at most %d bytes of patches are read)", name, err, maxPatchText)
	}
	return string(b), nil
}

func texts(list []PatchLock) []kernel.Patch {
	var all []kernel.Patch
	for _, p := range list {
		all = append(all, kernel.Patch{Name: p.Path, Text: string(p.Text), Strip: p.Strip})
	}
	return all
}

// FixLock names one of kimg's own patches, which comes with kimg; the lock's actions tell whether it is the same.
type FixLock struct {
	Name   string `yaml:"name"`
	Commit string `yaml:"commit"` // mainline's, that did the same or better
	SHA256 Digest `yaml:"sha256"`
}

// KimgFixes are those of kimg's own patches that the source may need with the toolchain of this request.
func (l KernelLock) KimgFixes(toolchain string) []kernel.Patch {
	era, err := kernel.EraFor(l.Version, toolchain)
	if err != nil || l.NoFixes {
		return nil
	}
	return kernel.FixesFor(l.Version, era)
}

// FixLocks pins fixes.
func FixLocks(list []kernel.Patch) []FixLock {
	var all []FixLock
	for _, p := range list {
		all = append(all, FixLock{p.Name, p.Fix.Commit, units.DigestOf([]byte(p.Text))})
	}
	return all
}

// UserPatches are the user's own that a lock has applied to its source.
func (l KernelLock) UserPatches() ([]kernel.Patch, error) {
	for _, p := range l.Patches {
		if units.DigestOf([]byte(p.Text)) != p.SHA256 {
			return nil, fmt.Errorf("read patch %s: the lock's text of it is not what its sha256 says", p.Path)
		}
	}
	list := texts(l.Patches)
	_, err := kernel.ParsePatches(list)
	return list, err
}

// SamePatches reports whether two lists have the same effect.
func SamePatches(a, b []PatchLock) bool {
	return slices.EqualFunc(a, b, func(a, b PatchLock) bool { return a.SHA256 == b.SHA256 && a.Strip == b.Strip })
}

// PatchText is a patch in a lock.
type PatchText = yamlfile.Text

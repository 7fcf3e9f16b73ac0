package builder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/units"
)

// ManifestFile is the manifest's name beside the artifacts.
const ManifestFile = "manifest.json"

// manifestVersion is the form of the manifest.
const manifestVersion = 1

// maxManifest bounds a manifest, in bytes; that of a build with modules has some 100 KB.
const maxManifest = 32 << 20

// Manifest tells what a build made and from what. Build is the same wherever
// the same lock is built; Run is what was true of this one run.
type Manifest struct {
	Version int          `json:"version"`
	Build   BuildFacts   `json:"build"`
	Digest  units.Digest `json:"digest,omitempty"` // of Build as compact JSON
	Run     RunFacts     `json:"run"`

	// Documents tell of the build, too, in other tools' forms. They are not in Build,
	// whose digest one of them has.
	Documents []Document `json:"documents,omitempty"`
}

// BuildFacts is the part of a manifest that does not depend on where or when.
type BuildFacts struct {
	Kernel    string       `json:"kernel"` // its version
	Suite     string       `json:"suite"`
	Config    string       `json:"config"`
	Epoch     int64        `json:"epoch"` // seconds since 1970
	Lock      units.Digest `json:"lock"`  // of kimg.lock
	Toolchain Toolchain    `json:"toolchain"`
	Imaging   Toolchain    `json:"imaging"`
	Artifacts []Artifact   `json:"artifacts"`
	Inputs    []Input      `json:"inputs"`
	Steps     []StepFact   `json:"steps"`
}

// Toolchain is what a part of the build ran in.
type Toolchain struct {
	Image    string       `json:"image"`
	Lock     units.Digest `json:"lock"`
	Origin   string       `json:"origin"`
	Compiler string       `json:"compiler,omitempty"`
	Why      string       `json:"why,omitempty"`
}

// Artifact is a file that a person asked for.
type Artifact struct {
	Path   string       `json:"path"` // relative to the manifest, with slashes
	Size   int64        `json:"size"` // bytes
	SHA256 units.Digest `json:"sha256"`
	Mode   fs.FileMode  `json:"mode"` // permission bits
	Step   string       `json:"step"`
}

// Document is a file that tells of the artifacts and is none.
type Document struct {
	Path   string       `json:"path"` // as an Artifact's
	Size   int64        `json:"size"` // bytes
	SHA256 units.Digest `json:"sha256"`
}

// Input is an outside thing that the build read.
type Input struct {
	Kind    string       `json:"kind"` // kernel, fix (applied where the source needs it), patch, config, index, package
	Name    string       `json:"name"`
	Version string       `json:"version,omitempty"`
	SHA256  units.Digest `json:"sha256"`
	For     string       `json:"for"` // the part of the build that read it

	SignedBy []string `json:"signed_by,omitempty"` // of a kernel: fingerprints
	Unsigned bool     `json:"unsigned,omitempty"`  // of a kernel: nobody vouches for it, and --allow-unsigned was given
}

// StepFact is one step: how it is known and what its containers were given.
type StepFact struct {
	ID      string         `json:"id"`
	Action  steps.ActionID `json:"action"`
	Output  units.Digest   `json:"output,omitempty"`
	Allowed string         `json:"allowed"` // privileges, in words
}

// RunFacts is the part of a manifest that depends on where and when.
type RunFacts struct {
	Kimg   string `json:"kimg"`             // kimg's own version
	Engine string `json:"engine,omitempty"` // empty: none was needed
	Mirror string `json:"mirror,omitempty"` // empty: nothing was resolved
	Source string `json:"source,omitempty"` // the person's own directory or tarball that the kernel was compiled from

	// Git is what a directory's own git says of it. It is no part of Build, nor of
	// the lock, which Build names: a tarball of the same files makes the same kernel.
	Git *kernel.GitState `json:"git,omitempty"`

	Privileged bool `json:"privileged,omitempty"` // the bootstrap container was, by --privileged: the step's own list was not enough for this engine
}

// Tops are the paths of the artifacts for a person to read: a directory of them
// is one.
func (m *Manifest) Tops() []string {
	var tops []string
	for _, a := range m.Build.Artifacts {
		top, _, _ := strings.Cut(a.Path, "/")
		if strings.HasPrefix(a.Path, gdbScripts+"/") {
			top = gdbScripts
		}
		if !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	return tops
}

// gdbScripts is the directory of gdb's scripts.
const gdbScripts = "scripts/gdb"

// ReadManifest reads the manifest in an out directory. A directory without one
// is fs.ErrNotExist.
func ReadManifest(dir string) (*Manifest, error) {
	name := filepath.Join(dir, ManifestFile)
	b, err := reading.Small(name, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", name, err)
	}
	for _, a := range m.Build.Artifacts {
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
			return nil, fmt.Errorf("read manifest %s: artifact %q is not below the directory", name, a.Path)
		}
	}
	for _, d := range m.Documents {
		if !slices.Contains(documentNames, d.Path) {
			return nil, fmt.Errorf("read manifest %s: it has a document %q, which this kimg does not know", name, d.Path)
		}
	}
	return &m, nil
}

// digest is that of the part that does not depend on where or when.
func (m *Manifest) digest() (units.Digest, error) {
	b, err := json.Marshal(m.Build)
	if err != nil {
		return "", fmt.Errorf("write manifest: %w", err)
	}
	return units.DigestOf(b), nil
}

// marshal writes the manifest as JSON.
func (m *Manifest) marshal() (b []byte, err error) {
	if m.Digest, err = m.digest(); err != nil {
		return nil, err
	}
	if b, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// actions are the ActionIDs of the build that made the artifacts of a
// directory, by step; nil when there was none.
func actions(dir string) map[string]steps.ActionID {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil // no earlier build to compare with, or none that can be read
	}
	ids := map[string]steps.ActionID{}
	for _, s := range m.Build.Steps {
		ids[s.ID] = s.Action
	}
	return ids
}

// made reports whether err is about a build that was never made.
func made(err error) bool { return !errors.Is(err, fs.ErrNotExist) }

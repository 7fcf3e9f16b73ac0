package outdir

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// manifestVersion is the form of the manifest.
const manifestVersion = 1

// maxManifest bounds a manifest, in bytes; that of a build with modules has some 100 KB.
const maxManifest = 32 << 20

// Manifest says what a build made from what. Build is a function of the lock, Run was true of this one run.
type Manifest struct {
	Version int         `json:"version"`
	Build   BuildFacts  `json:"build"`
	Digest  spec.Digest `json:"digest,omitempty"` // of Build as compact JSON
	Run     RunFacts    `json:"run"`

	// Documents describe the build in other tools' forms. They are not in Build, whose digest one of them has.
	Documents []Document `json:"documents,omitempty"`
}

// NewManifest is the manifest of a build.
func NewManifest(build BuildFacts, run RunFacts) *Manifest {
	return &Manifest{Version: manifestVersion, Build: build, Run: run}
}

// BuildFacts is the part of a manifest that does not depend on where or when.
type BuildFacts struct {
	Kernel    string      `json:"kernel"` // what it calls itself, as uname -r has it
	Suite     string      `json:"suite"`
	Arch      string      `json:"arch,omitempty"` // empty: the default one
	Config    string      `json:"config"`
	Epoch     int64       `json:"epoch"` // seconds since 1970
	Lock      spec.Digest `json:"lock"`  // of kimg.lock
	Toolchain Toolchain   `json:"toolchain"`
	Imaging   Toolchain   `json:"imaging"`
	Artifacts []Artifact  `json:"artifacts"`
	Inputs    []Input     `json:"inputs"`
	Steps     []StepFact  `json:"steps"`
}

// Toolchain is what a part of the build ran in.
type Toolchain struct {
	Image    string      `json:"image"`
	Lock     spec.Digest `json:"lock"`
	Origin   string      `json:"origin"`
	Compiler string      `json:"compiler,omitempty"`
	Why      string      `json:"why,omitempty"`
}

// Artifact is a file that was asked for.
type Artifact struct {
	Path   string      `json:"path"` // relative to the manifest, with slashes
	Size   int64       `json:"size"` // bytes
	SHA256 spec.Digest `json:"sha256"`
	Mode   fs.FileMode `json:"mode"` // permission bits
	Step   string      `json:"step"`
	Varies string      `json:"varies,omitempty"` // why another build of the same has other bits; empty: it has not
}

// Document is a file that describes the artifacts and is none.
type Document struct {
	Path   string      `json:"path"` // as an Artifact's
	Size   int64       `json:"size"` // bytes
	SHA256 spec.Digest `json:"sha256"`
}

// Input is an outside thing that the build read.
type Input struct {
	Kind    string      `json:"kind"` // kernel, fix (applied where the source needs it), patch, config, index, package
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	SHA256  spec.Digest `json:"sha256"`
	For     string      `json:"for"` // the part of the build that read it

	SignedBy []string `json:"signed_by,omitempty"` // of a kernel: fingerprints
	Unsigned bool     `json:"unsigned,omitempty"`  // of a kernel: no known key signed it, which was allowed
}

// StepFact is one step: how it is known and what its containers were given.
type StepFact struct {
	ID      string        `json:"id"`
	Action  spec.ActionID `json:"action"`
	Output  spec.Digest   `json:"output,omitempty"`
	Allowed string        `json:"allowed"` // privileges, in words
}

// RunFacts is the part of a manifest that depends on where and when.
type RunFacts struct {
	Kimg   string `json:"kimg"`             // kimg's own version
	Engine string `json:"engine,omitempty"` // empty: none was needed
	Rights string `json:"rights,omitempty"` // the engine's, in words
	Users  string `json:"users,omitempty"`  // who those of its containers are on its machine, in words
	Mirror string `json:"mirror,omitempty"` // of the suite's archive
	Source string `json:"source,omitempty"` // the user's own directory or tarball that the kernel was compiled from

	// Emulated says what ran the programs of a root filesystem of another architecture, in the run that made it.
	Emulated string `json:"emulated,omitempty"`

	// Git is what a directory's own git says of it. It is no part of Build, nor of
	// the lock, which Build names: a tarball of the same files makes the same kernel.
	Git *kernel.GitState `json:"git,omitempty"`

	// Privileged says that the bootstrap container was, by --privileged.
	Privileged bool `json:"privileged,omitempty"`
}

// Tops are the paths of the artifacts for users to read: a directory of them is one.
func (m *Manifest) Tops() []string {
	var tops []string
	for _, a := range m.Build.Artifacts {
		top, _, _ := strings.Cut(a.Path, "/")
		if strings.HasPrefix(a.Path, artifact.GDBScripts+"/") {
			top = artifact.GDBScripts
		}
		if !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	return tops
}

// Read reads the manifest in an out directory. A directory without one is fs.ErrNotExist.
func Read(dir string) (*Manifest, error) {
	name := filepath.Join(dir, artifact.Manifest)
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
		if !slices.Contains(artifact.Documents(), d.Path) {
			return nil, fmt.Errorf("read manifest %s: unknown document %q", name, d.Path)
		}
	}
	return &m, nil
}

func (m *Manifest) digest() (spec.Digest, error) {
	b, err := json.Marshal(m.Build)
	if err != nil {
		return "", fmt.Errorf("write manifest: %w", err)
	}
	return units.DigestOf(b), nil
}

// Marshal writes the manifest as JSON.
func (m *Manifest) Marshal() (b []byte, err error) {
	if m.Digest, err = m.digest(); err != nil {
		return nil, err
	}
	if b, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// Actions are the ActionIDs of the build that made a directory's artifacts, by step; nil where none can be read.
func Actions(dir string) map[string]spec.ActionID {
	m, err := Read(dir)
	if err != nil {
		return nil
	}
	ids := map[string]spec.ActionID{}
	for _, s := range m.Build.Steps {
		ids[s.ID] = s.Action
	}
	return ids
}

// CheckVersion refuses a manifest of a form that this kimg does not know.
func (m *Manifest) CheckVersion() error {
	if m.Version != manifestVersion {
		return fmt.Errorf("read manifest: its version is %d, and this kimg reads %d", m.Version, manifestVersion)
	}
	return nil
}

// NewToolchain is what a lock says of a toolchain.
func NewToolchain(t spec.ToolchainLock) Toolchain {
	return Toolchain{Image: t.Image, Lock: t.Lock.Digest(), Origin: t.Origin, Compiler: t.Compiler, Why: t.Why}
}

// Inputs are the outside things that a lock names.
func Inputs(l *spec.Lock) []Input {
	var in []Input
	for _, m := range l.Materials() {
		i := Input{Kind: string(m.Kind), Name: m.Name, Version: m.Version, SHA256: m.Digest, For: m.For}
		if m.Kind == attest.Kernel {
			i.SignedBy, i.Unsigned = m.SignedBy, m.Unsigned
			if d := l.Kernel.Download; d != nil {
				i.Name = d.URL
			}
		}
		in = append(in, i)
	}
	return in
}

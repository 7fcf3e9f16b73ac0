package outdir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/version"
)

// record is what the documents say of a build: it follows from the lock and from the manifest's Build alone.
func (m *Manifest) record(l *spec.Lock, builder string) (attest.Build, error) {
	facts, err := m.digest()
	if err != nil {
		return attest.Build{}, err
	}
	f := m.Build
	b := attest.Build{
		Builder: builder, Kernel: f.Kernel, Suite: f.Suite, Epoch: time.Unix(f.Epoch, 0).UTC(),
		Requested: l.Requested(),
		Chosen: map[string]any{
			"compiler": l.Toolchain.Compiler, "toolchain": l.Toolchain.Image, "imaging": l.Imaging.Image,
			"kernelEpoch": l.Kernel.Epoch, "epoch": l.Rootfs.Epoch,
			"uuid": l.Image.UUID.String(), "hashSeed": l.Image.HashSeed.String(),
			"kernelAction": string(l.Actions.Kernel), "imageAction": string(l.Actions.Image),
			"manifestDigest": string(facts),
		},
		Materials: append(l.Materials(),
			attest.Material{Kind: attest.Toolchain, Name: l.Toolchain.Image, Digest: f.Toolchain.Lock, For: "kernel"},
			attest.Material{Kind: attest.Toolchain, Name: l.Imaging.Image, Digest: f.Imaging.Lock, For: attest.RootFS},
			attest.Material{Kind: attest.Lock, Name: artifact.Lock, Digest: f.Lock, For: "all"},
		),
	}
	for _, a := range f.Artifacts {
		b.Artifacts = append(b.Artifacts, attest.Artifact{Path: a.Path, SHA256: a.SHA256})
	}
	return b, nil
}

// withSBOM is a build whose statement vouches for its SBOM, too.
func withSBOM(b attest.Build, sum spec.Digest) attest.Build {
	b.Artifacts = append(slices.Clone(b.Artifacts), attest.Artifact{Path: attest.SBOMFile, SHA256: sum})
	return b
}

// document gives a document of the manifest; nil: it has none of that name.
func (m *Manifest) document(name string) *Document {
	if i := slices.IndexFunc(m.Documents, func(d Document) bool { return d.Path == name }); i >= 0 {
		return &m.Documents[i]
	}
	return nil
}

func (m *Manifest) describe(l *spec.Lock, builder string) (map[string][]byte, error) {
	b, err := m.record(l, builder)
	if err != nil {
		return nil, err
	}
	sbom, err := attest.SBOM(b)
	if err != nil {
		return nil, err
	}
	statement, err := attest.Provenance(withSBOM(b, units.DigestOf(sbom)))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{attest.SBOMFile: sbom, attest.ProvenanceFile: statement}, nil
}

// WriteManifest writes a manifest and its documents, and returns the manifest that is there then. What ran is in
// the manifest of the build that ran it, and who built in its statement: a build that changed nothing adds nothing,
// not even that a newer kimg looked.
func (o *Dir) WriteManifest(m *Manifest, l *spec.Lock) (*Manifest, error) {
	docs, err := m.describe(l, attest.Builder(version.String()))
	if err != nil {
		return nil, err
	}
	old, err := Read(o.dir)
	if err == nil && old.Digest != "" && reflect.DeepEqual(old.Build, m.Build) {
		if was := o.earlier(old, l); was != nil {
			docs = was
		}
	} else {
		old = nil
	}
	for _, name := range artifact.Documents() {
		m.Documents = append(m.Documents, Document{name, int64(len(docs[name])), units.DigestOf(docs[name])})
	}
	committed := false // since, with the same files
	if old != nil && reflect.DeepEqual(old.Documents, m.Documents) {
		committed = !reflect.DeepEqual(old.Run.Git, m.Run.Git)
		old.Run.Git, m = m.Run.Git, old
	} else {
		old = nil
	}
	if old == nil || committed {
		b, err := m.Marshal()
		if err != nil {
			return nil, err
		}
		if err := o.Write(artifact.Manifest, b); err != nil {
			return nil, err
		}
	}
	for _, name := range artifact.Documents() { // after the manifest, which says that they are kimg's
		if err := o.Write(name, docs[name]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// earlier are the documents of a build that is the same but for the kimg that made it; nil where there are none.
func (o *Dir) earlier(old *Manifest, l *spec.Lock) map[string][]byte {
	statement, err := o.read(attest.ProvenanceFile, attest.MaxDocument)
	d := old.document(attest.ProvenanceFile)
	if err != nil || d == nil || d.SHA256 != units.DigestOf(statement) {
		return nil
	}
	docs, err := old.describe(l, attest.BuilderOf(statement))
	if err != nil || !bytes.Equal(docs[attest.ProvenanceFile], statement) {
		return nil
	}
	return docs
}

// read reads a small file of kimg's own; one that is no plain file, or too large, is no kimg's.
func (o *Dir) read(name string, limit int64) ([]byte, error) {
	if info, err := os.Lstat(o.Path(name)); err == nil && (!info.Mode().IsRegular() || info.Size() > limit) {
		return nil, &ForeignError{o.Path(name)}
	}
	b, err := reading.Small(o.Path(name), limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// isAbsent says that err is about a file that is not there.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

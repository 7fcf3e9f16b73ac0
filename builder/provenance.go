package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"time"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/version"
)

// documentNames are the files of Manifest.Documents.
var documentNames = []string{attest.ProvenanceFile, attest.SBOMFile}

// materials are the outside things that a lock names, in the manifest's order.
func (l *Lock) materials() []attest.Material {
	k := attest.Material{Kind: attest.Kernel, Name: l.Kernel.name(), Version: l.Kernel.Version.String(), Digest: l.Kernel.SHA256, For: "kernel", Tree: l.Kernel.Source == string(kernel.Directory)}
	if d := l.Kernel.Download; d != nil {
		k.Name, k.URI, k.SignedBy, k.Unsigned = path.Base(d.URL), d.URL, slices.Concat(d.SignedBy, d.TarSignedBy), d.Unsigned
	}
	all := []attest.Material{k}
	if p := l.Kernel.Package; p != nil {
		all = []attest.Material{packageMaterial(*p, l.Kernel.Archive.Suite, "kernel")}
		all[0].Kind = attest.Kernel
		all = append(all, indexMaterial(*l.Kernel.Archive, "kernel"))
	}
	for _, f := range l.Kernel.Fixes {
		all = append(all, attest.Material{Kind: attest.Fix, Name: f.Name, Version: f.Commit, Digest: f.SHA256, For: "kernel"})
	}
	for _, p := range l.Kernel.Patches {
		all = append(all, attest.Material{Kind: attest.Patch, Name: p.Path, Digest: p.SHA256, For: "kernel"})
	}
	if l.Config.SHA256 != "" {
		all = append(all, attest.Material{Kind: attest.Config, Name: l.Config.Base, Digest: l.Config.SHA256, For: "kernel"})
	}
	for _, f := range l.Config.Fragments {
		all = append(all, attest.Material{Kind: attest.Config, Name: f.Path, Digest: f.SHA256, For: "kernel"})
	}
	packages := func(what string, from ArchiveLock, list []archive.Locked) {
		all = append(all, indexMaterial(from, what))
		for _, p := range list {
			all = append(all, packageMaterial(p, from.Suite, what))
		}
	}
	packages(attest.RootFS, l.Rootfs.Archive, l.Rootfs.Packages())
	for _, t := range []ToolchainLock{l.Toolchain, l.Imaging} {
		from := ArchiveLock{Suite: t.Lock.Suite.Name, Date: t.Lock.Date, InRelease: t.Lock.InRelease}
		packages("toolchain "+string(t.Target), from, slices.Concat(t.Lock.Base, t.Lock.Packages))
	}
	return all
}

func packageMaterial(p archive.Locked, suite, what string) attest.Material {
	m := attest.Material{Kind: attest.Package, Name: p.Name, Version: p.Version, File: p.Filename, Digest: p.SHA256, For: what}
	if s, err := archive.ParseSuite(suite); err == nil {
		m.URI, m.Supplier = attest.DebURL(s.Family.Name, s.Name, p.Name, p.Version, p.Arch), s.Family.Title
	}
	return m
}

// indexMaterial is told by the address that it has for ever, and not by that of
// the mirror it came from, which is the person's own business.
func indexMaterial(a ArchiveLock, what string) attest.Material {
	m := attest.Material{Kind: attest.Index, Name: a.Suite, Digest: a.InRelease, Date: a.Date, SignedBy: a.SignedBy, For: what}
	if s, err := archive.ParseSuite(a.Suite); err == nil {
		m.URI = archive.SnapshotURL(s.Family, a.Date) + "/dists/" + s.Name + "/InRelease"
	}
	return m
}

// asked is what the person asked for, without where on their machine it is.
func (l *Lock) asked() map[string]any {
	m := map[string]any{
		"kernel": l.Kernel.name(), "suite": l.Rootfs.Suite, "variant": string(l.Rootfs.Variant),
		"config": l.Config.Base, "size": l.Image.Size.String(),
	}
	var fragments, patches []string
	for _, f := range l.Config.Fragments {
		fragments = append(fragments, f.Path)
	}
	for _, p := range l.Kernel.Patches {
		patches = append(patches, p.Path)
	}
	for name, list := range map[string][]string{
		"include": l.Rootfs.Include, "fragments": fragments, "patches": patches, "set": l.Config.Set, "targets": l.Kernel.Targets,
	} {
		if len(list) > 0 {
			m[name] = attest.List(list)
		}
	}
	if l.Kernel.NoFixes {
		m["noFixes"] = true
	}
	if l.Toolchain.Request != "" {
		m["toolchain"] = l.Toolchain.Request
	}
	return m
}

// told is what there is to tell of a build: it follows from the lock and from
// the manifest's Build alone. Whoever checks a build tells the same.
func (m *Manifest) told(l *Lock, builder string) (attest.Build, error) {
	facts, err := m.digest()
	if err != nil {
		return attest.Build{}, err
	}
	f := m.Build
	b := attest.Build{
		Builder: builder, Kernel: f.Kernel, Suite: f.Suite, Epoch: time.Unix(f.Epoch, 0).UTC(),
		Asked: l.asked(),
		Chosen: map[string]any{
			"compiler": l.Toolchain.Compiler, "toolchain": l.Toolchain.Image, "imaging": l.Imaging.Image,
			"kernelEpoch": l.Kernel.Epoch, "epoch": l.Rootfs.Epoch,
			"uuid": l.Image.UUID.String(), "hashSeed": l.Image.HashSeed.String(),
			"kernelAction": string(l.Means.Kernel), "imageAction": string(l.Means.Image),
			"manifestDigest": string(facts),
		},
		Materials: append(l.materials(),
			attest.Material{Kind: attest.Toolchain, Name: l.Toolchain.Image, Digest: f.Toolchain.Lock, For: "kernel"},
			attest.Material{Kind: attest.Toolchain, Name: l.Imaging.Image, Digest: f.Imaging.Lock, For: attest.RootFS},
			attest.Material{Kind: attest.Lock, Name: LockFile, Digest: f.Lock, For: "all"},
		),
	}
	for _, a := range f.Artifacts {
		b.Artifacts = append(b.Artifacts, attest.Artifact{Path: a.Path, SHA256: a.SHA256})
	}
	return b, nil
}

// withSBOM is a build whose statement vouches for its SBOM, too.
func withSBOM(b attest.Build, sum units.Digest) attest.Build {
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

// describe writes the documents of a build, by their names.
func (m *Manifest) describe(l *Lock, builder string) (map[string][]byte, error) {
	b, err := m.told(l, builder)
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

// writeManifest writes a manifest and its documents, and returns the manifest
// that is there then. What ran is told by the manifest of the build that ran it,
// and who built by its statement: a build that changed nothing has nothing to add,
// not even that a newer kimg looked.
func (o *outDir) writeManifest(m *Manifest, l *Lock) (*Manifest, error) {
	docs, err := m.describe(l, attest.Builder(version.String()))
	if err != nil {
		return nil, err
	}
	old, err := ReadManifest(o.dir)
	if err == nil && old.Digest != "" && reflect.DeepEqual(old.Build, m.Build) {
		if was := o.earlier(old, l); was != nil {
			docs = was
		}
	} else {
		old = nil
	}
	for _, name := range documentNames {
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
		b, err := m.marshal()
		if err != nil {
			return nil, err
		}
		if err := o.write(ManifestFile, b); err != nil {
			return nil, err
		}
	}
	for _, name := range documentNames { // after the manifest, which says that they are kimg's
		if err := o.write(name, docs[name]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// earlier are the documents of a build that is the same but for the kimg that
// made it; nil when the directory holds others.
func (o *outDir) earlier(old *Manifest, l *Lock) map[string][]byte {
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

// read reads a small file of kimg's own. One that is not there is fs.ErrNotExist;
// one that is no plain file, or too large, is no kimg's.
func (o *outDir) read(name string, limit int64) ([]byte, error) {
	info, err := os.Lstat(o.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, &ForeignError{o.path(name)}
	}
	f, err := os.Open(o.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// isAbsent says that err is about a file that is not there.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

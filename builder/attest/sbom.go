package attest

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/units"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// noAssertion is SPDX's word for what is not known, or not said.
const noAssertion = "NOASSERTION"

// kernelLicence is that of the kernel's COPYING, in every version that kimg builds.
const kernelLicence = "GPL-2.0-only WITH Linux-syscall-note"

// namespace begins the document's identifier; its digest follows.
const namespace = home + "/sbom/"

// SBOM is the text of a build's SPDX document: the artifacts, the kernel with its
// patches, and every package of the root filesystem. Artifacts are written as SPDX
// packages and not as files, since SPDX requires a SHA-1 of every file.
func SBOM(b Build) ([]byte, error) {
	s := sbom{ids: map[string]bool{}, doc: &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: fmt.Sprintf("linux-%s-%s", b.Kernel, b.Suite),
		CreationInfo: &spdx.CreationInfo{
			// Without kimg's version: the same packages give the same document.
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "kimg"}},
			Created:  b.Epoch.UTC().Format("2006-01-02T15:04:05Z"),
		},
	}}
	s.fill(b)
	text, err := s.text() // without its namespace
	if err != nil {
		return nil, err
	}
	s.doc.DocumentNamespace = namespace + "sha256-" + string(units.DigestOf(text))
	return s.text()
}

type sbom struct {
	doc *spdx.Document
	ids map[string]bool
}

func (s *sbom) text() ([]byte, error) {
	var out bytes.Buffer
	if err := spdxjson.Write(s.doc, &out, spdxjson.Indent("  "), spdxjson.EscapeHTML(false)); err != nil {
		return nil, fmt.Errorf("write SBOM: %w", err)
	}
	return out.Bytes(), nil
}

func (s *sbom) fill(b Build) {
	artifacts := map[string]common.ElementID{}
	var image common.ElementID // of the root filesystem
	for _, a := range b.Artifacts {
		p := s.add("Artifact", a.Path)
		p.PackageFileName, p.PrimaryPackagePurpose = a.Path, "FILE"
		p.PackageChecksums = checksum(a.SHA256)
		if isRoot(a.Path) {
			image = p.PackageSPDXIdentifier
			p.PackageVersion, p.PrimaryPackagePurpose = b.Suite, "OPERATING_SYSTEM" // as the JSON schema spells it
		}
		artifacts[a.Path] = p.PackageSPDXIdentifier
		s.relate("DOCUMENT", common.TypeRelationshipDescribe, p.PackageSPDXIdentifier)
	}
	var kernel common.ElementID
	var patches []common.ElementID
	for _, m := range b.Materials {
		switch {
		case m.Kind == Kernel:
			kernel = s.kernel(m, b.Kernel)
		case m.Kind == Patch || m.Kind == Fix:
			p := s.material(m)
			p.PrimaryPackagePurpose = "SOURCE"
			patches = append(patches, p.PackageSPDXIdentifier)
		case m.Kind == Package && m.For == RootFS:
			p := s.material(m)
			if image != "" {
				s.relate(image, common.TypeRelationshipContains, p.PackageSPDXIdentifier)
			}
		}
	}
	if kernel == "" {
		return
	}
	for _, patch := range patches {
		s.relate(patch, common.TypeRelationshipPatchFor, kernel)
	}
	for _, a := range b.Artifacts {
		if !isRoot(a.Path) {
			s.relate(artifacts[a.Path], common.TypeRelationshipGeneratedFrom, kernel)
		}
	}
	if modules, ok := artifacts[artifact.Modules]; ok {
		s.relate(image, common.TypeRelationshipContains, modules)
	}
}

// isRoot says that an artifact is the root filesystem, in one of its forms.
func isRoot(file string) bool { return file == artifact.Disk || file == artifact.Initramfs }

func (s *sbom) kernel(m Material, version string) common.ElementID {
	m.Name = "linux"
	p := s.material(m)
	p.PackageVersion, p.PrimaryPackagePurpose, p.PackageLicenseDeclared = version, "SOURCE", kernelLicence
	if m.Tree {
		p.PackageChecksums = nil // of a directory, which SPDX knows no sha256 of
		p.PackageSourceInfo = fmt.Sprintf("a directory; %s of its files' names and contents: %s", treeDigest, m.Digest)
	}
	if !strings.Contains(version, "-") { // CPE has another spelling for release candidates
		p.PackageExternalReferences = append(p.PackageExternalReferences, &spdx.PackageExternalReference{
			Category: common.CategorySecurity, RefType: common.TypeSecurityCPE23Type,
			Locator: "cpe:2.3:o:linux:linux_kernel:" + version + ":*:*:*:*:*:*:*",
		})
	}
	return p.PackageSPDXIdentifier
}

func (s *sbom) material(m Material) *spdx.Package {
	p := s.add(string(m.Kind), m.Name)
	p.PackageVersion, p.PackageChecksums = m.Version, checksum(m.Digest)
	if m.File != "" {
		p.PackageFileName = path.Base(m.File)
	}
	if m.Supplier != "" {
		p.PackageSupplier = &common.Supplier{SupplierType: "Organization", Supplier: m.Supplier}
	}
	switch {
	case strings.HasPrefix(m.URI, "pkg:"):
		p.PackageExternalReferences = []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: m.URI,
		}}
	case m.URI != "":
		p.PackageDownloadLocation = m.URI
	}
	return p
}

func (s *sbom) add(kind, name string) *spdx.Package {
	p := &spdx.Package{
		PackageName: name, PackageSPDXIdentifier: s.id(kind + "-" + name), PackageDownloadLocation: noAssertion,
		PackageSupplier:         &common.Supplier{Supplier: noAssertion},
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
	}
	s.doc.Packages = append(s.doc.Packages, p)
	return p
}

// id is an identifier that no other element has.
func (s *sbom) id(name string) common.ElementID {
	bare := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-' // SPDX 2.3, 7.2: letters, numbers, "." and "-"
	}, name)
	id := bare
	for n := 2; s.ids[id]; n++ {
		id = fmt.Sprintf("%s-%d", bare, n)
	}
	s.ids[id] = true
	return common.ElementID(id)
}

func (s *sbom) relate(a common.ElementID, how string, b common.ElementID) {
	s.doc.Relationships = append(s.doc.Relationships, &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: a}, RefB: common.DocElementID{ElementRefID: b}, Relationship: how,
	})
}

func checksum(d units.Digest) []common.Checksum {
	if d == "" {
		return nil
	}
	return []common.Checksum{{Algorithm: common.SHA256, Value: string(d)}}
}

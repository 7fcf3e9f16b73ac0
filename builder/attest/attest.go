// Package attest writes what a build was made from in the forms that other tools
// read: an in-toto statement with SLSA provenance, and an SPDX SBOM. It signs the
// first, and checks it and its signatures. It must not know how anything is built
// or locked: package builder tells it, in a Build.
//
// The same Build gives the same bytes, whoever writes them and when: nothing in
// them tells of a time, a person, a path or a machine.
package attest

import (
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/units"
)

// The files beside the artifacts.
const (
	ProvenanceFile = artifact.Provenance // an in-toto Statement v1
	SBOMFile       = artifact.SBOM       // SPDX 2.3
	SignatureFile  = artifact.Signature  // an in-toto bundle: DSSE envelopes around the first, one a line
)

// MaxDocument bounds each of the two documents, in bytes: those of a large build
// have half a megabyte.
const MaxDocument = 16 << 20

// MaxSignature bounds the bundle of signatures, in bytes: it has the document in
// base64, and may have those of others.
const MaxSignature = 4 * MaxDocument

// home begins kimg's own URIs. They name things; nobody needs to reach them.
const home = "https://github.com/kimg/kimg"

// BuildType is what a statement's parameters mean; docs/howto-provenance.md
// describes them. It is another one when they mean something else.
const BuildType = home + "/blob/main/docs/howto-provenance.md#build-type-v1"

// Builder is the id of the kimg of a version.
func Builder(version string) string { return home + "@" + version }

// Build is what is told of a build.
type Build struct {
	Builder   string         // see the function of that name
	Kernel    string         // its version
	Suite     string         // of the root filesystem
	Epoch     time.Time      // the build's own time
	Asked     map[string]any // what a person asked for, as structpb.NewStruct takes it
	Chosen    map[string]any // what kimg chose, likewise
	Artifacts []Artifact
	Materials []Material
}

// Artifact is a file that the build made.
type Artifact struct {
	Path   string // relative to the out directory, with slashes
	SHA256 units.Digest
}

// Material is an outside thing that the build was made from.
type Material struct {
	Kind     Kind
	Name     string
	Version  string
	For      string // the part of the build that read it
	URI      string // what it is, for other tools: a package URL or an address; empty: a person's own
	File     string // its file's name in an archive
	Digest   units.Digest
	Tree     bool      // Digest is that of a directory; see treeDigest
	Supplier string    // who made it, if that is known
	Date     time.Time // of an index

	SignedBy []string // fingerprints
	Unsigned bool     // nobody vouches for it
}

// Kind says what a Material is.
type Kind string

// The kinds.
const (
	Kernel    Kind = "kernel"
	Patch     Kind = "patch"
	Fix       Kind = "fix" // a patch of kimg's own, applied where the source needs it
	Config    Kind = "config"
	Index     Kind = "index" // of an archive: its InRelease
	Package   Kind = "package"
	Toolchain Kind = "toolchain" // the lock of a toolchain image
	Lock      Kind = "lock"      // kimg.lock
)

// RootFS is what a Material that is in the root filesystem is for.
const RootFS = "rootfs"

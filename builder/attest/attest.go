// Package attest writes what a build was made from in forms that other tools read: Provenance gives an in-toto
// statement with SLSA provenance, SBOM an SPDX document. Sign signs the statement; Check and Verify check it and
// its signatures. How things are built and locked is not known here: a Build says what was made from what.
//
// The same Build gives the same bytes, whoever writes them and when: they contain no
// time of writing, and no name of a user, a directory or a machine.
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

// MaxDocument bounds each of the two documents, in bytes: those of a large build have half a megabyte.
const MaxDocument = 16 << 20

// MaxSignature bounds the bundle of signatures, in bytes: it has the document in base64, and may have others'.
const MaxSignature = 4 * MaxDocument

// home begins kimg's own URIs, which are names and need not be reachable.
const home = "https://github.com/kimg/kimg"

// BuildType defines a statement's parameters (docs/howto-provenance.md), and changes when their meaning does.
const BuildType = home + "/blob/main/docs/howto-provenance.md#build-type-v1"

// Builder is the id of the kimg of a version.
func Builder(version string) string { return home + "@" + version }

// Build is what the documents say of a build.
type Build struct {
	Builder   string         // see the function of that name
	Kernel    string         // its version
	Suite     string         // of the root filesystem
	Epoch     time.Time      // the build's own time
	Requested map[string]any // by the user, as structpb.NewStruct takes it
	Chosen    map[string]any // by kimg, likewise
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
	URI      string // for other tools: a package URL or an address; empty: the user's own file
	File     string // its name in an archive
	Digest   units.Digest
	Tree     bool      // Digest is that of a directory; see treeDigest
	Supplier string    // who made it, if that is known
	Date     time.Time // of an index

	SignedBy []string // fingerprints
	Unsigned bool     // it was accepted without a signature
}

// Kind says what a Material is.
type Kind string

// The kinds.
const (
	Kernel    Kind = "kernel"
	Patch     Kind = "patch"
	Fix       Kind = "fix" // a patch of kimg's own, applied where the source needs it
	Config    Kind = "config"
	File      Kind = "file"  // of the user's own, or a tree of them, laid over the root filesystem
	Index     Kind = "index" // of an archive: its InRelease
	Package   Kind = "package"
	Toolchain Kind = "toolchain" // the lock of a toolchain image
	Lock      Kind = "lock"      // kimg.lock
)

// RootFS is Material.For of what is in the root filesystem.
const RootFS = "rootfs"

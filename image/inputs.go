package image

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kimg/kimg/internal/sandbox/foreign"
	"github.com/kimg/kimg/internal/units"
)

// The versions of what the code does, which keys of steps have: RootfsVersion is
// raised when Bootstrap makes another tree of the same inputs, CustomVersion when Customise does, DiskVersion when
// MakeDisk makes another image of the same tree. The golden tests say when that is.
const (
	RootfsVersion = "3"
	CustomVersion = "2"
	DiskVersion   = "1"
)

// shellComments are the lines of a shell script that do nothing.
var shellComments = regexp.MustCompile(`(?m)^[ \t]*#.*\n|^\n`)

// RootfsInputs is a digest of all that kimg itself brings into a suite's tree of an architecture: what runs, what is
// taken out, and the files that are laid over it. Another kimg may bring something else.
func RootfsInputs(s Suite, a Arch) Digest {
	var b strings.Builder
	if isForeign(archOr(a), "") { // wherever it is made
		fmt.Fprintf(&b, "%q\n%q\n", shellComments.ReplaceAllString(emulateScript, ""), foreign.Format(archOr(a)))
	}
	fmt.Fprintf(&b, "%q\n", shellComments.ReplaceAllString(bootstrapScript, ""))
	for _, r := range rules { // and not why
		fmt.Fprintf(&b, "%q %d\n", r.pattern, r.do)
	}
	for _, sshd := range []bool{false, true} {
		for _, f := range guestFiles(s, a, nil, sshd, time.Time{}) {
			fmt.Fprintf(&b, "%q %o %q %q %d %d\n", f.Path, f.Mode, f.Data, f.Link, f.Major, f.Minor)
		}
	}
	return units.DigestOf([]byte(b.String()))
}

// InsideInputs is a digest of what kimg itself brings to what runs in a tree.
func InsideInputs() Digest {
	return units.DigestOf([]byte(shellComments.ReplaceAllString(insideScript, "")))
}

// DiskInputs is a digest of what MakeDisk tells mke2fs beside the lock, and of what
// it adds to the tree. Sizes stand for the rules that a layout follows from.
func DiskInputs(a Arch) Digest {
	var b strings.Builder
	for _, size := range []Size{64 << 20, 1 << 30, 16 << 30} {
		spec := DiskSpec{Size: size, UUID: uuid.Nil, HashSeed: uuid.Nil}
		fmt.Fprintf(&b, "%q\n", mkfsArgs(spec, layoutOf(size, treeSize{inodes: 40_000})))
	}
	fmt.Fprintf(&b, "%q\n%q\n%d\n", mkfsEnv(time.Unix(0, 0)), mkfsConf, spareInodes)
	fmt.Fprintf(&b, "%#v\n", (&DiskSpec{Epoch: time.Unix(0, 0).UTC(), Arch: a}).edits())
	return units.DigestOf([]byte(b.String()))
}

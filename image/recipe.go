package image

import (
	"fmt"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// RootfsRecipe is a digest of all that kimg itself brings into a suite's tree:
// another kimg may bring something else. What the code does to the tree is not
// in it.
func RootfsRecipe(s suite.Suite) units.Digest {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %+q\n", bootstrapScript, fmt.Sprintf("%+v", rules))
	for _, sshd := range []bool{false, true} {
		for _, f := range guestFiles(s, sshd, time.Time{}) {
			fmt.Fprintf(&b, "%+q\n", fmt.Sprintf("%+v", f))
		}
	}
	return units.DigestOf([]byte(b.String()))
}

// DiskRecipe is a digest of what MakeDisk adds to the tree.
func DiskRecipe() units.Digest {
	return units.DigestOf(fmt.Appendf(nil, "%s\n%s\n%s\n%d %d %d %d", autologinPath, autologin, mkfsConf,
		inodeSize, bytesPerInode, spareInodes, flexGroups))
}

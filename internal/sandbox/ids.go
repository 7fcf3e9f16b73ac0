package sandbox

import (
	"fmt"
)

// Range maps Size ids from Inside on, in a sandbox, to those from Outside on.
type Range struct{ Inside, Outside, Size uint32 }

// IDs are the users and groups that a sandbox, or a tree on disk, has.
type IDs struct{ UIDs, GIDs []Range }

// One reports whether there is one user and one group only.
func (ids IDs) One() bool { return len(ids.UIDs) == 1 && ids.UIDs[0].Size == 1 }

// String is short and stable, for names of directories: trees of different strings are owned by different ids. With
// one id a tree is this user's, whatever the id is inside: "one".
func (ids IDs) String() string {
	if ids.One() || len(ids.UIDs) < 2 || len(ids.GIDs) < 2 {
		return "one"
	}
	u, g := ids.UIDs[1], ids.GIDs[1]
	if u == g {
		return fmt.Sprintf("%d-%d", u.Outside, u.Size)
	}
	return fmt.Sprintf("%d-%d-%d-%d", u.Outside, u.Size, g.Outside, g.Size)
}

package sandbox

import (
	"fmt"
	"os"
)

// Range maps Size ids from Inside on, in a sandbox, to those from Outside on.
type Range struct{ Inside, Outside, Size uint32 }

// IDs are the users and groups that a sandbox, or a tree on disk, has.
type IDs struct{ UIDs, GIDs []Range }

// OneID returns ids of which there is one: this user is uid, and its group gid.
func OneID(uid, gid int) IDs {
	return IDs{
		UIDs: []Range{{Inside: uint32(uid), Outside: uint32(os.Getuid()), Size: 1}},
		GIDs: []Range{{Inside: uint32(gid), Outside: uint32(os.Getgid()), Size: 1}},
	}
}

// One reports whether there is one user and one group only.
func (ids IDs) One() bool { return len(ids.UIDs) == 1 && ids.UIDs[0].Size == 1 }

// Count is how many users there are.
func (ids IDs) Count() int {
	n := 0
	for _, r := range ids.UIDs {
		n += int(r.Size)
	}
	return n
}

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

// hasGroup reports whether a group is mapped.
func (ids IDs) hasGroup(gid uint32) bool {
	for _, r := range ids.GIDs {
		if gid-r.Inside < r.Size {
			return true
		}
	}
	return false
}

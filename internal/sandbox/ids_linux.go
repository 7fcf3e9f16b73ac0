package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// minSubIDs is how many subordinate ids a root filesystem may need: up to 65534, nobody, beside 0.
const minSubIDs = 65535

// SubIDs returns ids of which 0 is this user, and those from 1 on are the first range of this user in /etc/subuid and
// in /etc/subgid that has at least 65535. The error says what is missing.
func SubIDs() (IDs, error) {
	for _, prog := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(prog); err != nil {
			return IDs{}, fmt.Errorf("map subordinate ids: %w", err)
		}
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && on == 1 && os.Getuid() != 0 {
		return IDs{}, errors.New("map subordinate ids: newuidmap gets no privileges here (no_new_privs is set)")
	}
	uids, err := subRange("/etc/subuid", os.Getuid(), user.CurrentUserSubUIDs)
	if err != nil {
		return IDs{}, err
	}
	gids, err := subRange("/etc/subgid", os.Getgid(), user.CurrentUserSubGIDs)
	if err != nil {
		return IDs{}, err
	}
	return IDs{UIDs: uids, GIDs: gids}, nil
}

func subRange(file string, own int, read func() ([]user.SubID, error)) ([]Range, error) {
	list, err := read()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	for _, s := range list {
		if s.Count >= minSubIDs && s.SubID > 0 && s.SubID+s.Count < 1<<32 {
			// Id 65536 and those above are of no use; a longer range is not wholly taken, since maps are compared.
			n := min(s.Count, minSubIDs+1)
			return []Range{{0, uint32(own), 1}, {1, uint32(s.SubID), uint32(n)}}, nil
		}
	}
	return nil, fmt.Errorf("%s has no range of at least %d ids for this user", file, minSubIDs)
}

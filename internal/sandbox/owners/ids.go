//go:build linux && (amd64 || arm64)

package owners

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// ids are who a process believes it is. The kernel knows one id alone.
type ids struct {
	users, groups triple
	others        string // supplementary groups, four bytes each, as the kernel hands them out
	keep          bool   // PR_SET_KEEPCAPS
	weak          bool   // gave root's capabilities up with the last of root's ids
}

// triple are the real, effective and saved ids, and that for files.
type triple struct{ real, effective, saved, files uint32 }

// mark is the upper half of the soft limit by which a process is known that is not who it was at the start; the lower
// half is its ids' place in the book. The kernel enforces RLIMIT_LOCKS no more, and hands it on at every fork and exec:
// so a process has its parent's ids without anybody's doing. A process that sets it itself fools itself alone.
const mark = 0x6b696d67 << 32

// ids returns who the task is.
func (t *task) ids() (ids, error) {
	var limit unix.Rlimit
	if err := unix.Prlimit(t.pid, unix.RLIMIT_LOCKS, nil, &limit); err != nil {
		return ids{}, err
	}
	t.book.mu.RLock()
	defer t.book.mu.RUnlock()
	if n := limit.Cur - mark; n < uint64(len(t.book.people)) {
		return t.book.people[n], nil
	}
	return t.book.people[0], nil
}

// become has the task, and its children, be who is.
func (t *task) become(who ids) answer {
	b := t.book
	b.mu.Lock()
	defer b.mu.Unlock()
	n := slices.Index(b.people, who)
	if n < 0 {
		if n = len(b.people); n == 1<<12 {
			return failed(unix.EAGAIN)
		}
		b.people = append(b.people, who)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(t.pid, unix.RLIMIT_LOCKS, nil, &limit); err != nil {
		return failed(err)
	}
	limit.Cur = mark + uint64(n)
	if !t.alive() {
		return failed(unix.ESRCH)
	}
	if err := unix.Prlimit(t.pid, unix.RLIMIT_LOCKS, &limit, nil); err != nil {
		return failed(unix.EAGAIN)
	}
	return answer{}
}

// powerful reports whether who may do what the namespace's root may. A process that kept its capabilities may so still
// after an exec, which is not seen.
func (b *Book) powerful(who ids) bool {
	u := who.users
	return !who.weak && (u.effective == b.uid || u.real != b.uid && u.saved != b.uid)
}

// keepCaps notes PR_SET_KEEPCAPS, which the kernel does too.
func (t *task) keepCaps(on uint64) answer {
	who, err := t.ids()
	if err == nil && who.keep != (on != 0) {
		who.keep = on != 0
		t.become(who)
	}
	return kernels
}

// has reports whether one of a process's ids is id, or it is to stay as it is.
func (t triple) has(id uint32) bool {
	return id == same || id == t.real || id == t.effective || id == t.saved
}

// The changes of credentials(7), by their system calls: each returns the new ids, and whether all may have them. What
// it returns false for takes power.

func set(t triple, a args) (triple, bool, error) {
	id := uint32(a[0])
	if id == same {
		return t, false, unix.EINVAL
	}
	return triple{t.real, id, t.saved, id}, id == t.real || id == t.saved, nil
}

func setReal(t triple, a args) (triple, bool, error) {
	r, e := uint32(a[0]), uint32(a[1])
	may := (r == same || r == t.real || r == t.effective) && t.has(e)
	n := t
	if r != same {
		n.real = r
	}
	if e != same {
		n.effective = e
	}
	if r != same || e != same && e != t.real {
		n.saved = n.effective
	}
	n.files = n.effective
	return n, may, nil
}

func setAll(t triple, a args) (triple, bool, error) {
	n := t
	for i, field := range []*uint32{&n.real, &n.effective, &n.saved} {
		if id := uint32(a[i]); id != same {
			*field = id
		}
	}
	n.files = n.effective
	return n, t.has(uint32(a[0])) && t.has(uint32(a[1])) && t.has(uint32(a[2])), nil
}

// setIDs answers a call that changes users or groups.
func setIDs(which func(*ids) *triple, change func(triple, args) (triple, bool, error)) func(*task, args) answer {
	return func(t *task, a args) answer {
		who, err := t.ids()
		if err != nil {
			return failed(err)
		}
		power := t.book.powerful(who)
		now, may, err := change(*which(&who), a)
		switch {
		case err != nil:
			return failed(err)
		case !may && !power:
			return failed(unix.EPERM)
		}
		*which(&who) = now
		if u := who.users; u.real != t.book.uid && u.effective != t.book.uid && u.saved != t.book.uid {
			who.weak = who.weak || !who.keep
		}
		return t.become(who)
	}
}

// setUID is setuid(2) or setgid(2), which set all ids of one with power.
func setUID(which func(*ids) *triple) func(*task, args) answer {
	return func(t *task, a args) answer {
		who, err := t.ids()
		if err != nil {
			return failed(err)
		}
		if id := a[0]; t.book.powerful(who) && uint32(id) != same {
			return setIDs(which, setAll)(t, args{id, id, id})
		}
		return setIDs(which, set)(t, a)
	}
}

// setFiles is setfsuid(2) or setfsgid(2), which return the old one and no error.
func setFiles(which func(*ids) *triple) func(*task, args) answer {
	return func(t *task, a args) answer {
		who, err := t.ids()
		if err != nil {
			return failed(err)
		}
		ids, id := which(&who), uint32(a[0])
		old := answer{val: int64(ids.files)}
		if id != same && (ids.has(id) || id == ids.files || t.book.powerful(who)) {
			ids.files = id
			if r := t.become(who); r.errno != 0 {
				return r
			}
		}
		return old
	}
}

func users(i *ids) *triple  { return &i.users }
func groups(i *ids) *triple { return &i.groups }

func (t *task) setGroups(size, ptr uint64) answer {
	who, err := t.ids()
	switch {
	case err != nil:
		return failed(err)
	case !t.book.powerful(who):
		return failed(unix.EPERM)
	case uint32(size) > 65536:
		return failed(unix.EINVAL)
	}
	b := make([]byte, 4*uint32(size))
	if err := t.read(ptr, b); err != nil {
		return failed(err)
	}
	list := make([]uint32, uint32(size)) // an int to the kernel, whatever the register has above
	_, _ = binary.Decode(b, binary.NativeEndian, list)
	if slices.Contains(list, same) {
		return failed(unix.EINVAL)
	}
	slices.Sort(list) // as the kernel does
	b, _ = binary.Append(b[:0], binary.NativeEndian, list)
	who.others = string(b)
	return t.become(who)
}

func (t *task) getGroups(size, ptr uint64) answer {
	who, err := t.ids()
	n := len(who.others) / 4
	switch {
	case err != nil:
		return failed(err)
	case int32(size) < 0, int32(size) != 0 && int(int32(size)) < n:
		return failed(unix.EINVAL)
	case int32(size) != 0 && n > 0:
		if err := t.write(ptr, []byte(who.others)); err != nil {
			return failed(err)
		}
	}
	return answer{val: int64(n)}
}

// get answers getuid(2) and its like.
func get(which func(*ids) *triple, field func(*triple) uint32) func(*task, args) answer {
	return func(t *task, _ args) answer {
		who, err := t.ids()
		if err != nil {
			return failed(err)
		}
		return answer{val: int64(field(which(&who)))}
	}
}

func realID(t *triple) uint32      { return t.real }
func effectiveID(t *triple) uint32 { return t.effective }

// getAll is getresuid(2) or getresgid(2).
func getAll(which func(*ids) *triple) func(*task, args) answer {
	return func(t *task, a args) answer {
		who, err := t.ids()
		if err != nil {
			return failed(err)
		}
		is := which(&who)
		for i, id := range []uint32{is.real, is.effective, is.saved} {
			if err := t.write(a[i], binary.NativeEndian.AppendUint32(nil, id)); err != nil {
				return failed(err)
			}
		}
		return answer{}
	}
}

// may reports whether who may give a file that is f's to other owners.
func (b *Book) may(who ids, f *file, uid, gid uint32) bool {
	if b.powerful(who) {
		return true
	}
	group := binary.NativeEndian.AppendUint32(nil, gid)
	member := gid == same || gid == f.gid || gid == who.groups.files
	for i := 0; i < len(who.others) && !member; i += 4 {
		member = who.others[i:i+4] == string(group)
	}
	return who.users.files == f.uid && (uid == same || uid == f.uid) && member
}

//go:build linux && (amd64 || arm64)

package owners

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Book holds the owners of files that are not the one id's, and what device a file stands for.
// Its methods may be called by several goroutines at once.
type Book struct {
	uid uint32 // the one id, inside

	mu     sync.RWMutex
	files  map[inode]file
	groups atomic.Bool   // there was a directory of others, which may hand its group on
	people []ids         // the first is who a process is at the start
	young  chan struct{} // one for each descriptor that is held for a tick
}

// inode names a file as long as it lives, and afterwards: its number is given out again, but not in
// the same moment (see keep).
type inode struct {
	dev, ino uint64
	born     unix.StatxTimestamp
}

type file struct {
	uid, gid uint32
	typ      uint16 // S_IFCHR or S_IFBLK, of an empty file that stands for a device
	rdev     uint64
	pin      int // a descriptor that keeps the inode, or 0
}

// NewBook returns an empty Book for the namespace that the caller is in.
func NewBook() *Book {
	uid, gid := uint32(unix.Geteuid()), uint32(unix.Getegid())
	return &Book{uid: uid, files: map[inode]file{}, young: make(chan struct{}, 512),
		people: []ids{{users: triple{uid, uid, uid, uid}, groups: triple{gid, gid, gid, gid}}}}
}

const (
	noFollow, emptyPath = unix.AT_SYMLINK_NOFOLLOW, unix.AT_EMPTY_PATH
	same                = ^uint32(0) // chown's "leave it"

	// identity is what Statx must know to find a file in the book.
	identity = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_INO | unix.STATX_UID | unix.STATX_GID | unix.STATX_BTIME
)

// Statx is statx(2), with the owner and the device that the book has.
func (b *Book) Statx(dir int, name string, flags, mask int, x *unix.Statx_t) error {
	if err := unix.Statx(dir, name, flags, mask|identity, x); err != nil {
		return err
	}
	b.correct(x, mask)
	return nil
}

// correct gives x the owner and the device that the book has, and takes from it the birth time if mask has it not.
// It reports whether the book knew the file.
func (b *Book) correct(x *unix.Statx_t, mask int) bool {
	b.mu.RLock()
	f, known := b.files[inodeOf(x)]
	b.mu.RUnlock()
	if known {
		x.Uid, x.Gid = f.uid, f.gid
		if f.typ != 0 {
			x.Mode = x.Mode&^unix.S_IFMT | f.typ
			x.Rdev_major, x.Rdev_minor = unix.Major(f.rdev), unix.Minor(f.rdev)
		}
	}
	if mask&unix.STATX_BTIME == 0 {
		x.Mask, x.Btime = x.Mask&^unix.STATX_BTIME, unix.StatxTimestamp{}
	}
	return known
}

func inodeOf(x *unix.Statx_t) inode {
	i := inode{dev: unix.Mkdev(x.Dev_major, x.Dev_minor), ino: x.Ino}
	if x.Mask&unix.STATX_BTIME != 0 {
		i.born = x.Btime
	}
	return i
}

// Chown is fchownat(2) as root does it. An id of -1 stays as it is.
func (b *Book) Chown(dir int, name string, flags int, uid, gid uint32) error {
	if name != "" || flags&emptyPath == 0 {
		how := unix.O_PATH | unix.O_CLOEXEC
		if flags&noFollow != 0 {
			how |= unix.O_NOFOLLOW
		}
		fd, err := unix.Openat(dir, name, how, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dir = fd
	}
	return b.give(dir, b.people[0], uid, gid)
}

// give has who give the file of a descriptor to others.
func (b *Book) give(fd int, who ids, uid, gid uint32) error {
	return b.change(fd, func(f *file) error {
		if !b.may(who, f, uid, gid) {
			return unix.EPERM
		}
		if uid != same {
			f.uid = uid
		}
		if gid != same {
			f.gid = gid
		}
		return nil
	})
}

// Mknod makes a device, as mknodat(2) does: an empty file of the mode's permissions, that Statx tells as the device.
func (b *Book) Mknod(dir int, name string, mode uint32, dev uint64) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, mode&0o7777)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return b.change(fd, func(f *file) error {
		f.typ, f.rdev = uint16(mode&unix.S_IFMT), dev
		return nil
	})
}

// change lets do change what the book has of the file that fd is, and has the kernel do what an owner's change
// brings along: set-id bits and file capabilities go, the time of change is now, and on a read-only
// file system, or of an immutable file, it is an error.
func (b *Book) change(fd int, do func(*file) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var x unix.Statx_t
	if err := unix.Statx(fd, "", emptyPath, identity, &x); err != nil {
		return err
	}
	if x.Uid != b.uid {
		return unix.EPERM // not the one id's: nor would the namespace's root be let
	}
	f, known := b.files[inodeOf(&x)]
	if !known {
		f = file{uid: x.Uid, gid: x.Gid}
	}
	if err := do(&f); err != nil {
		return err
	}
	if err := unix.Fchownat(fd, "", -1, -1, emptyPath); err != nil {
		return err
	}
	// Again: an overlay's file is another inode after its first change.
	if err := unix.Statx(fd, "", emptyPath, identity, &x); err != nil {
		return err
	}
	i := inodeOf(&x)
	if f.typ == 0 && f.uid == x.Uid && f.gid == x.Gid {
		if f.pin != 0 {
			unix.Close(f.pin)
		}
		delete(b.files, i)
		return nil
	}
	if !known {
		var err error
		if f.pin, err = b.keep(fd, &x); err != nil {
			return err
		}
	}
	b.files[i] = f
	if x.Mode&unix.S_IFMT == unix.S_IFDIR {
		b.groups.Store(true)
	}
	return nil
}

// tick is longer than a file system's clock stands still: files of the same inode number, one after
// the other, differ in their time of birth if the first one lives longer than that.
const tick = 25 * time.Millisecond

// keep makes sure that no other file gets the inode of fd with the same time of birth, by an open descriptor:
// for a tick, or, where files have no time of birth, until the book forgets the file; then it returns it.
func (b *Book) keep(fd int, x *unix.Statx_t) (pin int, err error) {
	born := x.Mask&unix.STATX_BTIME != 0
	if born && time.Since(time.Unix(x.Btime.Sec, int64(x.Btime.Nsec))) > tick {
		return 0, nil
	}
	if born {
		b.young <- struct{}{}
	}
	held, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if !born {
		return held, err
	}
	time.AfterFunc(tick, func() {
		if err == nil {
			unix.Close(held)
		}
		<-b.young
	})
	return 0, err
}

package tree

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lstatIn looks at a file of an open directory: with tens of thousands the walk of the whole path counts.
func lstatIn(dir *os.File, de fs.DirEntry) (fs.FileMode, Stat, error) {
	var st unix.Stat_t
	var err error = unix.EINTR
	for err == unix.EINTR { // as package os does
		err = unix.Fstatat(int(dir.Fd()), de.Name(), &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return 0, Stat{}, &fs.PathError{Op: "lstat", Path: filepath.Join(dir.Name(), de.Name()), Err: err}
	}
	mode := fs.FileMode(st.Mode).Perm()
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	default:
		mode |= fs.ModeIrregular
	}
	return mode, Stat{Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(), Ino: st.Ino}, nil
}

// Package form has the forms that a guest's root filesystem may have: file systems on a disk, and the initramfs, which
// the kernel unpacks into memory. Each is a row of one table, which says what a kernel needs for it.
package form

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/needs"
)

// Form is what a root filesystem is made as, by the name that --fs takes and that mount(8) knows; the zero value is
// ext4.
type Form string

// The forms.
const (
	Ext4      Form = ""
	Squashfs  Form = "squashfs"
	EROFS     Form = "erofs"
	Btrfs     Form = "btrfs"
	XFS       Form = "xfs"
	F2FS      Form = "f2fs"
	Initramfs Form = "initramfs"
)

// row is what is known of a form.
type row struct {
	form   Form
	boot   []needs.Need // what a kernel must have to come up with it, before it runs a program
	wants  []string     // options that its files want besides: asked for, and no fault where they are off
	magic  string       // of its superblock, and where that is, in bytes
	at     int64
	fsck   []string // that says whether one is sound and writes nothing, before the image's name
	packed bool     // as large as its files make it, and never written to
}

// overlay is what a root that cannot be written to gets.
var overlay = needs.Need{What: "lay memory over a root that cannot be written to",
	Any: [][]string{{"OVERLAY_FS", "TMPFS"}}}

func root(symbols ...string) needs.Need {
	return needs.Need{What: needs.Root.What, Any: [][]string{symbols}}
}

// The magic numbers are those of the kernel's include/uapi/linux/magic.h, where its file systems read them.
var table = []row{
	{form: Ext4, boot: needs.Boot, magic: "\x53\xef", at: 1024 + 56, fsck: []string{"e2fsck", "-fn"}},
	{form: Squashfs, boot: []needs.Need{needs.Disk, root("MISC_FILESYSTEMS", "SQUASHFS", "SQUASHFS_ZSTD"), overlay,
		needs.Programs}, wants: []string{"SQUASHFS_XATTR"}, magic: "hsqs", packed: true},
	{form: EROFS, boot: []needs.Need{needs.Disk, root("MISC_FILESYSTEMS", "EROFS_FS", "EROFS_FS_ZIP"), overlay,
		needs.Programs}, wants: []string{"EROFS_FS_XATTR", "EROFS_FS_SECURITY"}, magic: "\xe2\xe1\xf5\xe0", at: 1024,
		packed: true},
	{form: Btrfs, boot: []needs.Need{needs.Disk, root("BTRFS_FS"), needs.Programs},
		wants: []string{"BTRFS_FS_POSIX_ACL"}, magic: "_BHRfS_M", at: 64<<10 + 64,
		fsck: []string{"btrfs", "check", "--readonly"}},
	{form: XFS, boot: []needs.Need{needs.Disk, root("XFS_FS"), needs.Programs},
		wants: []string{"XFS_POSIX_ACL"},
		magic: "XFSB", fsck: []string{"xfs_repair", "-n"}},
	{form: F2FS, boot: []needs.Need{needs.Disk, root("F2FS_FS"), needs.Programs}, wants: []string{"F2FS_FS_XATTR",
		"F2FS_FS_POSIX_ACL", "F2FS_FS_SECURITY"}, magic: "\x10\x20\xf5\xf2", at: 1024,
		fsck: []string{"fsck.f2fs", "--dry-run"}},
	{form: Initramfs, boot: []needs.Need{
		{What: "unpack its initramfs", Any: [][]string{{"BLK_DEV_INITRD", "RD_GZIP"}}}, needs.Programs}, packed: true},
}

// row is the form's; that of ext4 where there is none.
func (f Form) row() row {
	i := slices.IndexFunc(table, func(r row) bool { return r.form == f })
	return table[max(i, 0)]
}

// FileSystems are the names that --fs takes.
func FileSystems() (names []string) {
	for _, r := range table {
		if r.form != Initramfs {
			names = append(names, r.form.String())
		}
	}
	return names
}

// Parse returns the form of the name of a file system.
func Parse(name string) (Form, error) {
	if !slices.Contains(FileSystems(), name) {
		return "", fmt.Errorf("%q is no file system that kimg makes: want %s", name, strings.Join(FileSystems(), ", "))
	}
	if name == Ext4.String() {
		return Ext4, nil
	}
	return Form(name), nil
}

// String is the name.
func (f Form) String() string {
	if f == Ext4 {
		return "ext4"
	}
	return string(f)
}

// MarshalText writes the name.
func (f Form) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads the name of a form.
func (f *Form) UnmarshalText(b []byte) (err error) {
	if string(b) == Initramfs.String() {
		*f = Initramfs
		return nil
	}
	*f, err = Parse(string(b))
	return err
}

// File is the artifact that has it.
func (f Form) File() string {
	if f == Initramfs {
		return artifact.Initramfs
	}
	return artifact.Disk
}

// OnDisk says that there is a disk at all.
func (f Form) OnDisk() bool { return f != Initramfs }

// ReadOnly says that nobody can write to it where it is: on a disk, it gets memory laid over.
func (f Form) ReadOnly() bool { return f.row().packed }

// Overlaid says that the guest's root is the form's with memory laid over.
func (f Form) Overlaid() bool { return f.OnDisk() && f.ReadOnly() }

// Sized says that there is a choice of its size: others are as large as their files make them.
func (f Form) Sized() bool { return !f.row().packed }

// Boot is what a kernel must have to come up with it.
func (f Form) Boot() []needs.Need { return f.row().boot }

// Symbols are the kernel's options that it is asked for with, beside those of every guest.
func (f Form) Symbols() (symbols []string) {
	if f == Ext4 { // every base has it
		return nil
	}
	r := f.row()
	for _, n := range r.boot {
		if n.What != needs.Disk.What && n.What != needs.Programs.What {
			symbols = append(symbols, n.Any[0]...)
		}
	}
	return append(symbols, r.wants...)
}

// Fsck is the command that says whether a disk of it is sound, and writes nothing; the disk's name follows.
func (f Form) Fsck() []string { return f.row().fsck }

// Of says which form the root filesystem in a directory of artifacts has. A disk whose magic number is not known
// counts as ext4: its kernel, and e2fsck, say what is wrong. Without a root filesystem it is an fs.ErrNotExist.
func Of(dir string) (Form, error) {
	f, err := os.Open(filepath.Join(dir, artifact.Disk))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, artifact.Initramfs)); err == nil {
			return Initramfs, nil
		}
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return of(f)
}

func of(r io.ReaderAt) (Form, error) {
	for _, row := range table {
		if row.magic == "" {
			continue
		}
		b := make([]byte, len(row.magic))
		if _, err := r.ReadAt(b, row.at); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if bytes.Equal(b, []byte(row.magic)) {
			return row.form, nil
		}
	}
	return Ext4, nil
}

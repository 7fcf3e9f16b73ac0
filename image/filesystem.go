package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
	"github.com/kimg/kimg/internal/stamp"
)

// fileSystem is how a file system is made from a tree by its own tools, in a container.
type fileSystem struct {
	// script makes disk.img of the tar on its stdin. It gets, in this order, the label, the UUID, the epoch in seconds,
	// the size in bytes (0: as it comes out) and the root's own time.
	script string
	check  string // its own fsck: fails where disk.img is not sound. It gets how many inodes there are, as %x has it

	// pack writes that tar; nil: as the tree is. Where the tools, run by an ordinary user, cannot take owners, modes,
	// devices and times along, it packs stand-ins, and stamp makes of them what the tree has.
	pack  func(*tree, io.Writer) error
	stamp func(stamp.Image, []stamp.Inode) error

	// least is the smallest size that holds a tree and what a guest lives in; nil: it comes out.
	least func(treeSize) Size
	bare  bool   // its tools leave devices, pipes and file capabilities out, and cut owners off at 16 bits
	other string // why two builds are not the same bits; empty: they are
}

// fileSystems are all but ext4. fakeroot has the tools see owners and capabilities that an ordinary user cannot give;
// it does so in memory, whatever the engine's ids and capabilities are. A tar whose directories are none but its own is
// unpacked with --absolute-names: else GNU tar makes links out of it late, and their directories are of that time.
var fileSystems = map[Form]fileSystem{
	form.Squashfs: {
		// The tar is read in its order and compressed by all processors, and the result is the same.
		script: `exec sqfstar -quiet -no-progress -comp zstd -mkfs-time "$3" -root-mode 0755 -root-uid 0 -root-gid 0 \
	-root-time "$5" disk.img`,
		check: "unsquashfs -lls disk.img >/dev/null",
	},
	form.EROFS: {
		script: `cat >tree.tar
mkfs.erofs --quiet --tar=f -zlz4hc -L "$1" -U "$2" -T "$3" --mkfs-time disk.img tree.tar
rm tree.tar`,
		check: "fsck.erofs disk.img",
	},
	form.Btrfs: {
		// mkfs.btrfs walks through directories by glibc's nftw, which asks the kernel and not fakeroot who owns a file:
		// so owners are stamped, and only the capabilities come by fakeroot.
		script: `mkdir tree
fakeroot -- sh -ec 'tar --extract --absolute-names --directory=tree --xattrs \
	--xattrs-include=security.capability --file=-
truncate --size="$4" disk.img
mkfs.btrfs --quiet --data single --metadata single --label "$1" --uuid "$2" --device-uuid "$2" --rootdir tree \
	disk.img' sh "$@"
rm -r tree`,
		check: "btrfs check --readonly --check-data-csum disk.img",
		pack:  standIns, stamp: stamp.Btrfs, least: leastBtrfs,
		other: "mkfs.btrfs takes files in the order in which the file system below it lists them",
	},
	form.XFS: {
		// Without what Linux has only since 5.19: numbers of extents of 64 bits.
		script: `mkdir tree
cd tree
fakeroot -- sh -ec 'tar --extract --absolute-names --xattrs --xattrs-include=security.capability --file=-
truncate --size="$4" ../disk.img
mkfs.xfs -q -L "$1" -m uuid="$2",rmapbt=0 -i nrext64=0 -p proto,slashes_are_spaces=1 ../disk.img' sh "$@"
xfs_db -x ../disk.img <links >/dev/null
cd ..
rm -r tree`,
		check: "xfs_repair -n disk.img",
		pack:  prototype, stamp: stamp.XFS, least: leastXFS,
	},
	form.F2FS: {
		script: `mkdir tree
truncate --size="$4" disk.img
mkfs.f2fs -q -l "$1" -U "$2" -T "$5" -R 0:0 -r disk.img >/dev/null
fakeroot -- sh -ec 'tar --extract --absolute-names --same-owner --same-permissions --directory=tree --file=-
sload.f2fs -P -f tree -t / disk.img >said' || { cat said >&2; exit 1; }
if grep -E "^(Skip|No parent|Convert)|Failed|Error" said >&2; then exit 1; fi
rm -r tree said`,
		// sload.f2fs ends well where a file did not fit, or a name was not taken: so the files are counted.
		check: `fsck.f2fs --dry-run disk.img | tee said
grep -q "valid_inode_count matched with CP .*\[Ok..\] \[0x$1\]" said || {
	echo "files are missing in it" >&2
	exit 1
}`,
		stamp: func(img stamp.Image, _ []stamp.Inode) error { return stamp.F2FS(img) }, pack: asIs, least: leastF2FS,
		bare: true,
	},
}

// fileSystemEnv has names sorted by their bytes, and fakeroot not ask the kernel, which in a namespace of its own knows
// only some owners and says so in a way that fakeroot takes for an error.
var fileSystemEnv = []string{"TZ=UTC", "LC_ALL=C.UTF-8", "FAKEROOTDONTTRYCHOWN=1"}

// fileSystemArgs is the container's command that makes a file system.
func fileSystemArgs(spec DiskSpec) []string {
	return []string{"sh", "-c", "set -e\n" + fileSystems[spec.Form].script, "sh", RootLabel, spec.UUID.String(),
		strconv.FormatInt(spec.Epoch.Unix(), 10), strconv.FormatInt(int64(spec.Size), 10)}
}

// NeedsForms says that a form is made by more tools than the usual imaging image has.
func NeedsForms(f Form) bool {
	_, ok := fileSystems[f]
	return ok
}

// Irreproducible says why two builds of a form are not the same bits; empty: they are.
func Irreproducible(f Form) string { return fileSystems[f].other }

// makeFileSystem makes a file system of a tree, checks it and writes it to file.
func (m Maker) makeFileSystem(ctx context.Context, spec DiskSpec, t *tree, file string) (err error) {
	fs, ok := fileSystems[spec.Form]
	if !ok {
		return fmt.Errorf("kimg does not make %s", spec.Form)
	}
	if fs.other != "" {
		m.warn(fmt.Sprintf("no two builds of %s have the same bits: %s", spec.Form, fs.other))
	}
	if fs.bare {
		if err := t.shortOwners(); err != nil {
			return err
		}
		m.leaveOut(spec.Form, t)
	}
	if fs.least != nil {
		least := (fs.least(t.size()) + 1<<20 - 1) >> 20 << 20
		if spec.Size == 0 {
			spec.Size = least
		}
		if spec.Size < least {
			return &SizeError{Size: spec.Size, Need: least}
		}
	}
	k, err := m.startWorker(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close(ctx)) }()
	said := &complaints{w: m.log()}
	args := append(fileSystemArgs(spec), strconv.FormatInt(t.nodes["."].mtime.Unix(), 10))
	pack := t.write
	if fs.pack != nil {
		pack = func(w io.Writer) error { return fs.pack(t, w) }
	}
	if err := reading.Pipe(pack, func(r io.Reader) error {
		err := k.c.Exec(ctx, &container.ExecCmd{Args: args, Dir: workDir, Stdin: r, Stdout: said, Stderr: said,
			Env: fileSystemEnv})
		if err == nil { // a tar's padding may be left
			_, err = io.Copy(io.Discard, r)
		}
		return err
	}); err != nil {
		return fmt.Errorf("run its mkfs: %w%s", err, said.last())
	}
	out, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	if err := reading.Pipe(
		func(w io.Writer) error { return k.Get(ctx, diskName, w) },
		func(r io.Reader) error {
			n, err := sparse.Copy(out, r)
			if err == nil && spec.Form.Sized() && n != int64(spec.Size) {
				err = fmt.Errorf("it came back with %d bytes, want %d", n, int64(spec.Size))
			}
			return err
		},
	); err != nil {
		return err
	}
	if fs.stamp != nil {
		if err := fs.stamp(out, t.marked().inodes()); err != nil {
			return err
		}
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := k.Put(ctx, diskName, out); err != nil { // for its own fsck to see what was stamped
			return err
		}
	}
	said = &complaints{w: m.log()}
	check := []string{"sh", "-ec", fs.check, "sh", fmt.Sprintf("%x", len(t.marked().files))}
	if err := k.c.Exec(ctx, &container.ExecCmd{Args: check, Dir: workDir, Stdout: said, Stderr: said}); err != nil {
		return fmt.Errorf("check it: %w%s", err, said.last())
	}
	return out.Sync()
}

// leaveOut takes out of a tree what the tools of its file system have no way to take along, and says so.
func (m Maker) leaveOut(f Form, t *tree) {
	if names := t.withoutDevices(); len(names) > 0 {
		m.warn(fmt.Sprintf("%s is made without devices and pipes: the kernel makes its own in /dev, and these are not "+
			"there: %s", f, strings.Join(names, ", ")))
	}
	if names := t.withoutCapabilities(); len(names) > 0 {
		m.warn(withoutCapabilities(f.String(), names))
	}
}

// withoutCapabilities is the line for users.
func withoutCapabilities(what string, names []string) string {
	return fmt.Sprintf("%s has no file capabilities: %s lose theirs, and work for root alone", what,
		strings.Join(names, ", "))
}

// spare is what a guest lives in beside its files, in bytes, which are a hundredth of these more than they are.
func spare(t treeSize) int64 { return spareBytes + t.blocks*blockSize/100 }

// leastBtrfs is what holds its chunks: those of data, of metadata and the system's.
func leastBtrfs(t treeSize) Size {
	return Size(128<<20 + t.blocks*blockSize*5/4 + t.inodes*2048 + spare(t))
}

// leastXFS is 300 MiB, which mkfs.xfs asks for, of which 64 are the journal, or what holds a larger tree.
func leastXFS(t treeSize) Size {
	return Size(max(300<<20, 96<<20+t.blocks*blockSize+t.inodes*1024+spare(t)))
}

// leastF2FS is what holds a tree with an inode of a block for each file, and segments to clean in.
func leastF2FS(t treeSize) Size {
	return Size(64<<20 + (t.blocks+t.inodes)*blockSize*9/8 + spare(t))
}

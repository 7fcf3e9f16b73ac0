package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/google/uuid"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
)

// DiskSpec says which disk image MakeDisk makes. The same spec and the same tree give the same bytes.
type DiskSpec struct {
	Form     Form      // what it is made as; zero: ext4
	Size     Size      // whole MiB; 0: as small as its files allow, which some forms always are
	UUID     uuid.UUID // of the file system
	HashSeed uuid.UUID // of its directories' hashes
	Epoch    time.Time // every time in the file system that is not a file's own
	Features []string  // of an ext4, named whole: see Features
	Arch     Arch      // of the guest, whose serial console logs in; zero: the default
}

// autologin is the drop-in that logs root in on the serial console, whose name is in its path.
const (
	autologinPath = "/etc/systemd/system/serial-getty@%s.service.d/autologin.conf"
	autologin     = `[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200,57600,38400,9600 %I $TERM
`
)

// edits are what goes into an image after its tree.
func (s *DiskSpec) edits() []ext4.Edit {
	file := fmt.Sprintf(autologinPath, archOr(s.Arch).Console)
	return []ext4.Edit{
		ext4.WriteFile{Path: file, Data: []byte(autologin), Mode: 0o644, Time: s.Epoch},
		ext4.SignedHash{}, // on engines of every architecture
	}
}

// archOr is the architecture that a spec means.
func archOr(a Arch) Arch {
	if a == (Arch{}) {
		return arch.Default
	}
	return a
}

// MakeDisk makes the disk image file, which must not be there yet, from the tar of a normalised tree. mke2fs
// formats and fills it in a container of the imaging image, as an ordinary user without a single capability: the
// tar carries owners and devices, so nothing needs a mount or a mknod. On an error there is no file.
//
// A tree that does not fit is a *SizeError, before anything runs. Forms other than ext4 have files of their own beside
// the tree's: what an initramfs begins with, or what lays memory over a root that cannot be written to.
func (m Maker) MakeDisk(ctx context.Context, spec DiskSpec, tree Tree, file string) (err error) {
	if spec.Size < 0 || spec.Size%(1<<20) != 0 {
		return fmt.Errorf("make disk image: %s is not a size in whole MiB", spec.Size)
	}
	if spec.Form != "" {
		if err := m.makeForm(ctx, spec, tree, file); err != nil {
			return fmt.Errorf("make %s: %w", spec.Form, err)
		}
		return nil
	}
	d := disk{DiskSpec: spec, tree: tree}
	if err := tree.read(func(r io.Reader) (err error) { d.survey, err = surveyTar(r); return err }); err != nil {
		return fmt.Errorf("make disk image: %w", err)
	}
	if d.Size == 0 {
		d.Size = smallest(0, d.survey.size)
	}
	if err := fit(d.Size, d.survey.size); err != nil {
		return err
	}
	made, err := diskfs.Create(file, int64(d.Size), diskfs.SectorSizeDefault)
	if err != nil {
		return fmt.Errorf("make disk image: %w", err)
	}
	defer func() {
		if err = errors.Join(err, made.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	if d.out, err = made.Backend.Sys(); err != nil {
		return fmt.Errorf("make disk image: %w", err)
	}
	if err := m.fill(ctx, d); err != nil {
		return fmt.Errorf("make disk image: %w", err)
	}
	if err := tree.read(func(r io.Reader) error { return compare(file, r, spec.edits()) }); err != nil {
		return fmt.Errorf("check disk image: %w", err)
	}
	if err := d.out.Sync(); err != nil {
		return fmt.Errorf("make disk image: %w", err)
	}
	return nil
}

// disk is a disk image that is being made.
type disk struct {
	DiskSpec
	tree   Tree
	survey *survey
	out    *os.File
}

// fill makes the file system in a container and copies it into d.out.
func (m Maker) fill(ctx context.Context, d disk) (err error) {
	k, err := m.startWorker(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close(ctx)) }()
	if err := k.Put(ctx, mkfsConfName, strings.NewReader(mkfsConf)); err != nil {
		return err
	}
	said := &complaints{w: m.log()}
	if err := d.tree.read(func(r io.Reader) error {
		return k.c.Exec(ctx, &container.ExecCmd{
			Args: mkfsArgs(d.DiskSpec, layoutOf(d.Size, d.survey.size)), Env: mkfsEnv(d.Epoch), Dir: workDir,
			Stdin: r, Stdout: said, Stderr: said,
		})
	}); err != nil {
		return fmt.Errorf("run mke2fs: %w%s", err, said.first())
	}
	if err := ext4.Apply(ctx, k, diskName, d.survey, d.edits()); err != nil {
		return err
	}
	if err := reading.Pipe(
		func(w io.Writer) error { return k.Get(ctx, diskName, w) },
		func(r io.Reader) error {
			n, err := sparse.Copy(d.out, r)
			if err == nil && n != int64(d.Size) {
				err = fmt.Errorf("it came back with %d bytes, want %d", n, int64(d.Size))
			}
			return err
		},
	); err != nil {
		return err
	}
	return ext4.Finish(d.out, d.edits())
}

// diskName is the file system's file in the container.
const diskName = "disk.img"

// mkfsArgs names everything that mke2fs.conf, the clock or chance would decide.
// "none" in -O takes the defaults away; what follows is the whole list.
func mkfsArgs(spec DiskSpec, l layout) []string {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return []string{
		"mke2fs", "-q", "-F", "-t", "ext4", "-T", "default", "-L", RootLabel, "-U", spec.UUID.String(),
		"-b", n(blockSize), "-I", n(inodeSize), "-N", n(l.inodes), "-g", n(blocksPerGroup), "-G", n(flexGroups),
		"-J", "size=" + n(l.journal*blockSize>>20),
		"-m", "0", // nobody but root is in the guest
		"-e", "remount-ro",
		"-O", strings.Join(slices.Concat([]string{"none"}, spec.Features), ","),
		"-E", "hash_seed=" + spec.HashSeed.String() +
			",lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard",
		"-d", "-", // the tar, from stdin
		diskName, n(l.blocks),
	}
}

func mkfsEnv(epoch time.Time) []string {
	return []string{
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch.Unix(), 10),
		"TZ=UTC",
		"LC_ALL=C.UTF-8", // libarchive refuses names that its locale cannot spell
		"MKE2FS_CONFIG=" + path.Join(workDir, mkfsConfName),
		"MKE2FS_DEVICE_SECTSIZE=512", // and of no host's disk
	}
}

// mkfsConf defines the types that mkfsArgs names, and no default: no distribution has a say.
const (
	mkfsConfName = "mke2fs.conf"
	mkfsConf     = `[fs_types]
	ext4 = {
		inode_size = 256
	}
	default = {
		inode_size = 256
	}
`
)

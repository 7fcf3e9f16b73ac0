package image_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// rig is a real engine with the imaging image, a real archive and a store.
type rig struct {
	eng     container.Engine
	imaging string
	ac      *archive.Client
}

func newRig(t testing.TB) *rig { return newRigOf(t, toolchain.Imaging) }

// newRigOf has another imaging image.
func newRigOf(t testing.TB, target toolchain.Target) *rig { return newRigOn(t, target, arch.Default) }

// newRigOn has an imaging image for engines of an architecture.
func newRigOn(t testing.TB, target toolchain.Target, engine arch.Arch) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("bootstraps a real suite")
	}
	eng := containertest.Engine(t)
	cache := os.Getenv("KIMG_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "kimg")
	}
	mirror, err := archive.MirrorQuery{Root: "/", Family: suite.Debian, Arch: arch.Default}.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(cache, "store"))
	if err != nil {
		t.Fatal(err)
	}
	ac := &archive.Client{Store: st, Mirror: mirror, Arch: engine,
		HTTP: &fetch.Client{HTTP: fetch.NewHTTP(mirror.ProxyFunc())}}
	lock, err := toolchain.Load(target, engine)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	task := progress.Start(nil, "imaging", "Imaging", progress.LogTo(&log, ""))
	maker := toolchain.Maker{Engine: eng, Archive: ac, Locks: filepath.Join(cache, "locks"), Task: task}
	made, err := maker.Ensure(t.Context(), lock)
	if missing := (*archive.MissingError)(nil); errors.As(err, &missing) {
		if lock, err = toolchain.Resolve(t.Context(), ac, target); err == nil {
			made, err = maker.Ensure(t.Context(), lock)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	ac.Arch = arch.Default
	return &rig{eng, made.ID, ac}
}

// spec resolves a suite with kimg's own packages and some more.
func (r *rig) spec(t testing.TB, of string, v archive.Variant, include ...string) image.RootfsSpec {
	t.Helper()
	s, err := suite.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := r.ac.Release(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	index, err := r.ac.Index(t.Context(), rel, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := index.Closure(archive.ClosureSpec{Suite: s, Variant: v, Include: append(image.Includes(v), include...)})
	if err != nil {
		t.Fatal(err)
	}
	out := image.RootfsSpec{Suite: s, Variant: v, Epoch: rel.Date}
	for _, p := range set.Required {
		out.Required = append(out.Required, p.Locked())
	}
	for _, p := range set.Base {
		out.Base = append(out.Base, p.Locked())
	}
	if err := r.ac.Fetch(t.Context(), s, append(out.Required[:len(out.Required):len(out.Required)], out.Base...),
		rel.Date, nil); err != nil {
		t.Fatal(err)
	}
	return out
}

// maker's log is the test's own when the test fails.
func (r *rig) maker(t testing.TB) image.Maker {
	var log bytes.Buffer
	t.Cleanup(func() {
		if t.Failed() {
			b := log.Bytes()
			t.Logf("the step's log ends so:\n%s", b[max(0, len(b)-4000):])
		}
	})
	return image.Maker{Engine: r.eng, Imaging: r.imaging, Log: &log}
}

// bootstrap runs Bootstrap into a file and returns its name and digest.
func (r *rig) bootstrap(t *testing.T, spec image.RootfsSpec) (string, units.Digest) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rootfs.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	begun := time.Now()
	if err := r.maker(t).Bootstrap(t.Context(), spec, r.ac.Store, f); err != nil {
		t.Fatal(err)
	}
	took, sum := time.Since(begun).Round(100*time.Millisecond), digest(t, name)
	t.Logf("bootstrapped %s %s in %s: %s", spec.Suite, spec.Variant, took, sum)
	return name, sum
}

// disk makes the ext4 image of a tree, and returns its name and digest.
func (r *rig) disk(t *testing.T, spec image.RootfsSpec, tree string) (string, units.Digest) {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "rootfs.img")
	if err := r.maker(t).MakeDisk(t.Context(), diskSpec(spec, units.KernelVersion{Major: 6, Minor: 12}),
		opener(tree), disk); err != nil {
		t.Fatal(err)
	}
	return disk, digest(t, disk)
}

func digest(t *testing.T, name string) units.Digest {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, _, err := units.DigestReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func opener(name string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(name) }
}

func diskSpec(spec image.RootfsSpec, kernel units.KernelVersion) image.DiskSpec {
	return image.DiskSpec{
		Size: 1 << 30, Epoch: spec.Epoch, Features: image.Features(spec.Suite, kernel),
		UUID:     uuid.MustParse("6b696d67-0000-4000-8000-000000000001"),
		HashSeed: uuid.MustParse("6b696d67-0000-4000-8000-000000000002"),
	}
}

// TestSameBitsTwice makes each suite's tree and disk twice and compares them, bit
// for bit. KIMG_TEST_SUITES names other suites than the default one.
func TestSameBitsTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	suites := os.Getenv("KIMG_TEST_SUITES")
	if suites == "" {
		suites = "trixie"
	}
	include := strings.FieldsFunc(os.Getenv("KIMG_TEST_INCLUDE"), func(c rune) bool { return c == ',' })
	variant := archive.Minbase
	if v := os.Getenv("KIMG_TEST_VARIANT"); v != "" {
		variant = archive.Variant(v)
	}
	for of := range strings.SplitSeq(suites, ",") {
		t.Run(of, func(t *testing.T) {
			spec := r.spec(t, of, variant, include...)
			tar, first := r.bootstrap(t, spec)
			again, second := r.bootstrap(t, spec)
			if first != second {
				keep(t, tar, of+"-1.tar")
				keep(t, again, of+"-2.tar")
				t.Fatalf("the trees differ: %s and %s", first, second)
			}
			var disks []units.Digest
			for range 2 {
				begun := time.Now()
				disk, sum := r.disk(t, spec, tar)
				t.Logf("made the disk in %s: %s", time.Since(begun).Round(100*time.Millisecond), sum)
				r.fsck(t, disk)
				disks = append(disks, sum)
				checkGuest(t, disk)
				keep(t, disk, of+".img")
			}
			if disks[0] != disks[1] {
				t.Errorf("the disks differ: %s and %s", disks[0], disks[1])
			}
		})
	}
}

// keep copies a file to the directory KIMG_TEST_KEEP, where that is set.
func keep(t *testing.T, name, as string) {
	t.Helper()
	dir := os.Getenv("KIMG_TEST_KEEP")
	if dir == "" {
		return
	}
	_ = os.Remove(filepath.Join(dir, as))
	if err := os.Link(name, filepath.Join(dir, as)); err != nil {
		t.Logf("keep %s: %v", name, err)
	}
}

// fsck checks an image with the imaging image's e2fsck.
func (r *rig) fsck(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	err = container.Run(t.Context(), r.eng, &container.Cmd{
		Image: r.imaging, User: "1000:1000", Dir: "/kimg/work", Stdin: f, Stdout: &out, Stderr: &out,
		Args: []string{"sh", "-c", "dd of=d bs=64k iflag=fullblock conv=sparse status=none && exec e2fsck -fn d"},
	})
	if err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, out.String())
	}
}

// checkGuest looks for what makes a tree kimg's guest.
func checkGuest(t *testing.T, disk string) {
	t.Helper()
	img, err := ext4.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for name, want := range map[string]string{
		"etc/hostname": "kimg\n", "etc/machine-id": "", "etc/fstab": "LABEL=kimg-root", "etc/shadow": "root::",
		"etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf": "--autologin root",
		"etc/systemd/network/80-kimg.network":                            "DHCP=yes",
	} {
		b, err := img.ReadFile(name)
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"sbin/init", "lib/systemd/systemd-networkd", "usr/lib/kimg/agent", "sbin/agetty"} {
		if st, err := img.Stat(name); err != nil || st.Mode()&0o111 == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"debootstrap", "var/lib/dpkg/status-old", "etc/passwd-", "var/log/dpkg.log",
		"etc/dpkg/dpkg.cfg.d/kimg-unsafe-io"} {
		if _, err := img.Lstat(name); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	if l, err := img.ReadDir("var/cache/apt/archives"); err != nil || len(l) > 1 {
		t.Errorf("var/cache/apt/archives has %d names, %v", len(l), err)
	}
	if v := img.Superblock(); v.Label != image.RootLabel {
		t.Errorf("the label is %q", v.Label)
	}
}

// TestBootstrapTellsWhatWentWrong takes a package away that others stand on.
func TestBootstrapTellsWhatWentWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	spec := r.spec(t, "trixie", archive.Minbase)
	for i, p := range spec.Required {
		if p.Name == "dash" {
			spec.Required = append(spec.Required[:i:i], spec.Required[i+1:]...)
			break
		}
	}
	err := image.Maker{Engine: r.eng, Imaging: r.imaging}.Bootstrap(t.Context(), spec, r.ac.Store, io.Discard)
	var exit *container.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "debootstrap trixie") {
		t.Errorf("%v", err)
	}
}

// TestBootstrapWithoutAPackage lacks one of the base: debootstrap waits for it once the required ones are configured.
func TestBootstrapWithoutAPackage(t *testing.T) {
	r := newRig(t)
	spec := r.spec(t, "trixie", archive.Minbase)
	lost := &spec.Base[len(spec.Base)-1]
	lost.SHA256 = units.DigestOf([]byte("what nobody has"))
	err := r.maker(t).Bootstrap(t.Context(), spec, r.ac.Store, io.Discard)
	if want := "hand the packages of trixie to debootstrap: package " + lost.Name; err == nil ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q in it", err, want)
	}
}

// TestCancelledBootstrapStops ends a bootstrap in its middle.
func TestCancelledBootstrapStops(t *testing.T) {
	r := newRig(t)
	spec := r.spec(t, "trixie", archive.Minbase)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	begun := time.Now()
	err := r.maker(t).Bootstrap(ctx, spec, r.ac.Store, io.Discard)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if d := time.Since(begun); d > 15*time.Second {
		t.Errorf("it took %s to stop", d)
	}
}

// hardTree is a tree of what a file system can get wrong, as a normalised tar.
func hardTree(t *testing.T, files, fileSize int) string {
	return hardTreeOf(t, 100000, files, fileSize)
}

// hardTreeOf has files of a group.
func hardTreeOf(t *testing.T, group, files, fileSize int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tree.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	put := func(h *tar.Header, b []byte) {
		t.Helper()
		h.Size, h.ModTime = int64(len(b)), time.Unix(1_600_000_000, 0)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	put(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	put(&tar.Header{Name: "./caps", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 65534, Gid: group,
		PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14),
		}}, []byte("#!"))
	put(&tar.Header{Name: "./dev/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	put(&tar.Header{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, nil)
	put(&tar.Header{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	put(&tar.Header{Name: "./fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, nil)
	put(&tar.Header{Name: "./holes", Typeflag: tar.TypeReg, Mode: 0o644},
		append(append(bytes.Repeat([]byte("a"), 5000), make([]byte, 1<<20)...), 'z'))
	put(&tar.Header{Name: "./late/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	put(&tar.Header{Name: "./late/:far", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("a name with a colon in front"))
	put(&tar.Header{Name: "./late/far", Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "/etc/far"}, nil)
	put(&tar.Header{Name: "./late/up", Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "../etc/: far"}, nil)
	put(&tar.Header{Name: "./late-too", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("between late and what is in it"))
	put(&tar.Header{Name: "./link", Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: strings.Repeat("long/", 30)}, nil)
	put(&tar.Header{Name: "./many/", Typeflag: tar.TypeDir, Mode: 0o1777, Gid: 5}, nil)
	for i := range files {
		put(&tar.Header{Name: fmt.Sprintf("./many/f-with-a-name-of-usual-length-%06d", i), Typeflag: tar.TypeReg,
			Mode: 0o600},
			bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, fileSize/3))
	}
	put(&tar.Header{Name: "./name with spaces, Főtanúsítvány, " + strings.Repeat("n", 180), Typeflag: tar.TypeReg,
		Mode: 0o644}, []byte("utf-8"))
	put(&tar.Header{Name: "./same", Typeflag: tar.TypeLink, Linkname: "./caps", Mode: 0o4755, Uid: 65534, Gid: group},
		nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestMakeDisk makes disks of trees that are hard, one of them as small as the
// estimate allows: then mke2fs must not run out of space. MakeDisk reads every
// file back itself.
func TestMakeDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	of, err := suite.Parse("trixie")
	if err != nil {
		t.Fatal(err)
	}
	spec := diskSpec(image.RootfsSpec{Suite: of, Epoch: time.Unix(1_700_000_000, 0)},
		units.KernelVersion{Major: 6, Minor: 12})
	for name, tree := range map[string]string{
		"many small files": hardTree(t, 3000, 300), "few large files": hardTree(t, 3, 12<<20),
		"nothing much": hardTree(t, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			spec := spec
			spec.Size = 1 << 20
			disk := filepath.Join(t.TempDir(), "rootfs.img")
			err := r.maker(t).MakeDisk(t.Context(), spec, opener(tree), disk)
			var small *image.SizeError
			if !errors.As(err, &small) {
				t.Fatalf("a tree in 1 MiB: %v", err)
			}
			if _, err := os.Stat(disk); err == nil {
				t.Error("a refused disk is there")
			}
			var digests []units.Digest
			for _, spec.Size = range []units.Size{small.Need, 0} { // 0: as small as it can be, which is the same
				disk := filepath.Join(t.TempDir(), "rootfs.img")
				begun := time.Now()
				if err := r.maker(t).MakeDisk(t.Context(), spec, opener(tree), disk); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s in %s", small.Need, time.Since(begun).Round(10*time.Millisecond))
				r.fsck(t, disk)
				digests = append(digests, digest(t, disk))
			}
			if digests[0] != digests[1] {
				t.Error("two disks of one tree differ")
			}
		})
	}
}

// TestMakeForms makes file systems other than ext4 twice, which must be the same where it is said to be, and has their
// own tools show what is in them: what the tar has. makeFileSystem itself has each fsck say that it is sound; what a
// kernel finds in them, the end-to-end test of forms compares.
func TestMakeForms(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, toolchain.ImagingForms)
	tree := hardTree(t, 300, 3000)
	for _, c := range []struct {
		name   string
		unpack string                 // into got, or fails
		blind  func(line string) bool // this tool does not show a line as it is
		left   int                    // how many lines say what is not taken along
	}{
		{name: "squashfs", unpack: "unsquashfs -quiet -no-progress -dest got disk.img >&2"},
		{name: "erofs", unpack: `fsck.erofs --extract=got --preserve disk.img >&2
			dump.erofs --path=/caps disk.img | grep -q "Xattr size: [1-9]"`,
			// It gives files their owners after their capabilities, which then go.
			blind: func(line string) bool { return strings.HasPrefix(line, "caps: ") }},
		{name: "btrfs", unpack: `mkdir got
			btrfs restore --xattr --metadata --symlinks disk.img got >&2
			btrfs inspect-internal dump-tree -t fs disk.img >what
			grep -q "mode 20666 links 1 uid 0 gid 0 rdev 1048579$" what
			grep -q "mode 10600 links 1 uid 0 gid 0 rdev 0$" what
			grep -q "mode 104755 links 2 uid 65534 gid 100000 " what
			grep -q "location key ([0-9]* INODE_ITEM 0) type CHRDEV" what`,
			blind: func(line string) bool { // files of one name, and no others
				return strings.HasPrefix(line, "fifo|") || strings.HasSuffix(line, "|2\n") ||
					strings.Contains(line, "dev/null")
			}, left: 1},
		{name: "xfs", unpack: `mkdir got
			is() { name=$1; shift
				for what; do
					xfs_db -r -c "path $name" -c "print ${what%%=*}" disk.img | tee -a said >&2
					grep -qxF "${what%%=*} = ${what#*=}" said
				done
			}
			is /caps core.mode=0104755 core.uid=65534 core.gid=100000 core.nlinkv2=2 core.size=2 core.gen=0
			is /same core.mode=0104755 core.uid=65534 core.nlinkv2=2
			is /dev/null core.mode=020666 u3.dev=0x40003
			is /fifo core.mode=010600
			is /many core.mode=041777 core.gid=5
			is /late core.nlinkv2=2
			is /late/:far core.nlinkv2=1 core.size=28
			is /late/up u3.symlink='"../etc/: far"'
			xfs_db -r -c "path /caps" -c "print a" disk.img | grep -q capability`,
			blind: func(string) bool { return true }},
		{name: "f2fs", unpack: "mkdir got",
			blind: func(string) bool { return true }, left: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := image.ParseForm(c.name)
			if err != nil {
				t.Fatal(err)
			}
			spec := image.DiskSpec{Form: f, UUID: uuid.MustParse("6b696d67-0000-4000-8000-000000000001"),
				Epoch: time.Unix(1_700_000_000, 0)}
			tree := tree
			if c.name == "f2fs" {
				m := r.maker(t)
				err := m.MakeDisk(t.Context(), spec, opener(tree), filepath.Join(t.TempDir(), "rootfs.img"))
				if owner := (*image.OwnerError)(nil); !errors.As(err, &owner) || owner.GID != 100000 {
					t.Errorf("a group of more than 16 bits: %v", err)
				}
				tree = hardTreeOf(t, 1000, 300, 3000)
			}
			var disks, said []string
			m := r.maker(t)
			m.Warn = func(line string) { said = append(said, line) }
			for range 2 {
				disk := filepath.Join(t.TempDir(), "rootfs.img")
				if err := m.MakeDisk(t.Context(), spec, opener(tree), disk); err != nil {
					t.Fatal(err)
				}
				disks = append(disks, disk)
			}
			if same := digest(t, disks[0]) == digest(t, disks[1]); same != (image.Irreproducible(f) == "") {
				t.Errorf("two of one tree are the same: %v", same)
			}
			if len(said) != 2*c.left {
				t.Errorf("it says %q", said)
			}
			want, got := r.unpacked(t, tree, disks[0], c.unpack)
			if len(want) < 300 {
				t.Fatalf("the tar has %q", want)
			}
			for _, line := range want {
				if (c.blind == nil || !c.blind(line)) && !slices.Contains(got, line) {
					t.Errorf("it lacks %q", line)
				}
			}
		})
	}
}

// Trees that are hard in each file system that has a size, in the least that kimg names for them: its tool must not run
// out of space, and less is refused before anything runs.
func TestLeastForms(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, toolchain.ImagingForms)
	for what, tree := range map[string]string{"many small files": hardTreeOf(t, 1000, 6000, 300),
		"few large files": hardTreeOf(t, 1000, 3, 60<<20), "nothing much": hardTreeOf(t, 1000, 0, 0)} {
		for _, name := range []string{"btrfs", "xfs", "f2fs"} {
			t.Run(name+" "+what, func(t *testing.T) {
				f, err := image.ParseForm(name)
				if err != nil {
					t.Fatal(err)
				}
				spec := image.DiskSpec{Form: f, Size: 1 << 20, Epoch: time.Unix(1_700_000_000, 0),
					UUID: uuid.MustParse("6b696d67-0000-4000-8000-000000000001")}
				disk := filepath.Join(t.TempDir(), "rootfs.img")
				err = r.maker(t).MakeDisk(t.Context(), spec, opener(tree), disk)
				var small *image.SizeError
				if !errors.As(err, &small) {
					t.Fatalf("a tree in 1 MiB: %v", err)
				}
				spec.Size = 0 // as small as it can be
				if err := r.maker(t).MakeDisk(t.Context(), spec, opener(tree), disk); err != nil {
					t.Fatal(err)
				}
				if st, err := os.Stat(disk); err != nil || st.Size() != int64(small.Need) {
					t.Errorf("it has %v, and at least %s was said (%v)", st.Size(), small.Need, err)
				}
			})
		}
	}
}

// unpacked is what is in a tar and in a file system, a line for each file: its name, type, mode, owners, link, time
// and number of names, and for all files their contents and capabilities.
func (r *rig) unpacked(t *testing.T, tree, disk, unpack string) (want, got []string) {
	t.Helper()
	const script = `set -e
cd /kimg/work
mkdir want
tar --extract --absolute-names --directory=want --same-owner -p --numeric-owner --xattrs --xattrs-include='*' \
	--file=tree.tar
%s
for d in want got; do
	(cd "$d" && find . -type d -printf "$d %%P|%%m|%%U:%%G|%%T@\\n" &&
		find . ! -type d -printf "$d %%P|%%y|%%m|%%U:%%G|%%l|%%T@|%%n\\n" && find . -type f -exec sha256sum {} + |
		sed "s/^/$d /" && tar --create --format=posix --pax-option=delete=atime,delete=ctime --xattrs \
		--xattrs-include='*' caps | sha256sum | sed "s/^/$d caps: /")
done
`
	var out, said bytes.Buffer
	c, err := r.eng.Create(t.Context(), &container.Cmd{
		Image: r.imaging, Args: []string{"fakeroot", "--", "sh", "-c", fmt.Sprintf(script, unpack)}, User: "1000:1000",
		Env: []string{"FAKEROOTDONTTRYCHOWN=1"}, Stdout: &out, Stderr: &said,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	for name, file := range map[string]string{"tree.tar": tree, "disk.img": disk} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		in := containertest.Tar(t, containertest.File{Name: name, Mode: 0o644, Body: b})
		if err := c.CopyIn(t.Context(), "/kimg/work", in); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.Start(t.Context()), c.Wait()); err != nil {
		t.Fatalf("%v\n%s", err, said.Bytes())
	}
	for line := range strings.Lines(out.String()) {
		if rest, ok := strings.CutPrefix(line, "want "); ok {
			want = append(want, rest)
		} else {
			got = append(got, strings.TrimPrefix(line, "got "))
		}
	}
	return want, got
}

// TestMakeDiskRefusesABrokenTar leaves no file behind.
func TestMakeDiskRefusesABrokenTar(t *testing.T) {
	r := newRig(t)
	b, err := os.ReadFile(hardTree(t, 10, 1000))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.tar")
	if err := os.WriteFile(cut, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	spec := diskSpec(image.RootfsSpec{Epoch: time.Unix(1_700_000_000, 0)}, units.KernelVersion{Major: 6})
	disk := filepath.Join(t.TempDir(), "rootfs.img")
	if err := r.maker(t).MakeDisk(t.Context(), spec, opener(cut), disk); err == nil {
		t.Error("half a tar made a disk")
	}
	if _, err := os.Stat(disk); err == nil {
		t.Error("a failed disk is there")
	}
}

// BenchmarkRootfs is the bootstrap of a suite (KIMG_TEST_SUITES) into a file, and MakeDisk of it. scripts/bench-rootfs
// holds it against mmdebstrap; for that KIMG_BENCH_POOL is a directory that gets the packages.
func BenchmarkRootfs(b *testing.B) {
	r := newRig(b)
	of := cmp.Or(os.Getenv("KIMG_TEST_SUITES"), "trixie")
	spec := r.spec(b, of, archive.Variant(cmp.Or(os.Getenv("KIMG_TEST_VARIANT"), string(archive.Minbase))))
	if pool := os.Getenv("KIMG_BENCH_POOL"); pool != "" {
		for _, p := range slices.Concat(spec.Required, spec.Base) {
			file := filepath.Join(pool, path.Base(p.Filename))
			if err := r.ac.Store.CopyTo(b.Context(), p.SHA256, file, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	name := filepath.Join(b.TempDir(), "rootfs.tar")
	b.Run("bootstrap", func(b *testing.B) {
		for b.Loop() {
			f, err := os.Create(name)
			if err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(r.maker(b).Bootstrap(b.Context(), spec, r.ac.Store, f), f.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("disk", func(b *testing.B) {
		disk := filepath.Join(b.TempDir(), "rootfs.img")
		for b.Loop() {
			if err := r.maker(b).MakeDisk(b.Context(), diskSpec(spec, units.KernelVersion{Major: 6, Minor: 12}),
				opener(name), disk); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(disk); err != nil {
				b.Fatal(err)
			}
		}
	})
}

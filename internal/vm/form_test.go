package vm

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/units"
)

// outWith is an out directory with a root filesystem, and a kernel that was configured so.
func outWith(t *testing.T, file string, data []byte, config string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		artifact.Config: []byte(config), artifact.KernelImage(arch.Default): nil, file: data,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// unpacksTo is a gzip file that says that it unpacks to n bytes: its last four do (RFC 1952, ISIZE).
func unpacksTo(t *testing.T, n uint32) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gzip.NewWriter(&b).Close(); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.AppendUint32(b.Bytes()[:b.Len()-4], n)
}

const initramfsConfig = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\nCONFIG_BINFMT_ELF=y\n"

// A guest with an initramfs has no disk, and as much memory as it takes.
func TestInitramfsGuest(t *testing.T) {
	dir := outWith(t, artifact.Initramfs, unpacksTo(t, 16<<20), initramfsConfig)
	m, _, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	argv := strings.Join(m.Argv(), " ")
	if !strings.Contains(argv, "-initrd ./rootfs.cpio.gz") || strings.Contains(argv, "drive") ||
		strings.Contains(argv, "root=") || m.Memory != 1<<30 {
		t.Errorf("%s in %s", argv, m.Memory)
	}

	big := outWith(t, artifact.Initramfs, unpacksTo(t, 700<<20), initramfsConfig)
	var said []string
	o := Options{Dir: big, Say: func(s string) { said = append(said, s) }}
	config, err := o.read(wants{})
	if err != nil {
		t.Fatal(err)
	}
	const want = units.Size(1792 << 20) // 128 M, twice the 700 M and their eighth, in steps of 256 M
	got := o.machine(config, "tcg").Memory
	if got != want || len(said) != 1 || !strings.Contains(said[0], want.String()) {
		t.Errorf("700 M unpacked get %s, want %s; said %q", got, want, said)
	}
	o = Options{Dir: big, Memory: 1 << 30}
	var small *MemoryError
	if _, err := o.read(wants{}); !errors.As(err, &small) || small.Need != want {
		t.Errorf("with 1 G: %v", err)
	}
}

func TestWhatAFormCannot(t *testing.T) {
	dir := outWith(t, artifact.Initramfs, unpacksTo(t, 1), initramfsConfig)
	var readOnly *ReadOnlyError
	for _, o := range []Options{{Dir: dir, Write: true}, {Dir: dir, Snapshot: "s"}} {
		if _, err := o.read(wants{}); !errors.As(err, &readOnly) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	squashfs := outWith(t, artifact.Disk, []byte("hsqs"), "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\n"+
		"CONFIG_MISC_FILESYSTEMS=y\nCONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_ZSTD=y\nCONFIG_TMPFS=y\nCONFIG_BINFMT_ELF=y\n")
	o := Options{Dir: squashfs}
	var lacks *MissingConfigError
	if _, err := o.read(wants{}); !errors.As(err, &lacks) || !strings.Contains(lacks.Hint(), "--set OVERLAY_FS=y") {
		t.Errorf("squashfs without an overlay: %v", err)
	}
	ext4 := outWith(t, artifact.Disk, nil, initramfsConfig)
	o = Options{Dir: ext4}
	if _, err := o.read(wants{}); !errors.As(err, &lacks) {
		t.Errorf("a disk of ext4 with a kernel for an initramfs: %v", err)
	}
}

// Modules are loaded where udev finds them before there is a disk.
func TestModulesOfAnInitramfs(t *testing.T) {
	const modules = initramfsConfig + "CONFIG_MODULES=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_CONSOLE=m\n"
	dir := outWith(t, artifact.Initramfs, unpacksTo(t, 1), modules)
	o := Options{Dir: dir}
	if _, err := o.read(wants{agent: true}); err != nil {
		t.Error(err)
	}
	o = Options{Dir: dir, Direct: true}
	if _, err := o.read(wants{agent: true}); err == nil {
		t.Error("without systemd, and so without udev, a module is taken for one that is loaded")
	}
	if o.form != form.Initramfs {
		t.Errorf("it is %s", o.form)
	}
}

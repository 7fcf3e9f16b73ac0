package export

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	oci "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/artifact"
)

// e2fs runs a program of e2fsprogs. A missing one is a skip on a laptop and a
// failure in CI.
func e2fs(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: install e2fsprogs", name)
		}
		t.Skipf("%s is missing: install e2fsprogs", name)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil || name == "debugfs" &&
		bytes.Contains(out, []byte("rror")) {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// tree makes an image with one of everything and returns its build.
func tree(t *testing.T) *Build {
	t.Helper()
	dir, b := t.TempDir(), sample(t.TempDir())
	when := time.Unix(1600000000, 0)
	for _, f := range []struct{ name, data string }{
		{"etc/hosts", "127.0.0.1 localhost\n"}, {"a-b", "1"}, {"a/c", "2"}, {"odd name\n", "3"},
		{"big", strings.Repeat("0123456789abcdef", 1<<16)},
		{"usr/bin/ping", "ELF"}, {"z", "linked"},
	} {
		p := filepath.Join(dir, f.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(f.data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("x", 150)
	if err := errors.Join(os.Symlink("/etc/hosts", filepath.Join(dir, "short")),
		os.Symlink(long, filepath.Join(dir, "long")),
		os.Link(filepath.Join(dir, "z"), filepath.Join(dir, "a/link")),
		os.Mkdir(filepath.Join(dir, "dev"), 0o755)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink == 0 {
			err = errors.Join(os.Chmod(p, map[bool]os.FileMode{true: 0o755, false: 0o644}[d.IsDir()]),
				os.Chtimes(p, when, when))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	image := b.path(artifact.Disk)
	e2fs(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image, "8M")
	attr := filepath.Join(t.TempDir(), "capability")
	if err := os.WriteFile(attr,
		[]byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	text := fmt.Sprintf(`ea_set -f %s /usr/bin/ping security.capability
sif /usr/bin/ping mode 0104755
sif /etc/hosts uid 70000
sif /etc/hosts gid 42
cd /dev
mknod console c 5 1
mknod disk b 259 1000
mknod pipe p
sif pipe mode 010600
sif console mode 020600
sif disk mode 060660
`, attr)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e2fs(t, "debugfs", "-w", "-f", script, image)
	t.Cleanup(func() { e2fs(t, "e2fsck", "-fn", image) })
	return b
}

func TestTar(t *testing.T) {
	b := tree(t)
	got := export(t, Tar{}, b)
	if !bytes.Equal(got, export(t, Tar{}, b)) {
		t.Error("a second tar differs")
	}
	uid, gid := os.Getuid(), os.Getgid() // mke2fs -d takes them along
	own := fmt.Sprintf("%d:%d", uid, gid)
	want := []string{
		"5 ./ 755 " + own,
		"5 ./a/ 755 " + own,
		"0 ./a-b 644 " + own,
		"0 ./a/c 644 " + own,
		"0 ./a/link 644 " + own,
		"0 ./big 644 " + own,
		"5 ./dev/ 755 " + own,
		"3 ./dev/console 600 0:0 5,1",
		"4 ./dev/disk 660 0:0 259,1000",
		"6 ./dev/pipe 600 0:0",
		"5 ./etc/ 755 " + own,
		"0 ./etc/hosts 644 70000:42",
		"2 ./long 777 " + own + " -> " + strings.Repeat("x", 150),
		"0 ./odd name\n 644 " + own,
		"2 ./short 777 " + own + " -> /etc/hosts",
		"5 ./usr/ 755 " + own,
		"5 ./usr/bin/ 755 " + own,
		"0 ./usr/bin/ping 4755 " + own + " security.capability=20",
		"1 ./z 644 " + own + " -> ./a/link",
	}
	if diff := cmp.Diff(want, listing(t, got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Tar{}).Export(ctx, b, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// listing tells each entry in a line.
func listing(t *testing.T, b []byte) []string {
	t.Helper()
	var list []string
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %s %o %d:%d", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid)
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			line += fmt.Sprintf(" %d,%d", h.Devmajor, h.Devminor)
		}
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		for k, v := range h.PAXRecords {
			if attr, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				line += fmt.Sprintf(" %s=%d", attr, len(v))
			}
		}
		if h.Name == "./big" {
			if data, err := io.ReadAll(tr); err != nil || string(data) != strings.Repeat("0123456789abcdef", 1<<16) {
				t.Errorf("big differs (%v)", err)
			}
		}
		list = append(list, line)
	}
}

func TestTarOfADirtyImage(t *testing.T) {
	b := tree(t)
	f, err := os.OpenFile(b.path(artifact.Disk), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var incompat [1]byte
	const at = 1024 + 0x60 // of the superblock's s_feature_incompat
	if _, err := f.ReadAt(incompat[:], at); err != nil {
		t.Fatal(err)
	}
	dirty := []byte{incompat[0] | 4} // EXT4_FEATURE_INCOMPAT_RECOVER
	if _, err := f.WriteAt(dirty, at); err != nil {
		t.Fatal(err)
	}
	err = (Tar{}).Export(t.Context(), b, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "journal has not been replayed") {
		t.Errorf("%v", err)
	}
	if _, err := f.WriteAt(incompat[:], at); err != nil { // e2fsck judges it at the end
		t.Fatal(err)
	}
}

// TestTreeIsBounded: paths may be more than there is memory for, and entries many.
func TestTreeIsBounded(t *testing.T) {
	b, name := tree(t), strings.Repeat("d", 250)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(strings.Repeat("mkdir "+name+"\ncd "+name+"\n", ext4.MaxPath/251+1)),
		0o600); err != nil {
		t.Fatal(err)
	}
	e2fs(t, "debugfs", "-w", "-f", script, b.path(artifact.Disk))
	if err := (Tar{}).Export(t.Context(), b, io.Discard); !errors.Is(err, ext4.ErrCorrupt) ||
		!strings.Contains(err.Error(), "so deep") {
		t.Errorf("deep directories: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &treeWriter{ctx: ctx, keep: func(string, os.FileInfo) bool { cancel(); return true }}
	img, err := ext4.Open(b.path(artifact.Disk))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	w.img = img
	if list, err := w.list(); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %d names, %v", len(list), err)
	}
}

// TestOCI follows the digests from the index down to the files.
func TestOCI(t *testing.T) {
	b := tree(t)
	got := export(t, OCI{}, b)
	if !bytes.Equal(got, export(t, OCI{}, b)) {
		t.Error("a second image differs")
	}
	files := map[string][]byte{}
	for tr := tar.NewReader(bytes.NewReader(got)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
		if sum, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok {
			if is := sha256.Sum256(files[h.Name]); hex.EncodeToString(is[:]) != sum {
				t.Errorf("blob %s has another digest", sum)
			}
		}
	}
	read := func(name string, v any) {
		t.Helper()
		if err := json.Unmarshal(files[name], v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var layout oci.ImageLayout
	var index oci.Index
	var manifest oci.Manifest
	var config oci.Image
	read("oci-layout", &layout)
	read("index.json", &index)
	read(blobPath(index.Manifests[0]), &manifest)
	read(blobPath(manifest.Config), &config)
	layer := manifest.Layers[0]
	if layout.Version != "1.0.0" || config.OS != "linux" || config.Architecture != "amd64" ||
		!config.Created.Equal(b.Epoch) ||
		len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != layer.Digest ||
		layer.Size != int64(len(files[blobPath(layer)])) {
		t.Errorf("%+v\n%+v\n%+v", layout, manifest, config)
	}
	var docker []dockerArchive
	read("manifest.json", &docker)
	want := []dockerArchive{{Config: blobPath(manifest.Config), RepoTags: []string{"kimg-rootfs:trixie"},
		Layers: []string{blobPath(layer)}}}
	if diff := cmp.Diff(want, docker); diff != "" {
		t.Errorf("manifest.json: -want +got:\n%s", diff)
	}
	inLayer := strings.Join(listing(t, files[blobPath(layer)]), "\n")
	if strings.Contains(inLayer, "dev/console") || strings.Contains(inLayer, "dev/disk") ||
		!strings.Contains(inLayer, "./dev/ ") || !strings.Contains(inLayer, "./usr/bin/ping") {
		t.Errorf("the layer has\n%s", inLayer)
	}
}

func TestACL(t *testing.T) {
	disk := []byte("\x01\x00\x00\x00" + "\x01\x00\x06\x00" + "\x08\x00\x04\x00\x2a\x00\x00\x00" + "\x20\x00\x04\x00")
	want := []byte("\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x08\x00\x04\x00\x2a\x00\x00\x00" +
		"\x20\x00\x04\x00\xff\xff\xff\xff")
	if got, err := aclForUsers(disk); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
	for _, bad := range []string{"", "\x01", "\x02\x00\x00\x00", "\x01\x00\x00\x00\x01\x00",
		"\x01\x00\x00\x00\x08\x00\x04\x00\x2a"} {
		if got, err := aclForUsers([]byte(bad)); err == nil {
			t.Errorf("%q gives %x", bad, got)
		}
	}
}

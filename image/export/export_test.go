package export

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/sparse"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func sample(dir string) *Build {
	return &Build{
		Dir: dir, Kernel: "6.12.1", Suite: "trixie", Epoch: time.Unix(1700000000, 0),
		Guest: Guest{
			Argv: []string{"qemu-system-x86_64", "-M", "pc", "-kernel", "./bzImage", "-append", "root=/dev/vda rw",
				"-drive", "file=./rootfs.img"},
			Append: "root=/dev/vda rw console=ttyS0 a=\"<&>\"", Disk: "virtio", Net: "virtio-net-pci", Memory: 1024,
			CPUs: 1,
			Options: map[string]string{"VIRTIO_MMIO": "y", "VIRTIO_MMIO_CMDLINE_DEVICES": "y", "VIRTIO_BLK": "y",
				"KVM_GUEST": "y", "SERIAL_8250_CONSOLE": "y"},
		},
		Warn: func(string) {}, Log: io.Discard,
	}
}

func export(t *testing.T, f Format, b *Build) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := f.Export(t.Context(), b, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestFormats(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Formats {
		if k.Name == "" || k.About == "" || k.File == "" || k.New == nil ||
			len(k.Artifacts(arch.Default, "")) == 0 || seen[k.Name] || seen[k.File] {
			t.Errorf("%s: a row that lacks something, or repeats another's", k.Name)
		}
		seen[k.Name], seen[k.File] = true, true
		if got, err := Find(k.Name); err != nil || got.Name != k.Name {
			t.Errorf("find %s: %v", k.Name, err)
		}
	}
	if _, err := Find("vdi"); err == nil || !strings.Contains(err.Error(), "want raw, qcow2, vhd, vmdk, tar") {
		t.Errorf("find vdi: %v", err)
	}
}

func TestDescriptions(t *testing.T) {
	b := sample("/home/a b/it's/out")
	golden(t, "run-qemu", export(t, Script{}, b))
	golden(t, "kimg.xml", export(t, Libvirt{}, b))
	golden(t, "firecracker.json", export(t, Firecracker{}, b))
	if err := json.Unmarshal(export(t, Firecracker{}, b), &map[string]any{}); err != nil {
		t.Error(err)
	}
}

// What is x86's alone in the descriptions stays there.
func TestDescriptionsOfAnotherArch(t *testing.T) {
	b := sample("/out")
	b.Arch, b.Guest.Append = arch.ARM64, "root=/dev/vda rw console=ttyAMA0"
	b.Guest.Options = map[string]string{"VIRTIO_MMIO": "y", "VIRTIO_BLK": "y", "SERIAL_8250_CONSOLE": "y",
		"SERIAL_OF_PLATFORM": "y"}
	b.Warn = func(s string) { t.Error(s) }
	got := string(export(t, Firecracker{}, b))
	for _, want := range []string{`"/out/Image"`, `"root=/dev/vda rw console=ttyS0"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	var d domain
	if err := xml.Unmarshal(export(t, Libvirt{}, b), &d); err != nil {
		t.Fatal(err)
	}
	if d.OS.Type.Arch != "aarch64" || d.OS.Type.Machine != "virt" || d.OS.Kernel != "/out/Image" ||
		d.Features.ACPI != nil || d.Type != "qemu" || d.CPU.Mode != "custom" || d.CPU.Model != "cortex-a72" {
		t.Errorf("%+v", d)
	}
	b.Arch = arch.PPC64EL // of whose machine QEMU's words have more
	if err := xml.Unmarshal(export(t, Libvirt{}, b), &d); err != nil || d.OS.Type.Machine != "pseries" ||
		d.CPU.Model != "POWER9" { // libvirt's own name: it tells capitals from others, and QEMU does not
		t.Errorf("%+v, %v", d, err)
	}
	b.Arch = arch.RISCV64
	if err := (Firecracker{}).Export(t.Context(), b, io.Discard); err == nil ||
		!strings.Contains(err.Error(), "no machine for riscv64") {
		t.Error(err)
	}
}

func TestLibvirtDevices(t *testing.T) {
	for _, c := range []struct{ disk, net, dev, bus, model string }{
		{"virtio", "virtio-net-pci", "vda", "virtio", "virtio"},
		{"ide", "e1000", "hda", "ide", "e1000"},
		{"ahci", "", "sda", "sata", ""},
	} {
		b := sample("/out")
		b.Guest.Disk, b.Guest.Net = c.disk, c.net
		var d domain
		if err := xml.Unmarshal(export(t, Libvirt{}, b), &d); err != nil {
			t.Fatal(err)
		}
		if got := d.Devices.Disk.Target; got.Dev != c.dev || got.Bus != c.bus {
			t.Errorf("%s: target %+v", c.disk, got)
		}
		if n := d.Devices.Interface; (n == nil) != (c.net == "") || n != nil && n.Model.Type != c.model {
			t.Errorf("%q: interface %+v", c.net, n)
		}
		if d.OS.Cmdline != b.Guest.Append {
			t.Errorf("command line %q", d.OS.Cmdline)
		}
	}
}

func TestFirecrackerWarns(t *testing.T) {
	b := sample("/out")
	b.Guest.Append = "root=/dev/sda rw"
	var said []string
	b.Warn = func(s string) { said = append(said, s) }
	if got := string(export(t, Firecracker{}, b)); !strings.Contains(got, `"root=/dev/vda rw reboot=k pci=off"`) ||
		len(said) != 0 {
		t.Errorf("warned %q, wrote\n%s", said, got)
	}
	b.Guest.Options["VIRTIO_MMIO"] = "m"
	export(t, Firecracker{}, b)
	if len(said) != 1 || !strings.Contains(said[0], "without VIRTIO_MMIO; build it with --set VIRTIO_MMIO=y") {
		t.Errorf("warned %q", said)
	}
}

// TestScriptRuns has a shell run the script with a QEMU that tells its words.
func TestScriptRuns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a 'b' $c,d")
	bin := t.TempDir()
	if err := errors.Join(os.Mkdir(dir, 0o755),
		os.WriteFile(filepath.Join(bin, "qemu-system-x86_64"),
			[]byte("#!/bin/sh\npwd\nfor w; do printf '%s\\n' \"$w\"; done\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	b := sample(dir)
	b.Guest.Argv = []string{"qemu-system-x86_64", "-append", `a "b" 'c' $d`, "-device", "x,y=", ""}
	for _, c := range []struct{ text, name string }{
		{string(export(t, Script{}, b)), filepath.Join(bin, "elsewhere")},
		{scriptText(&b.Guest, scriptHere), filepath.Join(dir, "here")},
	} {
		if err := os.WriteFile(c.name, []byte(c.text), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", c.name, "-s", "m o r e")
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		want := strings.Join(append(append([]string{dir}, b.Guest.Argv[1:]...), "-s", "m o r e"), "\n") + "\n"
		if string(out) != want {
			t.Errorf("%s ran\n%s\nwant\n%s", c.name, out, want)
		}
	}
}

// artifactsIn writes artifacts and returns their digests.
func artifactsIn(t *testing.T, b *Build, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		p := b.path(name)
		sum := sha256.Sum256(data)
		b.Files = append(b.Files, File{Path: name, Mode: 0o644, SHA256: hex.EncodeToString(sum[:])})
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// disk is something like a disk image: pieces in 40 MiB of zeros.
func disk() []byte {
	b := make([]byte, 40<<20)
	r := rand.New(rand.NewSource(1))
	for _, at := range []int{0, 3<<20 + 17, 39<<20 + 5} {
		r.Read(b[at : at+200000])
	}
	return b
}

func TestRaw(t *testing.T) {
	b := sample(t.TempDir())
	want := disk()
	artifactsIn(t, b, map[string][]byte{artifact.Disk: want})
	if !bytes.Equal(export(t, Raw{}, b), want) {
		t.Error("the stream differs")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := (Raw{}).Export(t.Context(), b, f); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file differs (%v)", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Raw{}).Export(ctx, b, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

func TestBundle(t *testing.T) {
	b := sample(t.TempDir())
	image := disk()
	artifactsIn(t, b, map[string][]byte{artifact.Disk: image, "scripts/gdb/x.py": []byte("x"), "empty": nil})
	b.Files = append(b.Files, File{Path: "manifest.json", Mode: 0o644, Data: []byte("{}\n")})
	var said []string
	b.Warn = func(s string) { said = append(said, s) }
	got := export(t, Bundle{}, b)
	if !bytes.Equal(got, export(t, Bundle{}, b)) {
		t.Error("a second bundle differs")
	}
	if len(got) > len(image)/2 {
		t.Errorf("%d bytes: the zeros are in it", len(got))
	}
	want := map[string]string{"kimg-out/": "", "kimg-out/rootfs.img": string(image), "kimg-out/scripts/gdb/x.py": "x",
		"kimg-out/empty":         "",
		"kimg-out/manifest.json": "{}\n", "kimg-out/run-qemu": scriptText(&b.Guest, scriptHere)}
	have := map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(got)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		have[h.Name] = string(text)
		if h.Uid != 0 || h.Uname != "" || !h.ModTime.Equal(b.Epoch) {
			t.Errorf("%s: owner %d %q, time %v", h.Name, h.Uid, h.Uname, h.ModTime)
		}
	}
	for name, text := range want {
		if have[name] != text {
			t.Errorf("%s differs: %d bytes, want %d", name, len(have[name]), len(text))
		}
	}
	if len(have) != len(want) || len(said) != 0 {
		t.Errorf("%d entries, want %d; warned %q", len(have), len(want), said)
	}
	b.Files[0].SHA256 = strings.Repeat("0", 64)
	export(t, Bundle{}, b)
	if len(said) != 1 || !strings.HasPrefix(said[0], b.Files[0].Path+" is not as the build made it") {
		t.Errorf("a changed artifact: warned %q", said)
	}
}

// TestSparseTar has the system's tar read what archive/tar cannot write.
func TestSparseTar(t *testing.T) {
	one := bytes.Repeat([]byte{1}, 64<<10)
	for name, data := range map[string][]byte{
		"zeros":      make([]byte, 1<<20),
		"zeros last": append(one[:len(one):len(one)], make([]byte, 1<<20+3)...),
		"odd":        append(make([]byte, 1<<20), 7, 7, 7),
		"disk":       disk(),
		"empty":      {},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			ts := newTarStream(&out)
			if err := ts.WriteHeader(&tar.Header{Name: "before", Size: 1, Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			ts.Write([]byte("b"))
			list, size, err := sparse.Map(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			long := strings.Repeat("d/", 20) + "name"
			if err := ts.writeSparse(tar.Header{Typeflag: tar.TypeReg, Name: long, Size: size, Mode: 0o640}, list,
				bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(ts.WriteHeader(&tar.Header{Name: "after", Mode: 0o600}), ts.Close()); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			cmd := exec.Command("tar", "-xf", "-", "-C", dir)
			cmd.Stdin = &out
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("tar: %v\n%s", err, said)
			}
			if got, err := os.ReadFile(filepath.Join(dir, long)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("content differs (%v)", err)
			}
			for _, name := range []string{"before", "after"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestPaxRecord(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"", "5 k=\n"}, {"abcd", "9 k=abcd\n"}, {"abcde", "11 k=abcde\n"},
		{strings.Repeat("x", 93), "99 k=" + strings.Repeat("x", 93) + "\n"}, {strings.Repeat("x", 94), "101 k=" +
			strings.Repeat("x", 94) + "\n"},
	} {
		if got := paxRecord("k", c.value); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestPack(t *testing.T) {
	packs, not := &Kind{Packs: true}, &Kind{}
	for _, c := range []struct {
		kind  *Kind
		name  string
		magic string
	}{
		{packs, "a.tar", "text"}, {packs, "a.tar.gz", "\x1f\x8b\x08\x00\x00\x00\x00\x00"}, {packs, "a.tgz", "\x1f\x8b"},
		{packs, "a.tar.zst", "\x28\xb5\x2f\xfd"},
		{not, "a.zst", "text"}, {packs, "", "text"},
	} {
		var one, two bytes.Buffer
		for _, out := range []*bytes.Buffer{&one, &two} {
			w, err := c.kind.Pack(c.name, out)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, "text")
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.HasPrefix(one.String(), c.magic) || !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("%s begins with %q", c.name, one.Bytes()[:4])
		}
	}
	if _, err := packs.Pack("a.tar.xz", io.Discard); err == nil {
		t.Error("a.tar.xz is written, and is not xz")
	}
}

func TestConvertArgs(t *testing.T) {
	for checks, word := range map[bool]string{false: "no", true: "yes"} {
		args := convertArgs("qcow2", checks, []string{"-c"})
		if args[0] != "sh" || strings.Join(args[3:], " ") != "sh qcow2 "+word+" -c" {
			t.Errorf("checks %v: %q", checks, args)
		}
	}
	for _, want := range []string{"qemu-img check", "qemu-img compare", "set -e"} {
		if !strings.Contains(convertScript, want) {
			t.Errorf("no %q", want)
		}
	}
}

// What qemu-img draws or takes from a clock follows from the build.
func TestSameDisks(t *testing.T) {
	b := sample("/out")
	b.Files = []File{{Path: "rootfs.img", SHA256: strings.Repeat("1", 64)}}
	footers := [][]byte{make([]byte, vhdFooter), make([]byte, vhdFooter)}
	for i, f := range footers {
		copy(f, vhdCookie)
		f[vhdTime], f[vhdID], f[vhdChecksum], f[100] = byte(i), byte(i), byte(i), 7
		if err := sameVHD(f, b); err != nil {
			t.Fatal(err)
		}
	}
	sum := uint32(0)
	for i, x := range footers[0] {
		if i < vhdChecksum || i >= vhdChecksum+4 {
			sum += uint32(x)
		}
	}
	be := binary.BigEndian
	if !bytes.Equal(footers[0], footers[1]) || be.Uint32(footers[0][vhdChecksum:]) != ^sum ||
		be.Uint32(footers[0][vhdTime:]) != 1700000000-946684800 {
		t.Errorf("footers %x", footers)
	}
	if err := sameVHD(make([]byte, vhdFooter), b); err == nil {
		t.Error("zeros are a footer")
	}
	var descriptors [][]byte
	for _, id := range []string{"7", "89abcdef"} {
		d := make([]byte, 512)
		copy(d, "# Disk DescriptorFile\nversion=1\nCID="+id+"\nparentCID=ffffffff\n")
		if err := sameVMDK(d, b); err != nil {
			t.Fatal(err)
		}
		descriptors = append(descriptors, d)
	}
	if !bytes.Equal(descriptors[0], descriptors[1]) ||
		!regexp.MustCompile("^# Disk DescriptorFile\nversion=1\nCID=[0-9a-f]{8}\nparentCID=ffffffff\n\x00+$").
			Match(descriptors[0]) {
		t.Errorf("descriptors %q", descriptors)
	}
	other := *b
	other.Files = []File{{Path: "rootfs.img", SHA256: strings.Repeat("2", 64)}}
	if b.id("vhd") == other.id("vhd") || b.id("vhd") == b.id("vmdk") {
		t.Error("two disks of one identity")
	}
	if err := sameVMDK([]byte("version=1\n"), b); err == nil {
		t.Error("a descriptor without an identity is taken")
	}
}

// An initramfs is in the place of the disk, wherever a guest is described.
func TestDescriptionsOfAnInitramfs(t *testing.T) {
	b := sample("/out")
	b.Guest.Form, b.Guest.Disk, b.Guest.Append = form.Initramfs, "", "console=ttyS0"
	var d domain
	if err := xml.Unmarshal(export(t, Libvirt{}, b), &d); err != nil {
		t.Fatal(err)
	}
	if d.OS.Initramfs != "/out/rootfs.cpio.gz" || d.Devices.Disk != nil {
		t.Errorf("libvirt: %+v", d)
	}
	got := string(export(t, Firecracker{}, b))
	for _, want := range []string{`"initrd_path": "/out/rootfs.cpio.gz"`, `"drives": []`} {
		if !strings.Contains(got, want) {
			t.Errorf("firecracker: no %s in %s", want, got)
		}
	}
	b.Guest.Form = form.Squashfs
	if got := string(export(t, Firecracker{}, b)); !strings.Contains(got, `"is_read_only": true`) {
		t.Errorf("firecracker, squashfs: %s", got)
	}
	for name, want := range map[string]string{
		"raw": "ext4 squashfs", "tar": "ext4", "qemu": "ext4 squashfs initramfs",
	} {
		k, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		var takes []string
		for _, f := range []Form{form.Ext4, form.Squashfs, form.Initramfs} {
			if k.Takes(f) {
				takes = append(takes, f.String())
			}
		}
		if got := strings.Join(takes, " "); got != want {
			t.Errorf("%s takes %s, want %s", name, got, want)
		}
	}
}

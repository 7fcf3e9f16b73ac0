package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// tool runs a host tool. One that is missing is a skip on a laptop and a failure
// in CI.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	p, err := findTool(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: install e2fsprogs", name)
		}
		t.Skipf("%s is missing: install e2fsprogs to run this test", name)
	}
	out, err := exec.Command(p, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// fsck ends every test that touches an image.
func fsck(t testing.TB, image string) {
	t.Helper()
	tool(t, "e2fsck", "-fn", image)
}

// mkimage makes an image of some MiB from the directory dir ("": empty).
func mkimage(t testing.TB, dir string, mib int, args ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "image")
	if dir != "" {
		args = append(args, "-d", dir)
	}
	args = append([]string{"-q", "-F", "-t", "ext4"}, args...)
	tool(t, "mke2fs", append(args, img, fmt.Sprintf("%dM", mib))...)
	return img
}

// debugfs runs commands on an image, for what a directory cannot hold.
func debugfs(t testing.TB, image string, cmds ...string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "cmds")
	if err := os.WriteFile(script, []byte(strings.Join(cmds, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := debugfsComplaint([]byte(onlyStderr(tool(t, "debugfs", "-w", "-f", script, image)))); said != "" {
		t.Fatal(said)
	}
}

// onlyStderr drops the commands that debugfs repeats and what they print.
func onlyStderr(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "debugfs:") && !strings.HasPrefix(line, "Allocated inode") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func write(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// sample is a tree with what readers get wrong: holes in every place, links of
// both lengths, a directory large enough for a hash tree, hard links.
func sample(t testing.TB) (string, map[string][]byte) {
	dir := t.TempDir()
	r := rand.New(rand.NewSource(1))
	random := func(n int) []byte { b := make([]byte, n); r.Read(b); return b }
	files := map[string][]byte{
		"empty": {}, "one": {7}, "block": random(4096), "odd": random(4097), "big": random(3<<20 + 5),
		"etc/hosts": []byte("127.0.0.1 localhost\n"),
		"hole/all":  make([]byte, 1<<20), "hole/first": append(make([]byte, 1<<20), random(5000)...),
		"hole/last": append(random(5000), make([]byte, 1<<20)...),
		"a b/c\"d":  []byte("quotes and spaces"),
	}
	var striped []byte
	for range 200 {
		striped = append(append(striped, random(4096)...), make([]byte, 4096)...)
	}
	files["hole/striped"] = striped // more extents than the inode holds
	for i := range 1500 {
		files[fmt.Sprintf("many/a-rather-long-name-to-fill-directory-blocks-%04d", i)] = []byte{byte(i)}
	}
	for name, b := range files {
		write(t, dir, name, b)
	}
	// Real holes: mke2fs copies what SEEK_HOLE tells.
	for _, name := range []string{"hole/all", "hole/first", "hole/last", "hole/striped"} {
		sparsify(t, filepath.Join(dir, name), files[name])
	}
	if err := errors.Join(os.Symlink("etc/hosts", filepath.Join(dir, "short")),
		os.Symlink("./"+strings.Repeat("etc/../", 20)+"etc/hosts", filepath.Join(dir, "long")),
		os.Symlink("/etc/hosts", filepath.Join(dir, "absolute")),
		os.Symlink("../../../../etc/hosts", filepath.Join(dir, "etc/outside")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Link(filepath.Join(dir, "one"), filepath.Join(dir, "uno")),
		os.Chmod(filepath.Join(dir, "one"), 0o4750|os.ModeSetuid),
		os.Chtimes(filepath.Join(dir, "odd"), time.Unix(1, 0), time.Unix(1700000000, 500)),
	); err != nil {
		t.Fatal(err)
	}
	files["uno"] = files["one"]
	return dir, files
}

func sparsify(t testing.TB, name string, b []byte) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := 0; at < len(b); at += 4096 {
		blk := b[at:min(at+4096, len(b))]
		if !bytes.Equal(blk, make([]byte, len(blk))) {
			if _, err := f.WriteAt(blk, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
}

// formats are the shapes of ext4 that the reader must know.
var formats = map[string][]string{
	"default":     nil,
	"1k blocks":   {"-b", "1024"},
	"32-bit":      {"-O", "^64bit"},
	"block maps":  {"-O", "^extent,^64bit"},
	"inline data": {"-O", "inline_data", "-I", "512"},
	"no checksum": {"-O", "^metadata_csum"},
	"seed":        {"-O", "metadata_csum_seed,orphan_file"},
	"ext2":        {"-O", "none,filetype,sparse_super,ext_attr", "-I", "128"},
}

func TestReadEveryFormat(t *testing.T) {
	for name, args := range formats {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, files := sample(t)
			if slices.Contains(args, "inline_data") {
				// mke2fs 1.47.0 gives files with holes the wrong size there.
				maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasPrefix(name, "hole/") })
				if err := os.RemoveAll(filepath.Join(dir, "hole")); err != nil {
					t.Fatal(err)
				}
			}
			image := mkimage(t, dir, 64, args...)
			img, err := Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			for name, want := range files {
				got, err := img.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%s: content differs (%d bytes, want %d)", name, len(got), len(want))
				}
			}
			for _, link := range []string{"short", "long", "absolute", "etc/outside"} {
				if got, err := img.ReadFile(link); err != nil || !bytes.Equal(got, files["etc/hosts"]) {
					t.Errorf("through %s: %q, %v", link, got, err)
				}
				want, err := os.Readlink(filepath.Join(dir, link))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := img.ReadLink(link); err != nil || got != want {
					t.Errorf("%s leads to %q (%v), want %q", link, got, err, want)
				}
			}
			if _, err := img.Stat("loop"); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
				t.Errorf("a link to itself: %v", err)
			}
			if _, err := img.Stat("etc/hosts/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("below a file: %v", err)
			}
			sameStat(t, img, dir)
			fsck(t, image)
		})
	}
}

// sameStat compares every name's record with the directory that it came from.
func sameStat(t *testing.T, img *Image, dir string) {
	t.Helper()
	seen := 0
	err := fs.WalkDir(img, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		if name == "." || name == "lost+found" {
			return nil
		}
		got, err := img.Lstat(name)
		if err != nil {
			return err
		}
		want, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		sys, st := want.Sys().(*syscall.Stat_t), got.Sys().(*Stat)
		mtime := want.ModTime().Truncate(time.Second)
		if got.Mode() != want.Mode() || st.UID != sys.Uid || st.GID != sys.Gid ||
			!got.ModTime().Truncate(time.Second).Equal(mtime) ||
			!got.IsDir() && got.Size() != want.Size() || d.Type() != want.Mode().Type() {
			t.Errorf("%s: %v %d:%d %v %d bytes, want %v %d:%d %v %d bytes", name, got.Mode(), st.UID, st.GID,
				got.ModTime(), got.Size(),
				want.Mode(), sys.Uid, sys.Gid, mtime, want.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 1500 {
		t.Errorf("walked over %d names", seen)
	}
}

func TestSpecialFiles(t *testing.T) {
	image := mkimage(t, "", 8)
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("x"), 700), 0o600); err != nil {
		t.Fatal(err)
	}
	debugfs(t, image, "mknod null c 1 3", "mknod new b 259 300", "mknod pipe p",
		"write /dev/null f", "ea_set f security.capability abc", "ea_set f user.big -f "+big,
		"sif f uid 100000", "sif f gid 70000")
	img, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for name, want := range map[string]struct {
		mode         fs.FileMode
		major, minor uint32
	}{"null": {fs.ModeDevice | fs.ModeCharDevice, 1, 3}, "new": {fs.ModeDevice, 259, 300},
		"pipe": {fs.ModeNamedPipe, 0, 0}} {
		st, err := img.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		s := st.Sys().(*Stat)
		if st.Mode().Type() != want.mode || s.Major != want.major || s.Minor != want.minor {
			t.Errorf("%s: %v %d:%d", name, st.Mode(), s.Major, s.Minor)
		}
	}
	if _, err := img.ReadFile("null"); err == nil {
		t.Error("a device's content was read")
	}
	x, err := img.Xattrs("f")
	if err != nil || string(x["security.capability"]) != "abc" || len(x["user.big"]) != 700 || len(x) != 2 {
		t.Errorf("attributes %q, %v", x, err)
	}
	st, err := img.Stat("f")
	if err != nil {
		t.Fatal(err)
	}
	if s := st.Sys().(*Stat); s.UID != 100000 || s.GID != 70000 {
		t.Errorf("owner %d:%d", s.UID, s.GID)
	}
	fsck(t, image)
}

// TestFS holds the image to io/fs's own rules.
func TestFS(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/b/c", []byte("c"))
	write(t, dir, "a/d", []byte("d"))
	image := mkimage(t, dir, 8)
	img, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := fstest.TestFS(img, "a/b/c", "a/d", "lost+found"); err != nil {
		t.Error(err)
	}
	fsck(t, image)
}

func TestRefuses(t *testing.T) {
	image := mkimage(t, "", 8)
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint16(b[superblockAt+at:], v); return b }
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[superblockAt+at:], v); return b }
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"empty":            {func([]byte) []byte { return nil }, "too few"},
		"zeros":            {func(b []byte) []byte { return make([]byte, len(b)) }, "magic"},
		"truncated":        {func(b []byte) []byte { return b[:len(b)/2] }, "blocks"},
		"no groups":        {put32(0x28, 0), "inodes per group"},
		"no blocks/group":  {put32(0x20, 0), "blocks per group"},
		"huge block":       {put32(0x18, 40), "block size"},
		"odd inode":        {put16(0x58, 200), "inodes of 200"},
		"unknown feature":  {put32(0x60, 0x80000000), "cannot read"},
		"needs recovery":   {put32(0x60, 0x46), "e2fsck"},
		"far inode table":  {func(b []byte) []byte { le.PutUint32(b[2*1024+8:], 0xFFFFFFFF); return b }, "inode table"},
		"root is no inode": {func(b []byte) []byte { return b }, ""},
	} {
		b := c.change(bytes.Clone(whole))
		_, err := New(bytes.NewReader(b), int64(len(b)))
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// walkAll reads everything that an image lets be read.
func walkAll(img *Image) {
	budget := 10000
	_ = fs.WalkDir(img, ".", func(name string, _ fs.DirEntry, err error) error {
		if budget--; budget < 0 {
			panic("the walk does not end")
		}
		if err != nil {
			return nil //nolint:nilerr // a broken directory does not end the walk
		}
		_, _ = img.ReadLink(name)
		_, _ = img.Xattrs(name)
		if f, err := img.Open(name); err == nil {
			_, _ = io.CopyN(io.Discard, f, 1<<20)
			f.Close()
		}
		return nil
	})
}

func smallImages(t testing.TB) [][]byte {
	dir := t.TempDir()
	write(t, dir, "etc/hosts", []byte("localhost"))
	write(t, dir, "b/c/d", bytes.Repeat([]byte("d"), 20000))
	sparsify(t, filepath.Join(dir, "hole"), append(append(make([]byte, 9000), 'x'), make([]byte, 9000)...))
	if err := os.Symlink(strings.Repeat("x/", 40), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, args := range [][]string{
		{"-b", "1024", "-N", "32", "-O", "^has_journal,^resize_inode"},
		{"-b", "1024", "-N", "32", "-O", "^has_journal,^extent,^64bit,^resize_inode,^metadata_csum"},
		{"-b", "1024", "-N", "32", "-O", "^has_journal,inline_data,^resize_inode"},
	} {
		img := filepath.Join(t.TempDir(), "i")
		tool(t, "mke2fs", append(append([]string{"-q", "-F", "-t", "ext4"}, args...), "-d", dir, img, "256")...)
		b, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// FuzzOpen flips bytes of good images: whatever they say, reading ends, without a
// panic.
func FuzzOpen(f *testing.F) {
	images := smallImages(f)
	for i := range images {
		f.Add(uint8(i), uint32(0x400+0x28), []byte{0xFF, 0xFF})
		f.Add(uint8(i), uint32(0x28*1024), []byte{1, 2, 3, 4})
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint32, patch []byte) {
		b := bytes.Clone(images[int(which)%len(images)])
		copy(b[int(at)%len(b):], patch)
		if img, err := New(bytes.NewReader(b), int64(len(b))); err == nil {
			walkAll(img)
		}
	})
}

// TestCorruptImages is FuzzOpen's everyday share: many flips in the metadata.
func TestCorruptImages(t *testing.T) {
	for i, whole := range smallImages(t) {
		r := rand.New(rand.NewSource(int64(i)))
		for range 3000 {
			b := bytes.Clone(whole)
			for range 1 + r.Intn(6) {
				b[r.Intn(60*1024)] = []byte{0, 1, 0xFF, byte(r.Int())}[r.Intn(4)]
			}
			if img, err := New(bytes.NewReader(b), int64(len(b))); err == nil {
				walkAll(img)
			}
		}
	}
}

// TestDirectoryLoops builds what a walk could run around in for ever, also where
// entries do not say that they are directories.
func TestDirectoryLoops(t *testing.T) {
	for name, cmds := range map[string][]string{
		"to the root":       {"mkdir a", "link <2> a/loop"},
		"to itself":         {"mkdir a", "cd a", "link <12> loop"},
		"to a grandparent":  {"mkdir a", "mkdir a/b", "cd a/b", "link <12> loop"},
		"twice in a parent": {"mkdir a", "mkdir a/b", "cd a", "link b c"},
	} {
		for _, feature := range []string{"filetype", "^filetype"} {
			image := mkimage(t, "", 8, "-O", feature)
			debugfs(t, image, cmds...)
			img, err := Open(image)
			if err != nil {
				t.Fatal(err)
			}
			count := 0
			err = fs.WalkDir(img, ".", func(_ string, _ fs.DirEntry, err error) error { count++; return err })
			if !errors.Is(err, ErrCorrupt) || count > 20 {
				t.Errorf("%s, %s: %d names, %v", name, feature, count, err)
			}
			count = 0
			err = img.Walk(t.Context(), func(Node) error { count++; return nil })
			if !errors.Is(err, ErrCorrupt) || count > 20 {
				t.Errorf("Walk %s, %s: %d names, %v", name, feature, count, err)
			}
			img.Close()
		}
	}
}

// counted counts the bytes that are read.
type counted struct {
	io.ReaderAt
	n int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.n += len(p)
	return c.ReaderAt.ReadAt(p, off)
}

// TestParentReadsOneBlock: a directory may be large, and named by many entries.
func TestParentReadsOneBlock(t *testing.T) {
	for _, feature := range []string{"^inline_data", "inline_data"} {
		image := mkimage(t, "", 8, "-O", feature, "-b", "4096")
		cmds := []string{"mkdir a"}
		for range 40 * (len(feature) - len("inline_data")) { // grown, it is in the inode no longer
			cmds = append(cmds, "expand_dir a")
		}
		debugfs(t, image, cmds...)
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r := &counted{ReaderAt: f}
		img, err := New(r, 8<<20)
		if err != nil {
			t.Fatal(err)
		}
		in, err := img.lookup("a", false)
		if err != nil {
			t.Fatal(err)
		}
		r.n = 0
		if up, err := img.parent(in); err != nil || up != rootInode || r.n > 2*4096 {
			t.Errorf("%s: parent %d, %v, %d bytes read of %d", feature, up, err, r.n, in.size)
		}
		fsck(t, image)
	}
}

// TestDeepDirectories: an image of some megabytes may have gigabytes of paths.
func TestDeepDirectories(t *testing.T) {
	const length = 250
	name := strings.Repeat("d", length)
	for depth, fits := range map[int]bool{MaxPath / (length + 1): true, MaxPath/(length+1) + 1: false} {
		image := mkimage(t, "", 8)
		var cmds []string
		for range depth {
			cmds = append(cmds, "mkdir "+name, "cd "+name)
		}
		debugfs(t, image, cmds...)
		img, err := Open(image)
		if err != nil {
			t.Fatal(err)
		}
		longest := 0
		err = img.Walk(t.Context(), func(n Node) error { longest = max(longest, len(n.Path)); return nil })
		if fits != (err == nil) || !fits && !errors.Is(err, ErrCorrupt) || longest > MaxPath {
			t.Errorf("%d directories deep: %v, the longest path has %d bytes", depth, err, longest)
		}
		img.Close()
		fsck(t, image)
	}
}

func TestTimesBeyond2038(t *testing.T) {
	b := make([]byte, 256)
	le.PutUint32(b[0x10:], 7)
	le.PutUint32(b[0x88:], 500<<2|1) // nanoseconds, and one more era of 2^32 seconds
	if got, want := inodeTime(b, 160, 0x10, 0x88), time.Unix(1<<32+7, 500); !got.Equal(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := inodeTime(b, 128, 0x10, 0x88), time.Unix(7, 0); !got.Equal(want) {
		t.Errorf("without extra fields: %v, want %v", got, want)
	}
	le.PutUint32(b[0x10:], 0xFFFFFFFF)
	if got, want := inodeTime(b, 128, 0x10, 0x88), time.Unix(-1, 0); !got.Equal(want) {
		t.Errorf("before 1970: %v, want %v", got, want)
	}
}

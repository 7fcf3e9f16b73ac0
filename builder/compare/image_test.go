package compare

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tool runs one of e2fsprogs. One that is missing is a skip on a laptop and a
// failure in CI. Its clock stands still.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: install e2fsprogs", name)
		}
		t.Skipf("%s is missing: install e2fsprogs to run this test", name)
	}
	cmd := exec.Command(p, args...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME="+fakeTime, "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// fakeTime is what the clock of e2fsprogs shows.
var fakeTime = "1700000000"

// debugfs runs commands on an image. What it complains of fails the test.
func debugfs(t testing.TB, image string, cmds ...string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "cmds")
	if err := os.WriteFile(script, []byte(strings.Join(cmds, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(tool(t, "debugfs", "-w", "-f", script, image)) {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "debugfs:") &&
			!strings.HasPrefix(line, "debugfs ") && !strings.HasPrefix(line, "Allocated inode") {
			t.Fatalf("debugfs: %s", line)
		}
	}
}

// texts are the files of a small root filesystem.
var texts = map[string]string{
	"hostname": "guest\n", "list": "B\nZ\na\nc\n", "notes": "built 2026-11-23\n",
	"where": "in /home/ann/linux/x\n", "key": "AAAAC3NzaC1lZDI1NTE5AAAAIJ1x\n",
	"by": "ann@here\n", "small": "x", "big": strings.Repeat("0123456789abcdef", 4096),
}

// makeImage makes an image of a small tree: the same bytes each time. Files are
// written in the order of names.
func makeImage(t testing.TB, names []string, content map[string]string, cmds ...string) string {
	t.Helper()
	return format(t, []string{"-b", "1024"}, "16M", names, content, cmds...)
}

func format(t testing.TB, args []string, size string, names []string, content map[string]string,
	cmds ...string) string {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "rootfs.img")
	args = slices.Concat([]string{
		"-q", "-F", "-t", "ext4", "-U", "34308998-e7d1-50c1-ae61-6cfed28ccd12", "-E",
		"hash_seed=6df22cd3-96e1-58ba-aded-9c344359e5e1,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0",
	}, args, []string{image, size})
	tool(t, "mke2fs", args...)
	do := []string{"mkdir etc", "cd etc"}
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content[name]), 0o644); err != nil {
			t.Fatal(err)
		}
		do = append(do, fmt.Sprintf("write %s %s", file, name), "sif "+name+" mode 0100644",
			"sif "+name+" uid 0", "sif "+name+" gid 0")
		for _, field := range []string{"mtime", "atime", "ctime", "crtime"} {
			do = append(do, "sif "+name+" "+field+" @1700000000")
		}
	}
	debugfs(t, image, append(do, cmds...)...)
	return image
}

func with(name, content string) map[string]string {
	m := map[string]string{}
	for k, v := range texts {
		m[k] = v
	}
	m[name] = content
	return m
}

// TestImageLeaks plants a leak of each kind in a real image; each must be found
// in its place and named.
func TestImageLeaks(t *testing.T) {
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range texts {
			if !yield(n) {
				return
			}
		}
	})
	clean := makeImage(t, names, texts)
	backwards := slices.Clone(names)
	slices.Reverse(backwards)
	run := func(t *testing.T, image string) *Report {
		t.Helper()
		tool(t, "e2fsck", "-fn", image)
		r, err := Files(context.Background(), "rootfs.img", clean, image)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := run(t, makeImage(t, names, texts)); !r.Same() {
		t.Fatalf("the same tree: %+v", r.Differences)
	}
	for _, tt := range []struct {
		kind, where, a, b string
		want              Cause
		image             func(t *testing.T) string
	}{
		{"mtime", "/etc/small: mtime", "2023-11-14T22:13:20Z", "2023-11-14T22:15:00Z", Time, func(t *testing.T) string {
			return makeImage(t, names, texts, "sif small mtime @1700000100")
		}},
		{"two times", "/etc/small: atime, ctime", "2023-11-14T22:13:20Z", "2027-01-15T08:00:00Z",
			Time, func(t *testing.T) string {
				return makeImage(t, names, texts, "sif small atime @1800000000", "sif small ctime @1800000000")
			}},
		{"time of mkfs", "superblock: s_mkfs_time", "2023-11-14T22:13:20Z", "2027-01-15T08:00:00Z",
			Time, func(t *testing.T) string {
				return makeImage(t, names, texts, "ssv mkfs_time @1800000000")
			}},
		{"time of a write", "superblock: s_wtime", "2023-11-14T22:13:20Z", "2027-01-15T08:00:00Z",
			Time, func(t *testing.T) string {
				img := makeImage(t, names, texts)
				fakeTime = "1800000000"
				defer func() { fakeTime = "1700000000" }()
				debugfs(t, img, "ssv mnt_count 0")
				return img
			}},
		{"time in a file", "/etc/notes: line 1", `"built 2026-11-23"`, `"built 2026-11-24"`,
			Time, func(t *testing.T) string {
				return makeImage(t, names, with("notes", "built 2026-11-24\n"))
			}},
		{"order", "/etc: order of names", "big", "where", Order,
			func(t *testing.T) string { return makeImage(t, backwards, texts) }},
		{"order of a locale", "/etc/list: line 1", `"B"`, `"a"`, Locale, func(t *testing.T) string {
			return makeImage(t, names, with("list", "a\nB\nc\nZ\n"))
		}},
		{"build path", "/etc/where: line 1", `"in /home/ann/linux/x"`, `"in /tmp/b/linux/x"`,
			Path, func(t *testing.T) string {
				return makeImage(t, names, with("where", "in /tmp/b/linux/x\n"))
			}},
		{"link to a build path", "/etc/link: link", `"/home/ann/linux"`, `"/tmp/b/linux"`, Path, nil},
		{"uid", "/etc/small: owner", "0:0", "1000:0", Owner,
			func(t *testing.T) string { return makeImage(t, names, texts, "sif small uid 1000") }},
		{"gid", "/etc/small: owner", "0:0", "0:100000", Owner,
			func(t *testing.T) string { return makeImage(t, names, texts, "sif small gid 100000") }},
		{"umask", "/etc/small: mode", "0644", "0664", Umask, func(t *testing.T) string {
			return makeImage(t, names, texts, "sif small mode 0100664")
		}},
		{"setuid is no umask", "/etc/small: mode", "0644", "4644", "", func(t *testing.T) string {
			return makeImage(t, names, texts, "sif small mode 0104644")
		}},
		{"random UUID", "superblock: s_uuid", "34308998-e7d1-50c1-ae61-6cfed28ccd12",
			"11111111-2222-4333-8444-555555555555", Random, func(t *testing.T) string {
				img := makeImage(t, names, texts)
				tool(t, "tune2fs", "-f", "-U", "11111111-2222-4333-8444-555555555555", img)
				return img
			}},
		{"random hash seed", "superblock: s_hash_seed", "6df22cd3-96e1-58ba-aded-9c344359e5e1",
			"11111111-2222-4333-8444-555555555555", Random, func(t *testing.T) string {
				return makeImage(t, names, texts, "ssv hash_seed 11111111-2222-4333-8444-555555555555")
			}},
		{"random key", "/etc/key: line 1", `"AAAAC3NzaC1lZDI1NTE5AAAAIJ1x"`,
			`"AAAAC3NzaC1lZDI1NTE5AAAAIK9z"`, Random, func(t *testing.T) string {
				return makeImage(t, names, with("key", "AAAAC3NzaC1lZDI1NTE5AAAAIK9z\n"))
			}},
		{"random generation", "/etc/small: generation", "0x0", "0x1e240", Random, func(t *testing.T) string {
			return makeImage(t, names, texts, "sif small generation 123456")
		}},
		{"host name", "/etc/hostname: line 1", `"guest"`, `"laptop"`, Host, func(t *testing.T) string {
			return makeImage(t, names, with("hostname", "laptop\n"))
		}},
		{"user name", "/etc/by: line 1", `"ann@here"`, `"bob@here"`, User, func(t *testing.T) string {
			return makeImage(t, names, with("by", "bob@here\n"))
		}},
		{"the host's label", "/etc/small: attribute security.selinux", "", `"host_t"`, Host, func(t *testing.T) string {
			return makeImage(t, names, texts, "ea_set small security.selinux host_t")
		}},
		{"label", "superblock: s_volume_name", `""`, `"mine"`, Config, func(t *testing.T) string {
			return makeImage(t, names, texts, "ssv volume_name mine")
		}},
		{"another layout", "blocks of 8 names with the same content, the first is /etc/big",
			"", "", Layout, func(t *testing.T) string {
				others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "big" })
				return movedFile(t, makeImage(t, others, texts))
			}},
		{"a removed file", "bytes in free blocks", "", "", Leftover, func(t *testing.T) string {
			file := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(file, []byte(strings.Repeat("secret", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
			return makeImage(t, names, texts, "write "+file+" gone", "rm gone")
		}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			if tt.image == nil {
				linked := func(to string) string { return makeImage(t, names, texts, "symlink link "+to) }
				a, b := linked("/home/ann/linux"), linked("/tmp/b/linux")
				r, err := Files(context.Background(), "rootfs.img", a, b)
				if err != nil {
					t.Fatal(err)
				}
				if d := has(t, r, tt.where); d.A != tt.a || d.B != tt.b || d.Cause != tt.want {
					t.Errorf("%+v", d)
				}
				return
			}
			r := run(t, tt.image(t))
			d := has(t, r, tt.where)
			if d.Cause != tt.want || tt.a+tt.b != "" && (d.A != tt.a || d.B != tt.b) {
				t.Errorf("%+v, want %s", d, tt.want)
			}
			// Nothing else may be blamed.
			for _, other := range r.Differences {
				if other.Cause != tt.want && !slices.Contains([]Cause{Follows, Layout, Leftover, Order}, other.Cause) {
					t.Errorf("%+v is reported, too", other)
				}
			}
		})
	}
}

// movedFile writes the file big behind a gap that a removed file leaves.
func movedFile(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	big, gap := filepath.Join(dir, "big"), filepath.Join(dir, "gap")
	if err := os.WriteFile(big, []byte(texts["big"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gap, make([]byte, 3000), 0o600); err != nil {
		t.Fatal(err)
	}
	cmds := []string{"cd etc", "write " + gap + " gap", "write " + big + " big", "rm gap",
		"sif big mode 0100644", "sif big uid 0", "sif big gid 0"}
	for _, field := range []string{"mtime", "atime", "ctime", "crtime"} {
		cmds = append(cmds, "sif big "+field+" @1700000000")
	}
	debugfs(t, image, cmds...)
	return image
}

// TestSlack puts bytes behind the end of a file, which are never read.
func TestSlack(t *testing.T) {
	clean := makeImage(t, []string{"small"}, texts)
	b, err := os.ReadFile(clean)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, append([]byte("x"), make([]byte, 1023)...))
	for at >= 0 && at%1024 != 0 {
		next := bytes.Index(b[at+1:], append([]byte("x"), make([]byte, 1023)...))
		at += 1 + next
	}
	leak := bytes.Clone(b)
	copy(leak[at+10:], "leak of memory")
	copy(leak[100:], "boot")
	r := compareBytes(t, "rootfs.img", b, leak)
	if d := has(t, r, "behind the end of files"); d.Cause != Leftover || !strings.Contains(d.Where, "(/etc/small)") {
		t.Errorf("%+v", d)
	}
	has(t, r, "boot block")
	if len(r.Differences) != 2 {
		t.Errorf("%+v", r.Differences)
	}
}

// TestImagePackages names the package that brings a file.
func TestImagePackages(t *testing.T) {
	put := func(dir, name, content string) string {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return "write " + file + " " + name
	}
	make := func(version, tool, other string) string {
		dir := t.TempDir()
		return makeImage(t, nil, nil, "cd /", "mkdir usr", "mkdir usr/bin", "symlink bin usr/bin",
			"mkdir var", "mkdir var/lib", "mkdir var/lib/dpkg", "mkdir var/lib/dpkg/info",
			put(dir, "usr/bin/tool", tool), put(dir, "usr/bin/other", other),
			put(dir, "var/lib/dpkg/status",
				"Package: tool\nVersion: "+version+"\nArchitecture: amd64\n\nPackage: other\nVersion: 1\n"),
			put(dir, "var/lib/dpkg/info/tool.list", "/.\n/bin\n/bin/tool\n"),
			put(dir, "var/lib/dpkg/info/other.list", "/usr/bin/other\n"))
	}
	r, err := Files(context.Background(), "rootfs.img", make("1", "one", "same"), make("2", "two", "changed"))
	if err != nil {
		t.Fatal(err)
	}
	if d := has(t, r, "/usr/bin/tool: content"); d.Cause != Package {
		t.Errorf("%+v", d)
	}
	if d := has(t, r, "/usr/bin/other: "); d.Cause == Package {
		t.Errorf("its package is the same: %+v", d)
	}
}

func smallImage(t testing.TB) string {
	return format(t, []string{"-b", "1024", "-N", "32", "-O", "^has_journal,^resize_inode"},
		"256K", []string{"big", "list", "small"}, texts, "symlink link to", "mkdir d")
}

// TestHostileImages flips bytes of an image: whatever it says, the comparison
// ends, without a panic, and never finds two different images the same.
func TestHostileImages(t *testing.T) {
	file := smallImage(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewSource(1))
	for range 500 {
		b := bytes.Clone(whole)
		for range 1 + r.Intn(6) {
			b[r.Intn(60<<10)] ^= byte(1 + r.Intn(255))
		}
		compareBlobs(t, whole, b)
	}
}

// compareBlobs compares two images in memory.
func compareBlobs(t testing.TB, a, b []byte) *Report {
	t.Helper()
	r := &Report{A: "a", B: "b"}
	err := r.blobs(context.Background(), thing{artifact: "x", base: "x"},
		memory(a), memory(b))
	if err != nil {
		t.Fatal(err)
	}
	if r.Same() != bytes.Equal(a, b) {
		t.Fatalf("same: %v", r.Same())
	}
	return r
}

// FuzzImages patches one of two equal images.
func FuzzImages(f *testing.F) {
	file := smallImage(f)
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0x400+0x28), []byte{0xFF, 0xFF})
	f.Add(uint32(0x400+0x68), []byte{1, 2, 3, 4})
	f.Add(uint32(0x800), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(whole)
		copy(b[int(at)%len(b):], patch)
		compareBlobs(t, whole, b)
	})
}

// BenchmarkImages compares two sparse images of 1 GiB with 150 MiB of files: the
// same, one with a file more, and one in which all lies elsewhere.
func BenchmarkImages(b *testing.B) {
	r := rand.New(rand.NewSource(1))
	tree := b.TempDir()
	for i := range 5000 {
		content := make([]byte, 30<<10)
		r.Read(content)
		put(b, tree, fmt.Sprintf("d%d/f%d", i%100, i), string(content))
	}
	image := func(name, uuid, inodes string) string {
		file := filepath.Join(b.TempDir(), "rootfs.img")
		if name != "" {
			put(b, tree, name, strings.Repeat("new", 100_000))
		}
		tool(b, "mke2fs", "-q", "-F", "-t", "ext4", "-N", inodes, "-U", uuid, "-E",
			"hash_seed="+uuid+",lazy_itable_init=0,lazy_journal_init=0", "-d", tree, file, "1G")
		return file
	}
	const one, other = "34308998-e7d1-50c1-ae61-6cfed28ccd12", "5af40aed-1bfe-5189-816b-eeb9176dcddd"
	first := image("", one, "65536")
	for _, c := range []struct{ name, file string }{
		{"same", image("", one, "65536")}, {"elsewhere", image("", other, "32768")},
		{"a file more", image("d0/new", one, "65536")},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Files(context.Background(), "rootfs.img", first, c.file); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

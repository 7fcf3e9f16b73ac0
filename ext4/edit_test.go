package ext4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func hostWorker(t *testing.T) *HostWorker {
	t.Helper()
	tool(t, "debugfs", "-V") // skips or fails where it is missing
	b, err := NewHostWorker(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

var epoch = time.Unix(1_700_000_000, 0)

func put(p string, data []byte) WriteFile {
	return WriteFile{Path: p, Data: data, Mode: 0o640, UID: 7, GID: 70000, Time: epoch}
}

func TestChange(t *testing.T) {
	dir, files := sample(t)
	image := mkimage(t, dir, 64)
	if err := os.Chmod(image, 0o600); err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB
	err := Change(t.Context(), hostWorker(t), image, []Edit{
		put("/etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf", []byte("[Service]\n")),
		put("/etc/hosts", []byte("replaced")),  // over a file
		put("/uno", []byte("one of two")),      // over a hard link: the other name keeps its bytes
		put("/short", []byte("no longer")),     // over a symbolic link
		put("/absolute.d/x", nil),              // an empty file in a new directory
		put("/with space/\"quoted\"/<7>", big), // what debugfs's parser could trip over
		put("/many/#comment", []byte("#")),     // in a directory of many blocks
		Symlink{Path: "/lib", Target: "usr/lib", Time: epoch},
		put("/lib/kimg/agent", []byte("usr")), // through the link just made
		Symlink{Path: "/long", Target: strings.Repeat("t/", 100), Time: epoch},
		MakeDir{Path: "/srv/a/b", Mode: 0o700, UID: 5, Time: epoch},
		MakeDir{Path: "/etc", Mode: 0o700, Time: epoch}, // there already: left alone
		Remove{Path: "/hole/striped"},
		Remove{Path: "/srv/a/b"},
		put("/twice", []byte("first")), put("/twice", []byte("second")),
	})
	if err != nil {
		t.Fatal(err)
	}
	fsck(t, image)
	if st, err := os.Stat(image); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the image has mode %v (%v)", st.Mode(), err)
	}
	img, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for name, want := range map[string][]byte{
		"etc/hosts": []byte("replaced"), "one": files["one"], "uno": []byte("one of two"),
		"usr/lib/kimg/agent":        []byte("usr"),
		"with space/\"quoted\"/<7>": big, "twice": []byte("second"), "odd": files["odd"],
		"hole/last":     files["hole/last"],
		"many/#comment": []byte("#"),
	} {
		if got, err := img.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes (%v), want %d", name, len(got), err, len(want))
		}
	}
	for _, name := range []string{"hole/striped", "srv/a/b"} {
		if _, err := img.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := img.Stat("etc"); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("etc was touched: %v", err)
	}
	st, err := img.Stat("twice")
	if err != nil {
		t.Fatal(err)
	}
	s := st.Sys().(*Stat)
	for _, at := range []time.Time{st.ModTime(), s.Accessed, s.Changed, s.Created} {
		if !at.Equal(epoch) {
			t.Errorf("a time is %v", at)
		}
	}
	if s.Links != 1 {
		t.Errorf("%d links", s.Links)
	}
}

// What mke2fs of arm64 says of its machine becomes what that of x86-64 says: the same bits, copies of the superblock
// included.
func TestSignedHash(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/hosts", []byte("x"))
	image, worker := mkimage(t, dir, 200), hostWorker(t)
	edits := []Edit{put("/etc/passwd", []byte("y")), SignedHash{}}
	made := func(name string, edits []Edit) []byte {
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "arm64") {
			said, err := exec.Command("debugfs", "-w", "-R", "set_super_value flags 2", file).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			unsignedCopies(t, file)
		}
		if err := Change(t.Context(), worker, file, edits); err != nil {
			t.Fatal(err)
		}
		if b, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := made("plain", edits[:1])
	if !bytes.Equal(plain, made("amd64", edits)) {
		t.Error("an image of x86-64 is another one by it")
	}
	if bytes.Equal(plain, made("arm64 as it is", edits[:1])) {
		t.Error("an image of arm64 is the same without it")
	}
	if !bytes.Equal(plain, made("arm64", edits)) {
		t.Error("an image of arm64 is not the same with it")
	}
}

// unsignedCopies has the copies of the superblock, which debugfs leaves alone, say what mke2fs of arm64 does.
func unsignedCopies(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	img, err := New(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	copies := 0
	for off, super := range img.superCopies {
		if sum := le.Uint32(super[superChecksum:]); sum != superSum(super) {
			t.Errorf("mke2fs's checksum is %#x, not %#x", sum, superSum(super))
		}
		super[superFlags] = 2
		le.PutUint32(super[superChecksum:], superSum(super))
		if _, err := f.WriteAt(super, off); err != nil {
			t.Fatal(err)
		}
		copies++
	}
	if copies == 0 {
		t.Fatal("the image has no copy of the superblock")
	}
	if err := img.checkCopies(); err == nil {
		t.Error("they are taken for signed ones")
	}
}

// TestChangeIsRepeatable edits two copies at different times.
func TestChangeIsRepeatable(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/hosts", []byte("x"))
	image := mkimage(t, dir, 16)
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	var sums [][32]byte
	for range 2 {
		p := filepath.Join(t.TempDir(), "copy")
		if err := os.WriteFile(p, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Change(t.Context(), hostWorker(t), p, []Edit{put("/a/b", []byte("1")), put("/etc/hosts", []byte("2")),
			Remove{"/a/b"}}); err != nil {
			t.Fatal(err)
		}
		fsck(t, p)
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sha256.Sum256(b))
		time.Sleep(1100 * time.Millisecond) // ext4's clock has seconds
	}
	if sums[0] != sums[1] {
		t.Error("two runs of the same edits differ")
	}
}

// breaking is a worker on which one thing goes wrong.
type breaking struct {
	Worker
	run func(ctx context.Context, args ...string) ([]byte, []byte, error)
	get func(ctx context.Context, name string, w io.Writer) error
}

func (b breaking) Run(ctx context.Context, args ...string) ([]byte, []byte, error) {
	if b.run != nil {
		return b.run(ctx, args...)
	}
	return b.Worker.Run(ctx, args...)
}

func (b breaking) Get(ctx context.Context, name string, w io.Writer) error {
	if b.get != nil {
		return b.get(ctx, name, w)
	}
	return b.Worker.Get(ctx, name, w)
}

// TestFailedChangeLeavesTheImage holds the promise of Change in every way that we
// know to break it.
func TestFailedChangeLeavesTheImage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/hosts", []byte("x"))
	image := mkimage(t, dir, 8, "-N", "64")
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	host := hostWorker(t)
	random := make([]byte, 20<<20)
	for i := range random {
		random[i] = byte(i>>12 + 1)
	}
	var many []Edit
	for i := range 100 {
		many = append(many, put("/f"+strings.Repeat("x", i), nil))
	}
	ok := []Edit{put("/f", []byte("1"))}
	cases := map[string]struct {
		worker Worker
		edits  []Edit
		want   string
	}{
		"no space":         {host, []Edit{put("/big", random)}, ""},
		"no inodes":        {host, many, "inode"},
		"through a file":   {host, []Edit{put("/etc/hosts/x", nil)}, "not a directory"},
		"over a directory": {host, []Edit{put("/etc", nil)}, "directory is in its place"},
		"not there":        {host, []Edit{Remove{"/no"}}, "not exist"},
		"full directory":   {host, []Edit{Remove{"/etc"}}, "not empty"},
		"newline":          {host, []Edit{put("/a\nrm /etc/hosts", nil)}, "control characters"},
		"relative":         {host, []Edit{put("a", nil)}, "absolute"},
		"dots":             {host, []Edit{put("/a/../b", nil)}, "absolute"},
		"long name":        {host, []Edit{put("/"+strings.Repeat("n", 256), nil)}, "255"},
		"debugfs complains": {breaking{Worker: host, run: func(context.Context, ...string) ([]byte, []byte, error) {
			return nil, []byte("debugfs 1.47.2 (1-Jan-2025)\nsomething went wrong\n"), nil
		}}, ok, "something went wrong"},
		"e2fsck finds " +
			"something": {breaking{Worker: host,
			run: func(ctx context.Context, args ...string) ([]byte, []byte, error) {
				if args[2] == "e2fsck" {
					return []byte("Inode 12 is wrong"), nil, errors.New("exit status 4")
				}
				return host.Run(ctx, args...)
			}}, ok, "Inode 12"},
		"nothing was written": {breaking{Worker: host, run: func(context.Context, ...string) ([]byte, []byte, error) {
			return nil, nil, nil
		}}, ok, "read back"},
		"the way back breaks": {breaking{Worker: host, get: func(_ context.Context, _ string, w io.Writer) error {
			_, err := w.Write(before[:1<<20])
			return errors.Join(err, errors.New("connection lost"))
		}}, ok, "connection lost"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := Change(t.Context(), c.worker, image, c.edits)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			after, rerr := os.ReadFile(image)
			if rerr != nil || !bytes.Equal(before, after) {
				t.Error("the image changed")
			}
			if l, _ := os.ReadDir(filepath.Dir(image)); len(l) != 1 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
	fsck(t, image)
}

func TestPlanIsText(t *testing.T) {
	tree := fstestLinks{"etc": fs.ModeDir, "etc/hosts": 0, "usr": fs.ModeDir, "usr/lib": fs.ModeDir,
		"lib": fs.ModeSymlink}
	p := newPlanner(tree)
	for _, e := range []Edit{
		WriteFile{Path: `/lib/a "b"/c`, Data: []byte("x"), Mode: 0o644, Time: time.Unix(9, 5)},
		Remove{Path: "/etc/hosts"},
		Symlink{Path: "/etc/hosts", Target: "../run/hosts", Time: time.Unix(9, 0)},
	} {
		if err := e.plan(p); err != nil {
			t.Fatal(err)
		}
	}
	set := func(path, mode string) string {
		var out string
		for _, f := range []string{`"mode" "` + mode, `"uid" "0`, `"gid" "0`, `"atime" "@9`, `"ctime" "@9`,
			`"mtime" "@9`, `"crtime" "@9`} {
			out += "set_inode_field " + path + " " + f + "\"\n"
		}
		return out
	}
	want := `cd "/usr/lib"` + "\n" + `mkdir "a ""b"""` + "\n" + set(`"/usr/lib/a ""b"""`, "040755") +
		`cd "/usr/lib/a ""b"""` + "\n" + `write "payload.0" "c"` + "\n" + set(`"/usr/lib/a ""b""/c"`, "0100644") +
		`cd "/etc"` + "\n" + `rm "hosts"` + "\n" +
		`cd "/etc"` + "\n" + `symlink "hosts" "../run/hosts"` + "\n" + set(`"/etc/hosts"`, "0120777")
	if got := p.script(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// fstestLinks is a tree of types; its only link is lib -> usr/lib.
type fstestLinks map[string]fs.FileMode

func (l fstestLinks) Open(string) (fs.File, error) { return nil, fs.ErrInvalid }

func (l fstestLinks) Lstat(name string) (fs.FileInfo, error) {
	m, ok := l[name]
	if !ok {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return info{name, &inode{mode: map[fs.FileMode]uint16{0: 0x8000, fs.ModeDir: 0x4000,
		fs.ModeSymlink: 0xA000}[m]}}, nil
}

func (l fstestLinks) ReadLink(string) (string, error) { return "usr/lib", nil }

package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

const fileCaps = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_raw=ep

// entries are one of each kind.
func entries() []*tar.Header {
	list := []*tar.Header{
		{Name: "./", Mode: 0o755},
		{Name: "./dir/", Mode: 0o2750, Uid: 7, Gid: 8},
		{Name: "./dir/file", Mode: 0o4755, Uid: 1000, Gid: 8, Size: 5},
		{Name: "./dir/hard", Typeflag: tar.TypeLink, Linkname: "./dir/file", Mode: 0o4755, Uid: 1000, Gid: 8},
		{Name: "./dir/pipe", Typeflag: tar.TypeFifo, Mode: 0o640, Gid: 1},
		{Name: "./locked/", Mode: 0},
		{Name: "./locked/caps", Mode: 0o755, Size: 2 << 20, PAXRecords: map[string]string{
			xattrPrefix + "security.capability": fileCaps, xattrPrefix + "user.x": "y\x00z"}},
		{Name: "./soft", Typeflag: tar.TypeSymlink, Linkname: "/dir/file", Mode: 0o777, Uid: 5, Gid: 5},
	}
	for i, h := range list {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(h.Name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		h.Format = tar.FormatPAX
		h.ModTime = time.Unix(1e9+int64(i), 0)
	}
	list[3].ModTime = list[2].ModTime
	return list
}

func makeTar(t testing.TB, list ...*tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte{'x'}, int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// describe prints a tar's entries. With one id all owners are 0.
func describe(t testing.TB, r io.Reader, ids IDs) string {
	t.Helper()
	var s strings.Builder
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return s.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if ids.One() {
			h.Uid, h.Gid = 0, 0
		}
		n, err := io.Copy(io.Discard, tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeLink { // it has its file's attributes
			h.PAXRecords = nil
		}
		fmt.Fprintf(&s, "%s %c %o %d:%d %d %d %s %d %q\n", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size,
			h.ModTime.Unix(), h.Linkname, n, h.PAXRecords)
	}
}

// temp is a directory whose trees of mapped ids are removed.
func temp(t testing.TB, ids IDs) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		list, err := filepath.Glob(dir + "/*")
		if err == nil {
			err = Remove(context.Background(), ids, list...)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestTrees(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		dir := temp(t, ids)
		device := &tar.Header{Name: "./null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}
		from := makeTar(t, append(entries(), device)...)
		need(t, Unpack(t.Context(), ids, dir+"/a tree", from))
		want := describe(t, makeTar(t, entries()...), ids)
		if err := Copy(t.Context(), ids, dir+"/a tree", dir+"/copy"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a tree", "copy"} {
			var b bytes.Buffer
			if err := Pack(t.Context(), ids, dir+"/"+name, &b); err != nil {
				t.Fatal(err)
			}
			if got := describe(t, &b, ids); got != want {
				t.Errorf("%s:\n%swant\n%s", name, got, want)
			}
		}
		// What is in one of them is not in the other.
		if err := Unpack(t.Context(), ids, dir+"/copy", makeTar(t, &tar.Header{Name: "new", Mode: 0o644})); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(dir + "/a tree/new"); err == nil {
			t.Error("the copy is the tree itself")
		}
		if err := Remove(t.Context(), ids, dir+"/a tree", dir+"/copy", dir+"/none"); err != nil {
			t.Fatal(err)
		}
		if list, _ := os.ReadDir(dir); len(list) != 0 {
			t.Errorf("left: %v", list)
		}
	})
}

// A disk image's holes stay holes.
func TestUnpackSparse(t *testing.T) {
	dir, size := t.TempDir(), int64(64<<20)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "disk", Mode: 0o644, Size: size})
	io.CopyN(w, zero{}, size)
	w.Close()
	need(t, Unpack(t.Context(), OneID(0, 0), dir+"/x", &b))
	var st unix.Stat_t
	if err := unix.Stat(dir+"/x/disk", &st); err != nil || st.Size != size || st.Blocks > 100 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestUnpackHostile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/victim", []byte("untouched"), 0o644)
	if err := os.Mkdir(dir+"/victims", 0o755); err != nil {
		t.Fatal(err)
	}
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}
	}
	file := func(name string) *tar.Header { return &tar.Header{Name: name, Mode: 0o644, Size: 3} }
	hard := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
	}
	for i, tt := range []struct {
		list []*tar.Header
		ok   bool
		is   string // a file that there is then
	}{
		{[]*tar.Header{file("../../victim")}, true, "victim"},
		{[]*tar.Header{file(dir + "/victim")}, true, dir + "/victim"},
		{[]*tar.Header{link("out", dir), file("out/victim")}, false, ""}, // a link to nowhere inside
		{[]*tar.Header{link("out", "../.."), file("out/victim")}, true, "victim"},
		{[]*tar.Header{link("victim", "../victim"), file("victim")}, true, "victim"},
		{[]*tar.Header{link("v", "../victim"), hard("w", "v"), file("w")}, true, "w"},
		{[]*tar.Header{hard("w", "../victim")}, false, ""},
		{[]*tar.Header{hard("w", dir+"/victim")}, false, ""},
		{[]*tar.Header{link("out", "/proc/self/root"), file("out" + dir + "/victim")}, false, ""},
		{[]*tar.Header{link("d", "../victims"), {Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700}}, false, ""},
		{[]*tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700}, file("d/f"), file("d")}, false, ""},
		{[]*tar.Header{file("a"), hard("a", "a")}, false, ""},
		{[]*tar.Header{{Name: strings.Repeat("d/", 3000) + "f", Mode: 0o644}}, false, ""},
	} {
		to := fmt.Sprintf("%s/t%d", dir, i)
		err := Unpack(t.Context(), OneID(0, 0), to, makeTar(t, tt.list...))
		if (err == nil) != tt.ok {
			t.Errorf("%d: %v, want success %v", i, err, tt.ok)
		}
		if tt.is != "" {
			if info, err := os.Lstat(filepath.Join(to, tt.is)); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%d: %s: %v", i, tt.is, err)
			}
		}
	}
	if b, err := os.ReadFile(dir + "/victim"); string(b) != "untouched" {
		t.Errorf("the victim is %q, %v", b, err)
	}
	if list, _ := os.ReadDir(dir + "/victims"); len(list) > 0 {
		t.Errorf("the victims are %v", list)
	}
	if info, _ := os.Stat(dir + "/victims"); info.Mode().Perm() != 0o755 {
		t.Errorf("the victims' mode is %v", info.Mode())
	}
}

// What was there is replaced, not written to: it may have other names.
func TestUnpackReplaces(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/other", []byte("untouched"), 0o644)
	if err := os.Mkdir(dir+"/x", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(dir+"/other", dir+"/x/f"); err != nil {
		t.Fatal(err)
	}
	need(t, Unpack(t.Context(), OneID(0, 0), dir+"/x", makeTar(t, &tar.Header{Name: "f", Mode: 0o644, Size: 3})))
	a, _ := os.ReadFile(dir + "/other")
	b, _ := os.ReadFile(dir + "/x/f")
	if string(a) != "untouched" || string(b) != "xxx" {
		t.Errorf("%q and %q", a, b)
	}
}

func TestUnpackErrors(t *testing.T) {
	dir := temp(t, OneID(0, 0))
	whole, _ := io.ReadAll(makeTar(t, entries()...))
	mine := errors.New("mine")
	for name, tt := range map[string]struct {
		r    io.Reader
		want error
	}{
		"cut":               {bytes.NewReader(whole[:1300]), nil},
		"reader":            {io.MultiReader(bytes.NewReader(whole[:1024]), iotest.ErrReader(mine)), mine},
		"reader at the end": {io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(mine)), mine},
		"garbage":           {strings.NewReader(strings.Repeat("no tar ", 1000)), nil},
	} {
		err := Unpack(t.Context(), OneID(0, 0), filepath.Join(dir, name), tt.r)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	stuck, w := io.Pipe()
	defer w.Close()
	go func() { w.Write(whole[:1024]); cancel() }()
	if err := Unpack(ctx, OneID(0, 0), dir+"/stuck", stuck); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRemoveFollowsNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/keep/file", nil, 0o644)
	write(t, dir+"/tree/shut/file", nil, 0o644)
	if err := os.Symlink(dir+"/keep", dir+"/tree/shut/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/keep", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/tree/shut", "/tree"} {
		if err := os.Chmod(dir+d, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := Remove(t.Context(), OneID(0, 0), dir+"/tree", dir+"/link", dir+"/none"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/keep/file"); err != nil {
		t.Error(err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}

func TestOverlay(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		dir := t.TempDir()
		need(t, Overlay(t.Context(), ids, dir))
		if list, _ := os.ReadDir(dir); len(list) != 0 {
			t.Errorf("left: %v", list)
		}
	})
	if err := Overlay(t.Context(), OneID(0, 0), "/proc/self"); err == nil {
		t.Error("an overlay with its layers in proc")
	}
}

func TestCopyInAndOut(t *testing.T) {
	ids := OneID(0, 0)
	vol, layer := t.TempDir(), temp(t, ids)
	root := newRoot(t)
	if err := os.Symlink("/data/sub", root+"/short"); err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{IDs: ids, Root: root, Layer: layer + "/l", Mounts: []Mount{{Source: vol, Target: "/data"}},
		Tmpfs: map[string]string{"/small": "size=1m"}})
	if err := s.Unpack(t.Context(), "/data", makeTar(t, &tar.Header{Name: "sub/f", Mode: 0o600, Size: 9})); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(vol + "/sub/f"); len(b) != 9 || err != nil {
		t.Errorf("in the volume: %q, %v", b, err)
	}
	for path, want := range map[string]string{
		"/data/sub":    "sub/ sub/f",
		"/data/sub/":   "sub/ sub/f",
		"/short":       "short",
		"/short/f":     "f",
		"/etc/passwd":  "passwd",
		"/data/none":   fs.ErrNotExist.Error(),
		"/etc/group/":  "group",
		"/etc/group/x": fs.ErrNotExist.Error(),
		"/none/none":   fs.ErrNotExist.Error(),
	} {
		var b bytes.Buffer
		err := s.Pack(t.Context(), path, &b)
		var names []string
		for tr := tar.NewReader(&b); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			names = append(names, h.Name)
		}
		got := strings.Join(names, " ")
		if errors.Is(err, fs.ErrNotExist) {
			got = fs.ErrNotExist.Error()
		} else if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	err := s.Unpack(t.Context(), "/small", makeTar(t, &tar.Header{Name: "big", Mode: 0o600, Size: 2 << 20}))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	if err := s.Unpack(t.Context(), "/none", makeTar(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a directory that is not there: %v", err)
	}
	mine := errors.New("mine")
	if err := s.Pack(t.Context(), "/bin", badWriter{mine}); !errors.Is(err, mine) {
		t.Errorf("a writer's error: %v", err)
	}
	s.Close()
	if err := s.Unpack(t.Context(), "/data", makeTar(t)); !errors.Is(err, errEnded) {
		t.Errorf("after the end: %v", err)
	}
}

type badWriter struct{ err error }

func (w badWriter) Write([]byte) (int, error) { return 0, w.err }

// This program is another file than the sandbox's own: nothing in it leads there.
func TestPackFollowsNoMagicLinks(t *testing.T) {
	s := start(t, Config{})
	for _, path := range []string{"/proc/1/root/etc/passwd", "/proc/self/exe/x", "/proc/1/cwd/bin"} {
		if err := s.Pack(t.Context(), path, io.Discard); err == nil {
			t.Errorf("%s was packed", path)
		}
		if err := s.Unpack(t.Context(), path, makeTar(t)); err == nil {
			t.Errorf("unpacked into %s", path)
		}
	}
	var b bytes.Buffer
	if err := s.Pack(t.Context(), "/proc/1/exe", &b); err == nil {
		if h, err := tar.NewReader(&b).Next(); err != nil || h.Typeflag != tar.TypeSymlink || h.Size != 0 {
			t.Errorf("%+v, %v", h, err)
		}
	}
}

// With one id, who owns what is remembered: what a process or a tar gives away is told to processes and to Pack.
func TestOwnersOfOneID(t *testing.T) {
	ids := OneID(0, 0)
	layer := temp(t, ids)
	s := start(t, Config{IDs: ids, Root: newRoot(t), Layer: layer + "/l"})
	root := Process{Caps: []string{"CHOWN", "MKNOD"}}
	if got, status := run(t, s, root, "chown", "7:8", "/etc/group"); status != 0 {
		t.Fatal(got)
	}
	device := &tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}
	if err := s.Unpack(t.Context(), "/tmp", makeTar(t, device,
		&tar.Header{Name: "f", Mode: 0o640, Uid: 1000, Gid: 33})); err != nil {
		t.Fatal(err)
	}
	got, _ := run(t, s, root, "stat", "/etc/group", "/etc/passwd", "/tmp/f", "/tmp/null")
	want := "/etc/group 100644 7 8\n/etc/passwd 100644 0 0\n/tmp/f 100640 1000 33\n/tmp/null 20666 0 0"
	if got != want {
		t.Errorf("told to a process: %s, want %s", got, want)
	}
	for path, want := range map[string]string{"/etc/group": "7:8 0", "/tmp/f": "1000:33 0", "/tmp/null": "0:0 3"} {
		var b bytes.Buffer
		if err := s.Pack(t.Context(), path, &b); err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(&b).Next()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d:%d %d", h.Uid, h.Gid, h.Devminor); got != want {
			t.Errorf("packed %s: %s, want %s", path, got, want)
		}
	}
	if got, status := run(t, s, Process{}, "chown", "7:8", "/tmp/f"); status == 0 {
		t.Errorf("without CHOWN: %s", got)
	}
}

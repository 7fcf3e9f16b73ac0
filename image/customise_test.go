package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/steps/goldentest"
	"github.com/kimg/kimg/internal/units"
)

// packed are overlays by their digests.
type packed map[Digest][]byte

func (p packed) Open(d Digest) (io.ReadCloser, error) {
	b, ok := p[d]
	if !ok {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (p packed) add(t *testing.T, file string) custom.Overlay {
	t.Helper()
	var b bytes.Buffer
	if err := PackOverlay(t.Context(), file, 1<<20, &b); err != nil {
		t.Fatal(err)
	}
	d := units.DigestOf(b.Bytes())
	p[d] = b.Bytes()
	return custom.Overlay{Path: filepath.Base(file), SHA256: d}
}

// write makes the files of a directory: a name that ends in / is a directory, one with -> a link.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name, link, isLink := strings.Cut(f, " -> ")
		at := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(at), 0o775)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(link, at)
		case strings.HasSuffix(f, "/"):
			err = os.MkdirAll(at, 0o775)
		default:
			err = os.WriteFile(at, []byte("my "+name+"\n"), 0o664)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func guestTree(t *testing.T) Tree {
	b := makeTar(t, base(
		dir("./usr"), dir("./usr/lib"), dir("./usr/share"), dir("./usr/share/zoneinfo"),
		dir("./usr/share/zoneinfo/Europe"), reg("./usr/share/zoneinfo/Europe/Berlin", "TZif"),
		symlink("./lib", "usr/lib"), dir("./run"), dir("./var"), symlink("./var/run", "/run"), dir("./tmp"),
		dir("./dev"),
		change(dir("./root"), func(h *tar.Header) { h.Mode = 0o700 }),
		change(dir("./home"), func(h *tar.Header) {}),
		change(dir("./home/alice"), func(h *tar.Header) { h.Uid, h.Gid, h.Mode = 1000, 1001, 0o700 }),
		reg("./etc/passwd", "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1001::/home/alice:/bin/sh\n"),
		reg("./etc/group", "root:x:0:\nadm:x:4:\nalice:x:1001:\n"),
		reg("./etc/hostname", "kimg\n"), reg("./etc/hosts", hosts),
	)...)
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func customised(t *testing.T, c Custom, from Packages) (*tree, []byte, error) {
	t.Helper()
	var out bytes.Buffer
	spec := CustomSpec{Custom: c, Epoch: epoch}
	if err := (Maker{}).Customise(t.Context(), spec, guestTree(t), from, &out); err != nil {
		return nil, nil, err
	}
	got, err := readTar(bytes.NewReader(out.Bytes()), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { got.close() })
	return got, out.Bytes(), nil
}

// line says what a name is, as a listing would.
func line(t *testing.T, tr *tree, name string) string {
	t.Helper()
	n := tr.nodes[name]
	if n == nil {
		return "none"
	}
	s := fmt.Sprintf("%c %04o %d:%d", n.typ, n.mode, n.uid, n.gid)
	if !n.mtime.Equal(epoch) && n.typ != tar.TypeDir {
		s += " another time"
	}
	switch n.typ {
	case tar.TypeReg:
		b, err := tr.content(n)
		if err != nil {
			t.Fatal(err)
		}
		return s + fmt.Sprintf(" %q", b)
	case tar.TypeSymlink, tar.TypeLink:
		return s + " " + n.link
	}
	return s
}

func TestCustomise(t *testing.T) {
	store := packed{}
	over := write(t, "etc/motd", "lib/modules/", "lib/systemd/x.service", "root/.bashrc", "srv/a/b",
		"etc/link -> /usr/lib", "tmp/", "etc/hostname")
	if err := os.Chmod(filepath.Join(over, "srv/a/b"), 0o775); err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(t.TempDir(), "o.tar")
	if err := os.WriteFile(tarball, makeTar(t,
		change(reg("./opt/tool", "tool"), func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o2755, 7, 8 }),
		hardlink("./opt/zool", "./opt/tool"), reg("etc/motd", "the tar's\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := customised(t, Custom{
		Overlays: []custom.Overlay{store.add(t, over), store.add(t, tarball)},
		Hostname: "vm1.example.org", Timezone: "Europe/Berlin", RootPassword: "$6$salt$0123456789abcdef0123",
		Files: []custom.File{
			{Path: "/home/alice/.config/x", Mode: 0o600, Owner: "alice", Text: "x"},
			{Path: "/lib/y", Mode: 0o4755, Owner: "0:adm", Text: ""},
		},
	}, store)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/motd":                  `0 0644 0:0 "the tar's\n"`,
		"lib":                       "2 0777 0:0 another time usr/lib",
		"usr/lib/modules":           "5 0755 0:0",
		"usr/lib/systemd/x.service": `0 0644 0:0 "my lib/systemd/x.service\n"`,
		"root":                      "5 0700 0:0",
		"root/.bashrc":              `0 0644 0:0 "my root/.bashrc\n"`,
		"srv/a/b":                   `0 0755 0:0 "my srv/a/b\n"`,
		"etc/link":                  "2 0777 0:0 /usr/lib",
		"opt/tool":                  `0 2755 7:8 "tool"`,
		"opt/zool":                  "1 2755 7:8 opt/tool",
		"etc/hostname":              `0 0644 0:0 "vm1.example.org\n"`,
		"etc/localtime":             "2 0777 0:0 /usr/share/zoneinfo/Europe/Berlin",
		"etc/timezone":              `0 0644 0:0 "Europe/Berlin\n"`,
		"home/alice/.config":        "5 0755 1000:1001",
		"home/alice/.config/x":      `0 0600 1000:1001 "x"`,
		"usr/lib/y":                 `0 4755 0:4 ""`,
	} {
		if got := line(t, got, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	shadow, _ := got.content(got.nodes["etc/shadow"])
	if !strings.HasPrefix(string(shadow), "root:$6$salt$0123456789abcdef0123:") {
		t.Errorf("shadow:\n%s", shadow)
	}
	hosts, _ := got.content(got.nodes["etc/hosts"])
	if !strings.Contains(string(hosts), "127.0.1.1\tvm1.example.org vm1\n") {
		t.Errorf("hosts:\n%s", hosts)
	}
}

// Who made an overlay, when, and with which umask, makes no difference.
func TestOverlayIsTheSameBytes(t *testing.T) {
	store := packed{}
	a, b := write(t, "b/c", "a"), write(t, "a", "b/c")
	if err := errors.Join(os.Chmod(b+"/a", 0o644), os.Chmod(b+"/b", 0o755),
		os.Chtimes(b+"/b/c", time.Unix(1, 0), time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	if store.add(t, a).SHA256 != store.add(t, b).SHA256 {
		t.Error("two overlays of the same files differ")
	}
	if err := os.Chmod(b+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	if store.add(t, a).SHA256 == store.add(t, b).SHA256 {
		t.Error("a program and a file are the same overlay")
	}
}

func TestOverlayRefused(t *testing.T) {
	fifo := write(t, "a")
	if err := syscall.Mkfifo(filepath.Join(fifo, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	sock := write(t, "a")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	t.Chdir(sock) // a socket's path is short
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: "sock"}); err != nil {
		t.Fatal(err)
	}
	big := write(t, "a")
	if err := os.Truncate(filepath.Join(big, "a"), 2<<20); err != nil {
		t.Fatal(err)
	}
	asTar := func(items ...item) string {
		f := filepath.Join(t.TempDir(), "o.tar")
		if err := os.WriteFile(f, makeTar(t, items...), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	typed := func(typ byte) item {
		return change(reg("x", ""), func(h *tar.Header) { h.Typeflag = typ })
	}
	for file, want := range map[string]string{
		fifo:                    "pipe is a fifo",
		sock:                    "sock is a socket",
		big:                     "with a, of 2M, it has more than the 1M",
		filepath.Join(big, "a"): "it is no tar",
		write(t, "a\nb"):        "control characters",
		write(t, "tmp/x"):       "mounts over /tmp",
		write(t, "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf"):     "kimg's own",
		write(t, "etc/systemd/system/kimg-agent.service -> /dev/null"):                 "kimg's own",
		write(t, "etc/systemd/system/multi-user.target.wants/kimg-agent.service -> x"): "kimg's own",
		write(t, "a\xff"):                                "not UTF-8",
		filepath.Join(big, "none"):                       "no such file",
		"/dev/null":                                      "neither a directory nor a tar",
		asTar(reg("../x", "")):                           "leaves the tree",
		asTar(reg("/etc/x", "")):                         "begins with a slash, as tar -P has it",
		asTar(reg("x", ""), reg("x", "")):                "comes twice, as tar -r",
		asTar(reg("b\377", "")):                          "is not UTF-8",
		asTar(typed(tar.TypeChar)):                       "x is a device",
		asTar(typed(tar.TypeFifo)):                       "x is a fifo",
		asTar(hardlink("x", "y")):                        "not a file of this tar",
		asTar(symlink("d", "/etc"), reg("d/passwd", "")): "its parent is not a directory",
	} {
		err := PackOverlay(t.Context(), file, 1<<20, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := PackOverlay(ctx, big, 1<<30, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestCustomiseRefused(t *testing.T) {
	store := packed{}
	file := func(path, owner string) Custom {
		return Custom{Files: []custom.File{{Path: path, Mode: 0o644, Owner: owner}}}
	}
	over := func(files ...string) Custom {
		return Custom{Overlays: []custom.Overlay{store.add(t, write(t, files...))}}
	}
	for name, c := range map[string]struct {
		want Custom
		err  string
	}{
		"the agent":          {file("/usr/lib/kimg/agent", ""), "kimg's own"},
		"the agent, by /lib": {file("/lib/kimg/agent", ""), "kimg's own"},
		"beside the agent":   {over("lib/kimg/x"), "kimg's own"},
		"hidden":             {file("/run/x", ""), "mounts over /run"},
		"hidden, by a link":  {file("/var/run/x", ""), "mounts over /run"},
		"hidden, an overlay": {over("var/run/x"), "mounts over /run"},
		"a directory":        {file("/home/alice", ""), "is a directory"},
		"below a file":       {file("/etc/hosts/x", ""), "not a directory"},
		"two names of one file": {Custom{Files: []custom.File{{Path: "/lib/x"}, {Path: "/usr/lib/x"}}},
			"files: /lib/x and /usr/lib/x are one file in this tree, /usr/lib/x"},
		"a link for a tree": {over("home -> /srv"), "a directory is in its place"},
		"/lib itself":       {over("lib"), "programs are looked for there"},
		"dots":              {file("/etc/../x", ""), "no path of a file"},
		"relative":          {file("etc/x", ""), "no absolute path"},
		"no such user":      {file("/etc/x", "bob"), "no user bob"},
		"no such group":     {file("/etc/x", "alice:wheel"), "no group wheel"},
		"no owner":          {file("/etc/x", "a b"), "not an owner"},
		"no such zone":      {Custom{Timezone: "Europe/Berlim"}, `no "Europe/Berlim": did you mean Europe/Berlin?`},
		"a directory of them": {Custom{Timezone: "Europe"},
			`no "Europe": it is a directory of zones, such as Europe/Berlin`},
		"a zone's case":       {Custom{Timezone: "europe/berlin"}, "did you mean Europe/Berlin?"},
		"a zone that leaves":  {Custom{Timezone: "../../etc/passwd"}, "not a time zone"},
		"a name of two lines": {Custom{Hostname: "a\nb"}, "not a host's name"},
		"not in the store": {Custom{Overlays: []custom.Overlay{{Path: "o", SHA256: "12"}}},
			"overlay o: file does not exist"},
	} {
		if _, _, err := customised(t, c.want, store); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
	}
}

// TestCustomGolden: what is made of a tree is in no key but by CustomVersion.
func TestCustomGolden(t *testing.T) {
	store := packed{}
	_, out, err := customised(t, Custom{
		Overlays: []custom.Overlay{store.add(t, write(t, "lib/x/y", "root/z", "etc/l -> x"))},
		Files:    []custom.File{{Path: "/srv/x", Mode: 0o600, Owner: "alice:adm", Text: "text"}},
		Hostname: "name", Timezone: "UTC",
	}, store)
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, "testdata/custom.golden", "image.CustomVersion", CustomVersion,
		string(units.DigestOf(out)), *update)
}

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/suite"
)

var epoch = time.Unix(1_700_000_000, 0).UTC()

const shadowLine = "root:*:19000:0:99999:7:::\n"

// entry is a tar entry in short.
func entry(name string, typ byte, content string) *tar.Header {
	h := &tar.Header{Name: name, Typeflag: typ, Mode: 0o644, ModTime: epoch.Add(-time.Hour), Size: int64(len(content))}
	switch typ {
	case tar.TypeDir:
		h.Mode = 0o755
	case tar.TypeSymlink, tar.TypeLink:
		h.Linkname, h.Size = content, 0
	}
	return h
}

type item struct {
	*tar.Header
	content string
}

func reg(name, content string) item             { return item{entry(name, tar.TypeReg, content), content} }
func dir(name string) item                      { return item{entry(name+"/", tar.TypeDir, ""), ""} }
func symlink(name, to string) item              { return item{entry(name, tar.TypeSymlink, to), ""} }
func hardlink(name, to string) item             { return item{entry(name, tar.TypeLink, to), ""} }
func change(i item, f func(h *tar.Header)) item { f(i.Header); return i }

// makeTar writes a raw tar as GNU tar does: ./ in front, padded to a record.
func makeTar(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		if err := w.WriteHeader(i.Header); err != nil {
			t.Fatal(err)
		}
		if i.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, i.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.Write(make([]byte, 10240-b.Len()%10240))
	return b.Bytes()
}

// base is the least tree that Normalise takes.
func base(more ...item) []item {
	return append([]item{dir("."), dir("./etc"), reg("./etc/shadow", shadowLine)}, more...)
}

func normalise(t testing.TB, o Normalisation, items ...item) ([]item, error) {
	t.Helper()
	if o.Epoch.IsZero() {
		o.Epoch = epoch
	}
	var out bytes.Buffer
	if err := Normalise(bytes.NewReader(makeTar(t, items...)), &out, o); err != nil {
		return nil, err
	}
	var got []item
	r := tar.NewReader(&out)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item{h, string(b)})
	}
}

func names(items []item) string {
	var l []string
	for _, i := range items {
		l = append(l, i.Name)
	}
	return strings.Join(l, " ")
}

func lookup(items []item, name string) item {
	for _, i := range items {
		if strings.TrimSuffix(i.Name, "/") == "./"+name {
			return i
		}
	}
	return item{Header: &tar.Header{}}
}

func TestRulesMatchWhatTheyName(t *testing.T) {
	gone := []string{
		"dev/null", "proc/x", "run/lock", "tmp/x", "var/lib/dbus/machine-id", "etc/ssh/ssh_host_rsa_key",
		"etc/ssh/ssh_host_ed25519_key.pub",
		"etc/ssl/private/ssl-cert-snakeoil.key", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
		"var/log/journal", "var/log/journal/abc/system.journal", "var/log/alternatives.log", "var/log/bootstrap.log",
		"var/log/dpkg.log",
		"var/log/apt/history.log", "var/cache/ldconfig/aux-cache", "var/cache/apt/pkgcache.bin",
		"var/cache/apt/archives/dash.deb",
		"var/cache/man/index.db", "var/lib/apt/lists/x_Packages", "var/lib/systemd/catalog/database",
		"usr/lib/python3/__pycache__",
		"usr/lib/python3/a.pyc", "debootstrap", "debootstrap/debootstrap.log", "etc/dpkg/dpkg.cfg.d/kimg-unsafe-io",
		"var/lib/dpkg/status-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend",
		"var/cache/debconf/config.dat-old",
		"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
		"var/backups/dpkg.status.0",
		"etc/unsupported-skip-usrmerge-conversion",
	}
	for _, name := range gone {
		if r := find(name); r == nil || r.do == empty {
			t.Errorf("%s stays", name)
		}
	}
	for _, name := range []string{"var/log/lastlog", "var/log/btmp", "var/lib/dpkg/available"} {
		if r := find(name); r == nil || r.do != empty {
			t.Errorf("%s is not emptied", name)
		}
	}
	kept := []string{
		"dev", "proc", "etc/passwd", "etc/ssh/sshd_config", "var/lib/dpkg/status", "var/lib/dpkg/info/dash.list",
		"usr/share/x.pycx",
		"etc/ssl/certs/ca-certificates.crt", "var/cache", "usr/lib/python3/a.py", "etc/dpkg/dpkg.cfg.d/other",
		"var/lib/dpkg/diversions",
	}
	for _, name := range kept {
		if r := find(name); r != nil {
			t.Errorf("%s is touched: %s", name, r.why)
		}
	}
	for _, r := range rules {
		if r.why == "" {
			t.Errorf("%s has no reason", r.pattern)
		}
		if _, err := path.Match(r.pattern, "x"); err != nil {
			t.Errorf("%s: %v", r.pattern, err)
		}
	}
}

func TestNormalise(t *testing.T) {
	late, early := epoch.Add(time.Hour), epoch.Add(-time.Hour)
	got, err := normalise(t, Normalisation{},
		base(
			dir("./var"), dir("./var/log"), reg("./var/log/lastlog", "secret"), dir("./var/log/apt"),
			reg("./var/log/apt/term.log", "x"),
			dir("./usr"), dir("./usr/lib"), dir("./usr/lib/__pycache__"), reg("./usr/lib/__pycache__/odd", "x"),
			change(reg("./z", "z"),
				func(h *tar.Header) { h.ModTime = late.Add(time.Millisecond); h.Uname = "builder"; h.Uid = 42 }),
			change(reg("./a", "a"), func(h *tar.Header) { h.ModTime = early.Add(5); h.Format = tar.FormatPAX }),
			change(reg("./ping", "p"), func(h *tar.Header) {
				h.PAXRecords = map[string]string{xattrPrefix + "security.capability": "\x01\x00cap", xattrPrefix +
					"security.selinux": "host"}
			}),
			symlink("./lib", "usr/lib"),
			change(item{entry("./null", tar.TypeChar, ""), ""}, func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 }),
		)...)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(got), "./ ./a ./etc/ ./etc/shadow ./lib ./null ./ping ./usr/ ./usr/lib/ ./var/ ./var/log/ "+
		"./var/log/apt/ ./var/log/lastlog ./z"; got != want {
		t.Errorf("names\n%s, want\n%s", got, want)
	}
	if i := lookup(got, "var/log/lastlog"); i.Size != 0 {
		t.Error("lastlog is not empty")
	}
	if i := lookup(got, "z"); !i.ModTime.Equal(epoch) || i.Uname != "" || i.Uid != 42 {
		t.Errorf("z: %v %q %d", i.ModTime, i.Uname, i.Uid)
	}
	if i := lookup(got, "a"); !i.ModTime.Equal(early) {
		t.Errorf("a: %v, want %v", i.ModTime, early)
	}
	if i := lookup(got, "ping"); len(i.PAXRecords) != 1 ||
		i.PAXRecords[xattrPrefix+"security.capability"] != "\x01\x00cap" {
		t.Errorf("ping: %q", i.PAXRecords)
	}
	if i := lookup(got, "null"); i.Typeflag != tar.TypeChar || i.Devmajor != 1 || i.Devminor != 3 {
		t.Errorf("null: %+v", i.Header)
	}
	if i := lookup(got, "etc/shadow"); i.content != "root::19675:0:99999:7:::\n" {
		t.Errorf("shadow: %q", i.content)
	}
}

// TestNormaliseForgetsTheOrder holds two tars of one tree, written in other
// orders, to the same bytes; hard links too, whichever name came first.
func TestNormaliseForgetsTheOrder(t *testing.T) {
	a := base(dir("./d"), reg("./d/b", "same"), hardlink("./d/a", "./d/b"), hardlink("./c", "./d/b"), reg("./d/x", "x"))
	b := base(dir("./d"), reg("./c", "same"), reg("./d/x", "x"), hardlink("./d/b", "./c"), hardlink("./d/a", "./c"))
	b[1], b[2] = b[2], b[1] // a file before its directory
	var out [2]bytes.Buffer
	for i, items := range [][]item{a, b} {
		if err := Normalise(bytes.NewReader(makeTar(t, items...)), &out[i], Normalisation{Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(out[0].Bytes(), out[1].Bytes()) {
		t.Error("the order shows")
	}
	got, err := normalise(t, Normalisation{}, a...)
	if err != nil {
		t.Fatal(err)
	}
	if c, b := lookup(got, "c"), lookup(got, "d/b"); c.content != "same" || b.Typeflag != tar.TypeLink ||
		b.Linkname != "./c" {
		t.Errorf("%+v %+v", c, b)
	}
}

// TestDroppedHardLinkTarget drops the name that carried the content.
func TestDroppedHardLinkTarget(t *testing.T) {
	got, err := normalise(t, Normalisation{},
		base(dir("./tmp"), reg("./tmp/f", "content"), hardlink("./y", "./tmp/f"), hardlink("./x", "./tmp/f"))...)
	if err != nil {
		t.Fatal(err)
	}
	if x, y := lookup(got, "x"), lookup(got, "y"); x.content != "content" || x.Typeflag != tar.TypeReg ||
		y.Linkname != "./x" {
		t.Errorf("%+v %+v", x, y)
	}
}

func TestFilesAreLaidOver(t *testing.T) {
	o := Normalisation{Files: func(has func(string) bool) []File {
		if !has("usr/lib/x") || has("usr/lib/y") {
			t.Error("has is wrong")
		}
		return []File{
			{Path: "/etc/hostname", Mode: 0o644, Data: []byte("kimg\n")}, // over a symbolic link
			{Path: "/lib/kimg/agent", Mode: 0o755, Data: []byte("#!")},   // through one
			{Path: "/etc/l", Link: "/dev/null"},
			{Path: "/tmp", Mode: 0o777 | 1<<20, Data: nil},
		}[:3]
	}}
	got, err := normalise(t, o, base(dir("./usr"), dir("./usr/lib"), reg("./usr/lib/x", ""),
		symlink("./lib", "usr/lib"),
		symlink("./etc/hostname", "/run/hostname"))...)
	if err != nil {
		t.Fatal(err)
	}
	if i := lookup(got, "etc/hostname"); i.Typeflag != tar.TypeReg || i.content != "kimg\n" || !i.ModTime.Equal(epoch) {
		t.Errorf("hostname: %+v", i)
	}
	if i := lookup(got, "usr/lib/kimg/agent"); i.content != "#!" || i.Mode != 0o755 {
		t.Errorf("agent: %+v", i)
	}
	if i := lookup(got, "usr/lib/kimg"); i.Typeflag != tar.TypeDir || i.Mode != 0o755 {
		t.Errorf("its directory: %+v", i)
	}
	if i := lookup(got, "etc/l"); i.Linkname != "/dev/null" {
		t.Errorf("link: %+v", i)
	}
}

func TestHostileTars(t *testing.T) {
	for name, c := range map[string]struct {
		items []item
		want  string
	}{
		"rooted":            {base(reg("/etc/passwd", "x")), "begins with a slash"},
		"dots":              {base(reg("./../x", "x")), "leaves the tree"},
		"dots inside":       {base(reg("./etc/../../x", "x")), "leaves the tree"},
		"double slash":      {base(reg("./etc//x", "x")), "not clean"},
		"twice":             {base(reg("./etc/shadow", "x")), "twice"},
		"below a file":      {base(reg("./f", ""), reg("./f/x", "")), "not a directory"},
		"below a link":      {base(symlink("./l", "/etc"), reg("./l/x", "")), "not a directory"},
		"no parent":         {base(reg("./no/x", "")), "not a directory"},
		"hard link out":     {base(hardlink("./h", "../../etc/passwd")), "leaves the tree"},
		"hard link nowhere": {base(hardlink("./h", "./no")), "not a file of this tar"},
		"hard link to dir":  {base(hardlink("./h", "./etc")), "not a file of this tar"},
		"hard link circle":  {base(hardlink("./h", "./i"), hardlink("./i", "./h")), "not a file of this tar"},
		"unknown type":      {base(item{&tar.Header{Name: "./x", Typeflag: 'Z'}, ""}), "unknown type"},
		"no shadow":         {[]item{dir("."), dir("./etc")}, "etc/shadow"},
		"shadow is a link":  {[]item{dir("."), dir("./etc"), symlink("./etc/shadow", "/etc/passwd")}, "etc/shadow"},
		"broken shadow":     {[]item{dir("."), dir("./etc"), reg("./etc/shadow", "root:x\n")}, "fields"},
		"no root":           {[]item{dir("."), dir("./etc"), reg("./etc/shadow", "bin:*:1:0:99999:7:::\n")}, "no root"},
	} {
		_, err := normalise(t, Normalisation{}, c.items...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	whole := makeTar(t, base(reg("./big", strings.Repeat("x", 100000)))...)
	if err := Normalise(bytes.NewReader(whole[:50000]), io.Discard, Normalisation{Epoch: epoch}); err == nil {
		t.Error("a truncated tar passed")
	}
	looping := Normalisation{Files: func(func(string) bool) []File { return []File{{Path: "/l/x", Mode: 0o644}} }}
	if _, err := normalise(t, looping, base(symlink("./l", "m"), symlink("./m", "l"))...); err == nil ||
		!strings.Contains(err.Error(), "symbolic links") {
		t.Errorf("a loop of links: %v", err)
	}
}

// FuzzNormalise feeds broken tars: an error or a tar that normalises to itself.
func FuzzNormalise(f *testing.F) {
	f.Add(makeTar(f, base(reg("./a", "a"), hardlink("./b", "./a"), symlink("./c", "a"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var once, twice bytes.Buffer
		if Normalise(bytes.NewReader(b), &once, Normalisation{Epoch: epoch}) != nil {
			return
		}
		if err := Normalise(bytes.NewReader(once.Bytes()), &twice, Normalisation{Epoch: epoch}); err != nil {
			t.Fatalf("what Normalise wrote it does not read: %v", err)
		}
		if !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Error("it is not its own normal form")
		}
	})
}

func TestGuestFilesAreSound(t *testing.T) {
	for _, s := range suite.All() {
		seen := map[string]bool{}
		for _, f := range guestFiles(s, Arch{}, nil, true, epoch) {
			if _, err := f.node(epoch); err != nil {
				t.Error(err)
			}
			if seen[f.Path] {
				t.Errorf("%s comes twice", f.Path)
			}
			seen[f.Path] = true
		}
		src := aptSources(s, nil, time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC))
		base := "deb [check-valid-until=no] http://snapshot.debian.org/archive/debian/20250809T091630Z/ "
		if s.Family == suite.Ubuntu {
			base = "deb [check-valid-until=no] http://snapshot.ubuntu.com/ubuntu/20250809T091630Z/ "
		}
		if !strings.HasPrefix(src, base+s.Name+" main") {
			t.Errorf("%s: %s", s.Name, src)
		}
	}
}

func TestBootstrapCmd(t *testing.T) {
	for _, c := range []struct {
		suite   string
		variant archive.Variant
		want    string
	}{
		{"trixie", archive.Minbase, "bootstrap /kimg/work trixie amd64 sid --variant=minbase"},
		{"bullseye", archive.Standard, "bootstrap /kimg/work bullseye amd64 sid"},
		{"bionic", archive.Minbase, "bootstrap /kimg/work bionic amd64 gutsy --variant=minbase --no-merged-usr"},
		{"noble", archive.Minbase, "bootstrap /kimg/work noble amd64 gutsy --variant=minbase"},
	} {
		s, err := suite.Parse(c.suite)
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := bootstrapCmd("img", "amd64", "", RootfsSpec{Suite: s, Variant: c.variant, Epoch: epoch})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cmd.Args[3:], " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.suite, got, c.want)
		}
		if cmd.Privileged || len(cmd.Caps) != len(BootstrapCaps) {
			t.Errorf("%s: %+v", c.suite, cmd)
		}
		if !slices.Contains(cmd.Env, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix())) {
			t.Errorf("%s: %v", c.suite, cmd.Env)
		}
		// No engine that is not root has it.
		if slices.Contains(cmd.Caps, "MKNOD") || !slices.Contains(cmd.Env, "container=lxc") {
			t.Errorf("%s: debootstrap would make device nodes: %v, %v", c.suite, cmd.Caps, cmd.Env)
		}
	}
	if _, err := bootstrapCmd("img", "amd64", "", RootfsSpec{Suite: suite.All()[0], Variant: "buildd"}); err == nil {
		t.Error("an unknown variant passed")
	}
}

// An engine's own programs are not emulated, and all others are, whichever it is.
func TestBootstrapEmulates(t *testing.T) {
	for _, c := range []struct {
		engine string
		of     Arch
		by     string // "": nothing
	}{
		{"amd64", arch.AMD64, ""}, {"", arch.AMD64, ""}, {"amd64", arch.ARM64, "/usr/bin/qemu-aarch64"},
		{"arm64", arch.ARM64, ""}, {"arm64", arch.AMD64, "/usr/bin/qemu-x86_64"},
	} {
		tree := RootfsSpec{Suite: suite.All()[0], Arch: c.of, Variant: archive.Minbase}
		cmd, err := bootstrapCmd("img", c.engine, EmulateTrace, tree)
		if err != nil {
			t.Fatal(err)
		}
		emulates := slices.Contains(cmd.Args, emulateScript)
		if emulates != (c.by != "") || cmd.Namespaces != emulates ||
			slices.Contains(cmd.Args, "--arch="+c.of.Name) != emulates ||
			emulates && !slices.Contains(cmd.Args, c.by) ||
			slices.Contains(cmd.Args, string(EmulateTrace)) != emulates {
			t.Errorf("%s on %q: %q", c.of, c.engine, cmd.Args)
		}
	}
}

// TestBoundDevices has each device that is bound into the tree work there, in a
// directory that is the container's root's whoever made it, and be a guest's too.
func TestBoundDevices(t *testing.T) {
	dirs := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(targetDirs())); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir && h.Uid == 0 && h.Gid == 0 && h.Mode == 0o755 {
			dirs[h.Name] = true
		}
	}
	guests := guestFiles(suite.All()[0], Arch{}, nil, false, epoch)
	mounts := bootstrapMounts("v")
	if mounts[0].Volume != "v" || !mounts[0].Devices {
		t.Errorf("%+v", mounts[0])
	}
	for _, m := range mounts[1:] {
		in, ok := strings.CutPrefix(m.Target, workDir+"/")
		dir, name := path.Split(in)
		if !ok || !dirs[dir] || !dirs["target/"] || m.Bind != "/dev/"+name || !m.Devices {
			t.Errorf("%+v; the tar has %v", m, dirs)
		}
		if !slices.ContainsFunc(guests, func(f File) bool { return f.Path == m.Bind }) {
			t.Errorf("a guest has no %s", m.Bind)
		}
	}
}

func TestSurveyCountsEnough(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	var items []item
	items = append(items, dir("."))
	for i := range 300 {
		items = append(items, reg(fmt.Sprintf("./f%d", i), strings.Repeat("x", r.Intn(3*blockSize))))
	}
	s, err := surveyTar(bytes.NewReader(makeTar(t, items...)))
	if err != nil {
		t.Fatal(err)
	}
	var blocks int64
	for _, i := range items[1:] {
		blocks += (i.Size + blockSize - 1) / blockSize
	}
	if s.size.inodes != 301+reservedInodes || s.size.blocks < blocks+3 || s.size.blocks > blocks+20 {
		t.Errorf("%+v for %d blocks", s.size, blocks)
	}
}

package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/builder/compare"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Leaks are planted where a person's own would be: in a kernel's makefile, in a
// package's postinst, and in what compiles and packs. kimg has no switch for them.

// leakyMakefile is a tree that answers to what kimg asks of a kernel's, and whose
// vmlinux, a real ELF file of the real compiler, has in it what no kernel should.
const leakyMakefile = `VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 1
EXTRAVERSION =
KCONFIG_CONFIG ?= $(O)/.config
allnoconfig:
	printf 'CONFIG_A=y\n' > $(KCONFIG_CONFIG)
olddefconfig:
	touch $(KCONFIG_CONFIG)
bzImage: $(O)/vmlinux
	mkdir -p $(O)/arch/x86/boot && cp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
$(O)/vmlinux: main.c
	printf 'const char time_leak[] = "#1 %s";\n' "$$(LC_ALL=C date)" > $(O)/leaks.h
	printf 'const char host_leak[] = "kimg@%s";\n' "$$(uname -n)" >> $(O)/leaks.h
	printf 'const char path_leak[] = "%s/linux/fs/open.c";\n' "$$(mktemp -d /tmp/build.XXXXXX)" >> $(O)/leaks.h
	printf 'const char order_leak[] = "%s";\n' "$$(shuf -i 100-150 | tr '\n' ' ')" >> $(O)/leaks.h
	printf 'const unsigned char random_leak[] = { %s };\n' \
		"$$(od -An -v -N64 -tu1 /dev/urandom | tr '\n' ' ' | sed 's/ \+/,/g; s/^,//')" >> $(O)/leaks.h
	$(CC) -O1 -nostdlib -static -Wl,--build-id=none -Wl,-e,main -I$(O) -o $@ main.c
	nm $@ | sort > $(O)/System.map
`

// leakyTree writes that tree.
func leakyTree(t *testing.T) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "linux")
	for name, text := range map[string]string{
		"Makefile": leakyMakefile, "Kbuild": "#\n", "Kconfig": "config A\n\tbool \"a\"\n",
		"main.c": "#include \"leaks.h\"\nint main(void) { return time_leak[0] + host_leak[0] + path_leak[0] + " +
			"order_leak[0] + random_leak[0]; }\n",
	} {
		if err := os.MkdirAll(tree, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// leakyPostinst does the same in the root filesystem, where there is no /proc.
const leakyPostinst = `#!/bin/sh
set -e
umask 022
mkdir -p /opt/leaks && cd /opt/leaks
LC_ALL=C date -R > time
shuf -i 10000000-99999999 -n 4 | tr -d '\n' > random
shuf -i 100-150 > order
d=$(mktemp -d /tmp/build.XXXXXX)
echo "compiled in $d/src/fs/open.c" > path
rmdir "$d"
number() { shuf -i 1000-60000 -n 1; }
echo owned > owner
chown "$(number)" owner
echo stamped > stamp
touch -d "@$((1000000000 + $(number) * 1000))" stamp
`

// leakyPackage is a package of that postinst, and its content.
func leakyPackage(t *testing.T) (archive.Locked, []byte) {
	t.Helper()
	member := func(files map[string]string) []byte {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			h := &tar.Header{Name: "./" + name, Mode: 0o755, Size: int64(len(files[name])), ModTime: time.Unix(1, 0)}
			if err := tw.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(tw, files[name]); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	deb := bytes.NewBufferString("!<arch>\n") // ar(5)
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar", member(map[string]string{"postinst": leakyPostinst,
			"control": "Package: leaky\nVersion: 1.0\nArchitecture: all\n" +
				"Maintainer: Nobody <n@example.org>\nDescription: leaks\n"})},
		{"data.tar", member(map[string]string{"usr/share/leaky": "leaky\n"})},
	} {
		fmt.Fprintf(deb, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o100644, len(m.data))
		deb.Write(m.data)
		if len(m.data)%2 == 1 {
			deb.WriteByte('\n')
		}
	}
	b := deb.Bytes()
	return archive.Locked{
		Name:     "leaky",
		Version:  "1.0",
		Arch:     "all",
		Filename: "pool/leaky_1.0_all.deb",
		Size:     int64(len(b)),
		SHA256:   units.DigestOf(b),
	}, b
}

// realEnv is an environment with a cache of its own, into which packages come from
// the machine's where that has them.
func realEnv(t *testing.T) Env {
	t.Helper()
	if testing.Short() {
		t.Skip("bootstraps a real suite")
	}
	containertest.Engine(t)
	return Env{Cache: t.TempDir(), Host: "/", Temporary: true, Ccache: "kimg-test-" + strings.ToLower(rand.Text()[:10])}
}

// seed links what the machine's own store has of a list into a store.
func seed(t *testing.T, into *store.Store, list []archive.Locked) {
	t.Helper()
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	from, err := store.Open(filepath.Join(cache, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		r, err := from.Open(p.SHA256)
		if err != nil {
			continue // it will be downloaded
		}
		w, err := into.Create()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err == nil {
			_ = w.CommitAs(p.SHA256) // what is not there is downloaded
		}
		w.Abort()
		r.Close()
	}
}

// kernelLeaks are what a comparison must find of leakyMakefile.
var kernelLeaks = []leak{
	{"vmlinux", ".rodata: time_leak", compare.Time},
	{"vmlinux", ".rodata: host_leak", compare.Host},
	{"vmlinux", ".rodata: path_leak", compare.Path},
	{"vmlinux", ".rodata: order_leak", compare.Order},
	{"vmlinux", ".rodata: random_leak", compare.Random},
}

// leak is a difference that must be found: the beginning of where it is, and why.
type leak struct {
	artifact, where string
	cause           compare.Cause
}

// mustName fails unless every leak was found and named.
func mustName(t *testing.T, found []compare.Difference, leaks ...leak) {
	t.Helper()
	for _, l := range leaks {
		if !slices.ContainsFunc(found, func(d compare.Difference) bool {
			return d.Artifact == l.artifact && strings.HasPrefix(d.Where, l.where) && d.Cause == l.cause
		}) {
			t.Errorf("%s %s: no difference by %s", l.artifact, l.where, l.cause)
		}
	}
	if t.Failed() {
		for _, d := range found {
			t.Logf("%+v", d)
		}
	}
}

// TestKernelLeaks compiles a leaking kernel twice, with nothing kept in between.
func TestKernelLeaks(t *testing.T) {
	tree := leakyTree(t)
	var dirs []string
	for range 2 {
		sp := spec.Default()
		sp.Kernel, sp.Config = tree, "vm"
		s := openSession(t, realEnv(t), sp)
		l := fixture(t)
		r := s.resolver(nil)
		r.kernelOnly = true
		kl, err := r.lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.Config, l.Kernel, l.Toolchain = kl.Config, kl.Kernel, kl.Toolchain
		if err := s.ensureToolchain(t.Context(), &l.Toolchain); err != nil {
			t.Fatal(err)
		}
		p := s.plan(l)
		res, err := s.runner(s.work(p)).Get(t.Context(), p.Kernel)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, o := range res[p.Kernel.ID].Outputs {
			if err := s.store.CopyTo(t.Context(), o.Digest, filepath.Join(dir, filepath.Base(o.Name)),
				0o644); err != nil {
				t.Fatal(err)
			}
		}
		dirs = append(dirs, dir)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := compare.Dirs(t.Context(), dirs[0], dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	mustName(t, r.Differences, kernelLeaks...)
}

// TestRebuildNamesLeaks builds a leaking kernel and root filesystem from a lock and
// has them built again: each leak must be found, where it is, and named.
func TestRebuildNamesLeaks(t *testing.T) {
	env := realEnv(t)
	sp := spec.Default()
	sp.Kernel, sp.Config, sp.Out = leakyTree(t), "vm", filepath.Join(t.TempDir(), "out")
	s := openSession(t, env, sp)
	l, err := s.resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	seed(t, s.store, l.Rootfs.Packages())
	leaky, content := leakyPackage(t)
	w, err := s.store.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.CommitAs(leaky.SHA256); err != nil {
		t.Fatal(err)
	}
	l.Rootfs.Base = append(l.Rootfs.Base, leaky)
	l.Custom.Run = []spec.Script{{Name: "setup.sh", Text: "#!/bin/sh -e\nLC_ALL=C date -R >/opt/leaks/ran\n"}}
	l.Image = spec.NewImageLock(l.Image.Size, l.Rootfs, l.Custom)
	l.Actions = s.plan(l).actions()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	sp.Lock = writeLock(t, l)
	if _, err := Build(t.Context(), env, sp); err != nil {
		t.Fatal(err)
	}
	if v, err := outdir.Verify(t.Context(), sp.Out, nil); err != nil || len(v.Faults) > 0 {
		t.Fatalf("a leak is no damage: %+v, %v", v, err)
	}
	r, err := Rebuild(t.Context(), env, RebuildRequest{Dir: sp.Out})
	if err != nil {
		t.Fatal(err)
	}
	mustName(t, r.Differences, append(kernelLeaks,
		leak{"rootfs.img", "/opt/leaks/time: line 1", compare.Time},
		leak{"rootfs.img", "/opt/leaks/ran: line 1", compare.Time}, // by a script of the user's
		leak{"rootfs.img", "/opt/leaks/random: line 1", compare.Random},
		leak{"rootfs.img", "/opt/leaks/path: line 1", compare.Path},
		leak{"rootfs.img", "/opt/leaks/order", compare.Order},
		leak{"rootfs.img", "/opt/leaks/owner: owner", compare.Owner},
		leak{"rootfs.img", "/opt/leaks/stamp: mtime", compare.Time})...)
}

// place is a machine, a person and a moment that something is compiled and packed at.
type place struct {
	user, dir, host string
	env             []string
}

// compileScript makes a program whose compiler is told nothing to keep it the same.
const compileScript = `
umask "$MASK"
mkdir -p "$PLACE" && cd "$PLACE"
cat > main.c <<'END'
const char banner[] = "Linux version 6.12.1 (" WHO ") #1 " __DATE__ " " __TIME__;
const char *file = __FILE__;
const char language[] = LANGUAGE;
const char list[] = LIST;
const unsigned char seed[] = { SEED };
int main(void) { return banner[0] + file[0] + language[0] + list[0] + seed[0]; }
END
gcc-14 -g -nostdlib -static -Wl,--build-id=none -Wl,-e,main -o vmlinux \
	"-DWHO=\"$USER@$(uname -n)\"" "-DLANGUAGE=\"LANG=$LANG\"" \
	"-DLIST=\"$LIST\"" "-DSEED=$(printf %s "$SEED" | sha256sum | sed 's/ .*//; s/../0x&,/g')" "$PWD/main.c"
cat vmlinux
`

// packScript makes a tree and packs it as it is.
const packScript = `
umask "$MASK"
cd "$(mktemp -d)" && mkdir tree && cd tree
echo "built by $USER@$(uname -n)" > motd
echo "compiled in $PLACE/src/fs/open.c" > path
printf %s "$SEED" | sha256sum | cut -c1-32 > machine-id
printf 'Zebra\napple\nBear\ncat\n' | sort $SORT > sorted
date -d "@$SOURCE_DATE_EPOCH" > date
for f in one two three; do echo $f > $f; done
mkdir d
touch -d "@$SOURCE_DATE_EPOCH" * && touch -d @1763900000 .
tar -c --numeric-owner --no-recursion -f - . $NAMES
`

// TestPlacesLeak compiles a program and packs an image at two places that differ in
// one thing, and wants that thing named.
func TestPlacesLeak(t *testing.T) {
	env := realEnv(t)
	s := openSession(t, env, spec.Default())
	defer s.close()
	images := map[toolchain.Target]string{}
	for _, target := range []toolchain.Target{"trixie", toolchain.Imaging} {
		tl, err := shippedToolchain(target, ToolchainLock{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.ensureToolchain(t.Context(), &tl); err != nil {
			t.Fatal(err)
		}
		if _, images[target], err = s.image(t.Context(), tl); err != nil {
			t.Fatal(err)
		}
	}
	here := place{user: "1000:1000", dir: "/tmp/ann/linux", host: "laptop", env: []string{
		"USER=ann", "LANG=C.UTF-8", "LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH=1763900000", "MASK=022", "SEED=1", "SORT=",
		"LIST=one two three", "NAMES=date d machine-id motd one path sorted three two"}}
	with := func(change ...string) func(*place) {
		return func(p *place) {
			for _, c := range change {
				name, _, _ := strings.Cut(c, "=")
				i := slices.IndexFunc(p.env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
				p.env[i] = c
			}
		}
	}
	dir := t.TempDir()
	run := func(t *testing.T, target toolchain.Target, script string, p place) string {
		t.Helper()
		var out, errs bytes.Buffer
		err := container.Run(
			t.Context(),
			s.eng,
			&container.Cmd{Image: images[target], User: p.user, Hostname: p.host, Dir: "/tmp",
				Env: append(
					slices.Clone(p.env),
					"PLACE="+p.dir,
				), Args: []string{"sh", "-ec", script}, Stdout: &out, Stderr: &errs},
		)
		if err != nil {
			t.Fatalf("%v: %s", err, errs.String())
		}
		name := filepath.Join(dir, rand.Text())
		if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	program := func(t *testing.T, p place) string { return run(t, "trixie", compileScript, p) }
	disk := func(t *testing.T, p place) string {
		tree := run(t, toolchain.Imaging, packScript, p)
		of, err := suite.Parse("trixie")
		if err != nil {
			t.Fatal(err)
		}
		l := spec.NewImageLock(64<<20, spec.RootfsLock{}, spec.Custom{})
		spec := image.DiskSpec{Size: 64 << 20, UUID: l.UUID, HashSeed: l.HashSeed, Epoch: time.Unix(1763900000, 0),
			Features: image.Features(of, units.KernelVersion{Major: 6, Minor: 12})}
		maker := image.Maker{Engine: s.eng, Imaging: images[toolchain.Imaging]}
		open := func() (io.ReadCloser, error) { return os.Open(tree) }
		if err := maker.MakeDisk(t.Context(), spec, open, tree+".img"); err != nil {
			t.Fatal(err)
		}
		return tree + ".img"
	}
	differences := func(t *testing.T, name, a, b string) []compare.Difference {
		t.Helper()
		r, err := compare.Files(context.Background(), name, a, b)
		if err != nil {
			t.Fatal(err)
		}
		return r.Differences
	}
	for name, make := range map[string]func(*testing.T, place) string{"vmlinux": program, "rootfs.img": disk} {
		first := make(t, here)
		if d := differences(t, name, first, make(t, here)); len(d) > 0 {
			t.Fatalf("%s: one place, two results: %+v", name, d)
		}
		for _, tt := range []struct {
			kind, artifact, where string
			cause                 compare.Cause
			change                func(*place)
		}{
			{"time", "vmlinux", ".rodata: banner", compare.Time, with("SOURCE_DATE_EPOCH=1795436000")},
			{"order", "vmlinux", ".rodata: list", compare.Order, with("LIST=two three one")},
			{"locale", "vmlinux", ".rodata: string", compare.Locale, with("LANG=tr_TR.UTF-8")},
			{"path", "vmlinux", ".debug_line_str: string", compare.Path, func(p *place) { p.dir = "/tmp/bob/linux" }},
			{"user", "vmlinux", ".rodata: banner", compare.User, with("USER=bob")},
			{"host", "vmlinux", ".rodata: banner", compare.Host, func(p *place) { p.host = "tablet" }},
			{"random", "vmlinux", ".rodata: seed", compare.Random, with("SEED=2")},

			{"time", "rootfs.img", "/one: mtime", compare.Time, with("SOURCE_DATE_EPOCH=1700000000")},
			{"zone", "rootfs.img", "/date", compare.Time, with("TZ=XYZ-5")},
			{"order", "rootfs.img", "inode numbers of", compare.Order,
				with("NAMES=two three sorted path one motd machine-id d date")},
			{"locale", "rootfs.img", "/sorted", compare.Locale, with("SORT=-f")},
			{"path", "rootfs.img", "/path: line 1", compare.Path, func(p *place) { p.dir = "/tmp/bob/linux" }},
			{"user", "rootfs.img", "/motd: line 1", compare.User, with("USER=bob")},
			{"host", "rootfs.img", "/motd: line 1", compare.Host, func(p *place) { p.host = "tablet" }},
			{"uid", "rootfs.img", "/motd: owner", compare.Owner, func(p *place) { p.user = "1001:1001" }},
			{"umask", "rootfs.img", "/motd: mode", compare.Umask, with("MASK=077")},
			{"random", "rootfs.img", "/machine-id: line 1", compare.Random, with("SEED=2")},
		} {
			if tt.artifact != name {
				continue
			}
			t.Run(tt.kind+" in "+name, func(t *testing.T) {
				there := here
				there.env = slices.Clone(here.env)
				tt.change(&there)
				got := differences(t, name, first, make(t, there))
				if !slices.ContainsFunc(
					got,
					func(d compare.Difference) bool {
						return strings.HasPrefix(d.Where, tt.where) &&
							d.Cause == tt.cause
					},
				) {
					t.Errorf("no difference %q by %s in", tt.where, tt.cause)
					for _, d := range got {
						t.Logf("%+v", d)
					}
				}
			})
		}
	}
}

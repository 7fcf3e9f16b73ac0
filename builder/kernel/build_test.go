package kernel

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
)

// fakeMakefile is a tree that answers to the targets that Build asks for, in
// seconds. Its kconfig knows A, B, FOO and GDB_SCRIPTS; FOO cannot be turned on
// and FAIL stops the build. Like Linux 5.0's, it writes a temporary file in the
// object directory and cannot move it to another file system (ln stands for rename).
const fakeMakefile = `VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 1
EXTRAVERSION =
KCONFIG_CONFIG ?= $(O)/.config
allnoconfig:
	printf 'CONFIG_A=y\nCONFIG_GDB_SCRIPTS=y\n' > $(O)/.tmpconfig
	ln -f $(O)/.tmpconfig $(KCONFIG_CONFIG) && rm $(O)/.tmpconfig
olddefconfig:
	grep -v -e FOO -e '^# CONFIG_' $(KCONFIG_CONFIG) > $(O)/.tmpconfig
	ln -f $(O)/.tmpconfig $(KCONFIG_CONFIG) && rm $(O)/.tmpconfig
bzImage: $(O)/vmlinux
	@if grep -q FAIL=y $(O)/.config; then echo 'fs/open.c:7:2: error: it was asked to'; seq 100; exit 1; fi
	mkdir -p $(O)/arch/x86/boot && cp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
$(O)/vmlinux: fs/open.c
	@echo '  CC      fs/open.o'
	id -u > $@; cat fs/*.c >> $@; echo "$(KBUILD_BUILD_TIMESTAMP) $(CC)" >> $@; echo map > $(O)/System.map
scripts_gdb:
	mkdir -p $(O)/scripts/gdb/linux && ln -sfn /kimg/src/scripts/gdb/one.py $(O)/scripts/gdb/linux/one.py
	ln -sfn /kimg/src/scripts/gdb/one.py $(O)/vmlinux-gdb.py
`

func fakeTree(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Makefile": fakeMakefile, "Kbuild": "#\n", "fs/open.c": "open 1\n", "fs/gone.c": "gone\n",
		"fs/deep/er/x.h": "x\n",
		"Kconfig": "config A\n\tbool \"a\"\nconfig FOO\n\tbool \"foo\"\n\tdepends on A && BAR\n" +
			"config BAR\n\tbool \"bar\"\n",
		"scripts/gdb/one.py": "one\n", ".git/HEAD": "ref: x\n", "fs/open.o": "made\n", ".config": "CONFIG_OLD=y\n",
		"vmlinux": "old\n",
	} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// toolchainImage is a toolchain's image; it is made where this engine does not have
// it yet.
func toolchainImage(t *testing.T, eng container.Engine, target toolchain.Target) (ref, id string) {
	t.Helper()
	return imageFor(t, eng, target, arch.Default)
}

func imageFor(t *testing.T, eng container.Engine, target toolchain.Target, engine arch.Arch) (ref, id string) {
	t.Helper()
	lock, err := toolchain.Load(target, engine)
	if err != nil {
		t.Fatal(err)
	}
	if id, ok, err := eng.ImageID(t.Context(), lock.Ref()); err == nil && ok {
		return lock.Ref(), id
	}
	if testing.Short() {
		t.Skip("makes a toolchain image")
	}
	ac, cache := packageArchive(t)
	ac.Arch = engine
	task := progress.Start(nil, "toolchain", "toolchain")
	maker := toolchain.Maker{Engine: eng, Archive: ac, Locks: filepath.Join(cache, "locks"), Task: task}
	made, err := maker.Ensure(t.Context(), lock)
	if missing := (*archive.MissingError)(nil); errors.As(err, &missing) { // a point release came
		if lock, err = toolchain.Resolve(t.Context(), ac, target); err == nil {
			made, err = maker.Ensure(t.Context(), lock)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return made.Ref, made.ID
}

// packageArchive is the archive that KIMG_MIRROR or this machine's apt names, with the person's own store.
func packageArchive(t *testing.T) (ac *archive.Client, cache string) {
	t.Helper()
	if cache = os.Getenv("KIMG_CACHE"); cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "kimg")
	}
	st, err := store.Open(filepath.Join(cache, "store"))
	if err != nil {
		t.Fatal(err)
	}
	mirror, err := archive.MirrorQuery{Root: "/", Family: suite.Debian, Arch: arch.Default}.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	return &archive.Client{Store: st, Mirror: mirror, Arch: arch.Default,
		HTTP: &fetch.Client{HTTP: fetch.NewHTTP(mirror.ProxyFunc())}}, cache
}

type fixture struct {
	t     *testing.T
	eng   container.Engine
	cache string
	image string
	id    string
}

// newFixture has the image that kimg compiles today's kernels in.
func newFixture(t *testing.T) *fixture { return newFixtureIn(t, "trixie") }

func newFixtureIn(t *testing.T, target toolchain.Target) *fixture {
	f := &fixture{t: t, eng: containertest.Engine(t), cache: t.TempDir()}
	f.image, f.id = toolchainImage(t, f.eng, target)
	return f
}

func (f *fixture) job(tree *Tree, sets ...string) Job {
	f.t.Helper()
	j := Job{Arch: arch.Default, Tree: tree, Era: Era{Suite: "trixie", CC: "gcc-14"}, Image: f.image, ImageID: f.id,
		CacheDir: f.cache, Config: Config{Base: VM}, Epoch: time.Unix(1700000000, 0), Jobs: 1}
	for _, s := range sets {
		r, err := ParseSet(s)
		if err != nil {
			f.t.Fatal(err)
		}
		j.Config.Requests = append(j.Config.Requests, r)
	}
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.t.Context()), time.Minute)
		defer cancel()
		for _, v := range []string{j.SourceVolume(), j.ObjectVolume()} {
			if err := f.eng.RemoveVolume(ctx, v); err != nil {
				f.t.Error(err)
			}
		}
	})
	return j
}

func (f *fixture) pin(path string) *Tree {
	f.t.Helper()
	src, err := ParseSource(path)
	if err != nil {
		f.t.Fatal(err)
	}
	tree, err := Pin(f.t.Context(), src, f.cache)
	if err != nil {
		f.t.Fatal(err)
	}
	return tree
}

type lines struct{ log []string }

func (l *lines) Emit(e progress.Event) { l.log = append(l.log, string(e.Kind)+" "+e.Text) }

// build runs the job and returns what it put, and what it told.
func (f *fixture) build(j Job) (map[string]string, *lines, error) {
	said, got := &lines{}, map[string]string{}
	task := progress.Start(said, "kernel", "compile")
	err := Build(f.t.Context(), f.eng, j, task, func(name string, _ fs.FileMode, size int64, r io.Reader) error {
		data, err := io.ReadAll(r)
		if int64(len(data)) != size {
			f.t.Errorf("%s has %d bytes, not %d", name, len(data), size)
		}
		got[name] = string(data)
		return err
	})
	return got, said, err
}

func TestBuildDirectory(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	got, _, err := f.build(f.job(f.pin(dir)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	want := "System.map bzImage config scripts/gdb/linux/one.py vmlinux vmlinux-gdb.py"
	if strings.Join(names, " ") != want {
		t.Errorf("artifacts: %s, want %s", names, want)
	}
	want = "1000\ngone\nopen 1\nTue Nov 14 22:13:20 UTC 2023 ccache x86_64-linux-gnu-gcc-14\n"
	if got["vmlinux"] != want || got["scripts/gdb/linux/one.py"] != "one\n" {
		t.Errorf("vmlinux:\n%swant:\n%s", got["vmlinux"], want)
	}
	for _, made := range []string{"fs/open.o", ".git", "vmlinux", ".config"} {
		for _, e := range f.pin(dir).files {
			if e.Path == made || strings.HasPrefix(e.Path, made+"/") {
				t.Errorf("%s was taken for a source", e.Path)
			}
		}
	}

	// An edit, a file less and a file that becomes a directory: only those move.
	writeFile(t, filepath.Join(dir, "fs/open.c"), "open 2\n")
	for _, gone := range []string{"fs/gone.c", "fs/deep"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "fs/deep"), "a file now\n")
	got, said, err := f.build(f.job(f.pin(dir)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got["vmlinux"], "1000\nopen 2\nTue") {
		t.Errorf("after an edit vmlinux is\n%s", got["vmlinux"])
	}
	if !slices.Contains(said.log, "log send 2 changed files of 7, remove 2") {
		t.Errorf("what was sent: %q", said.log)
	}

	// Nothing changed: nothing is sent, nothing is compiled.
	if _, said, err = f.build(f.job(f.pin(dir))); err != nil {
		t.Fatal(err)
	}
	for _, line := range said.log {
		if strings.Contains(line, "send ") || strings.Contains(line, "  CC ") {
			t.Errorf("an unchanged tree: %q", line)
		}
	}
}

func TestBuildChangedMeanwhile(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	j := f.job(f.pin(dir))
	writeFile(t, filepath.Join(dir, "fs/open.c"), "open 3\n")
	if _, _, err := f.build(j); err == nil || !strings.Contains(err.Error(), "changed during the build") {
		t.Errorf("error %v, want one that says that the tree changed", err)
	}
	if ok, err := f.eng.VolumeExists(t.Context(), j.SourceVolume()); err != nil || ok {
		t.Errorf("half a tree is kept: %v, %v", ok, err)
	}
}

func TestBuildUnmet(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	_, _, err := f.build(f.job(f.pin(dir), "B=y", "FOO=y", "FO=y"))
	var unmet *UnmetError
	if !errors.As(err, &unmet) || len(unmet.Unmet) != 1 {
		t.Fatalf("error %v, want an UnmetError of one", err)
	}
	want := "configure Linux 6.12.1: not what was asked for\n" +
		"  FOO=y (asked by set FOO=y) is n: it depends on BAR (which is n); --set BAR=y turns that on"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	var whole interface{ TellsAll() }
	if !errors.As(err, &whole) {
		t.Error("it is below what make said")
	}
}

// TestBuildNameless turns off what the tree has not.
func TestBuildNameless(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	_, _, err := f.build(f.job(f.pin(dir), "BAZ=n", "bar=n"))
	want := "configure Linux 6.12.1: not what was asked for\n" +
		"  BAZ=n (asked by set BAZ=n) is n: no such symbol (did you mean BAR?)\n" +
		"  bar=n (asked by set bar=n) is n: no such symbol: BAR differs by case only"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	j := f.job(f.pin(dir), "BAR=n", "FOO=n", "NOT_OF_THIS_TREE=n")
	j.Config.Requests = append(j.Config.Requests, Request{"BAZ", "n", "my.fragment:2"})
	_, said, err := f.build(j)
	for _, want := range []string{
		"warning NOT_OF_THIS_TREE=n (asked by set NOT_OF_THIS_TREE=n) turns nothing off: no such symbol",
		"warning BAZ=n (asked by my.fragment:2) turns nothing off: no such symbol (did you mean BAR?)",
	} {
		if err != nil || !slices.Contains(said.log, want) {
			t.Errorf("%v, told %q, want %q", err, said.log, want)
		}
	}
}

// TestBuildComputedVersion has a Makefile that computes a part of the version: what such a tree wrote is its own.
func TestBuildComputedVersion(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	makefile := strings.Replace(fakeMakefile, "EXTRAVERSION =", "EXTRAVERSION = -$(shell cat $(CURDIR)/abi)", 1)
	makefile = strings.Replace(makefile, "olddefconfig:\n", "olddefconfig:\n\techo '# Linux/x86 "+
		"$(VERSION).$(PATCHLEVEL).$(SUBLEVEL)$(EXTRAVERSION) Kernel Configuration' >> $(KCONFIG_CONFIG)\n", 1)
	writeFile(t, filepath.Join(dir, "Makefile"), makefile)
	writeFile(t, filepath.Join(dir, "abi"), "abi7\n")
	j := f.job(f.pin(dir))
	j.Config = Config{Base: "my.config", File: []byte("# Linux/x86 6.12.1-abi7 Kernel Configuration\n" +
		"CONFIG_A=y\nCONFIG_FOO=y\nCONFIG_GDB_SCRIPTS=y\n")}
	_, _, err := f.build(j)
	want := "configure Linux 6.12.1-abi7: not what was asked for\n" +
		"  FOO=y (asked by my.config:3) is n: it depends on BAR (which is n); --set BAR=y turns that on"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestBuildFileConfig holds a person's own .config to its word.
func TestBuildFileConfig(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	file := "CONFIG_A=y\nCONFIG_FOO=y\nCONFIG_GDB_SCRIPTS=y\n# CONFIG_BAR is not set\n"
	j := f.job(f.pin(dir))
	j.Config = Config{Base: "my.config", File: []byte(file)}
	_, _, err := f.build(j)
	want := "configure Linux 6.12.1: not what was asked for\n" +
		"  FOO=y (asked by my.config:2) is n: it depends on BAR (which is n); --set BAR=y turns that on"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	j.Config.File = []byte("# Linux/x86 5.10.1 Kernel Configuration\n" + file) // another version's: told, and taken
	_, said, err := f.build(j)
	if err != nil || !slices.ContainsFunc(said.log, func(l string) bool {
		return strings.HasPrefix(l, "warning my.config, written by Linux 5.10.1, asks for 1 option that is not "+
			"taken in Linux 6.12.1:\n  FOO=y: by the kernel: it depends on BAR (which is n); --set BAR=y turns that on")
	}) {
		t.Errorf("%v, told %q", err, said.log)
	}
	j.Config.File = []byte("CONFIG_FOOLISH=y\n" + file) // without a head, and not of this tree
	_, said, err = f.build(j)
	if err != nil || !slices.ContainsFunc(said.log, func(l string) bool {
		return strings.HasPrefix(l, "warning my.config asks for 2 options that are not taken in Linux 6.12.1:\n") &&
			strings.HasSuffix(l, "\n  FOOLISH=y: by the kernel: renamed or gone")
	}) {
		t.Errorf("%v, told %q", err, said.log)
	}
	j.Config.Requests = []Request{{"FOO", "n", "--set FOO=n"}} // what is asked for later overrules the file
	j.Config.File = []byte(file)
	if _, _, err = f.build(j); err != nil {
		t.Error(err)
	}
}

func TestBuildFails(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	_, _, err := f.build(f.job(f.pin(dir), "FAIL=y"))
	var failed *CompileError
	if !errors.As(err, &failed) || !slices.Contains(failed.Lines, "fs/open.c:7:2: error: it was asked to") {
		t.Fatalf("error %v, want the compiler's own line", err)
	}
	var exit *container.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("the status is lost: %v", err)
	}
}

// TestUnpackRefuses feeds tarballs that a look at their beginning lets pass.
func TestUnpackRefuses(t *testing.T) {
	f := newFixture(t)
	mk := [2]string{"l/Makefile", makefile612}
	big := tarGz(t, mk, [2]string{"l/big", strings.Repeat("0123456789", 1<<18) + fmt.Sprint(time.Now())})
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"short":    {big[:len(big)-200], "cut short or damaged"},
		"absolute": {tarGz(t, mk, [2]string{"/etc/x", "x"}), "refused"},
		"up":       {tarGz(t, mk, [2]string{"l/../../x", "x"}), "refused"},
		"link":     {tarGz(t, mk, [2]string{"l/a", "->../../etc"}), `link "a" leads out of the tree`},
		"device":   {tarGz(t, mk, [2]string{"l/null", "device"}, [2]string{"l/a", "=>l/none"}), "Cannot hard link"},
		"hard":     {tarGz(t, mk, [2]string{"l/a", "=>/etc/passwd"}), "refused"},
		"hard up":  {tarGz(t, mk, [2]string{"l/a", "=>l/../../../etc/passwd"}), "refused"},
		"dangling": {tarGz(t, mk, [2]string{"l/a", "=>l/none"}), "Cannot hard link"},
		"mark": {tarGz(t, mk, [2]string{"l/.kimg-source", "archive 2 x\n"}),
			`".kimg-source" is a name that kimg keeps for itself`},
		"patches": {tarGz(t, mk, [2]string{"l/.kimg-patch/state", "{}"}),
			`".kimg-patch" is a name that kimg keeps for itself`},
		"objects": {tarGz(t, mk, [2]string{"l/.kimg-obj", "->."}),
			`".kimg-obj" is a name that kimg keeps for itself`},
		"garbage": {append(tarGz(t, mk, [2]string{"l/x", "garbage"}), "more"...), "cut short or damaged"},
		"second": {tarGz(t, mk, [2]string{"l/Makefile", "VERSION = 6\nPATCHLEVEL = 4\n"}),
			"it holds Linux 6.4, not 6.12.107"},
		"through": {tarGz(t, mk, [2]string{"l/a", "->/kimg/work"}, [2]string{"l/a/x", "x"}),
			"is a device: tar: a/x: Cannot open"},
		"two links": {tarGz(t, mk, [2]string{"l/s", "->."}, [2]string{"l/t", "->s/../etc/passwd"}),
			`link "t" leads out of the tree`},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "l.tar.gz")
			writeFile(t, file, string(c.data))
			j := f.job(f.pin(file))
			if _, _, err := f.build(j); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			for _, v := range []string{j.SourceVolume(), j.ObjectVolume()} {
				if ok, err := f.eng.VolumeExists(t.Context(), v); err != nil || ok {
					t.Errorf("volume %s is kept: %v, %v", v, ok, err)
				}
			}
		})
	}
	file := filepath.Join(t.TempDir(), "good.tar.gz")
	writeFile(t, file, string(tarGz(t, [2]string{"./linux/Makefile", fakeMakefile},
		[2]string{"./linux/fs/open.c", "open\n"},
		[2]string{"./linux/scripts/gdb/one.py", "one\n"}, [2]string{"./linux/fs/link.c", "->open.c"})))
	for range 2 {
		got, _, err := f.build(f.job(f.pin(file)))
		if err != nil || !strings.HasPrefix(got["vmlinux"], "1000\nopen\nopen\n") {
			t.Errorf("a good tarball: %q, %v", got["vmlinux"], err)
		}
	}
}

// TestUnpackSeveral has a second kernel where it is only found while it is unpacked.
func TestUnpackSeveral(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(t.TempDir(), "l.tar.xz")
	data := tarGz(t, [2]string{"new/Makefile", fakeMakefile}, [2]string{"new/fs/open.c", "open\n"},
		[2]string{"new/scripts/gdb/one.py", "one\n"},
		[2]string{"./old/Makefile", makefile612}, [2]string{"deep/in/it/Makefile", makefile612})
	writeFile(t, file, repacked(t, data))
	j := f.job(f.pin(file))
	_, _, err := f.build(j)
	var source *SourceError
	if !errors.As(err, &source) || !strings.Contains(err.Error(), "it holds several kernels: new, old") ||
		source.Hint() != "choose one: --kernel "+file+":new" {
		t.Errorf("%v", err)
	}
	if ok, err := f.eng.VolumeExists(t.Context(), j.SourceVolume()); err != nil || ok {
		t.Errorf("what was unpacked is kept: %v, %v", ok, err)
	}
	src, err := ParseSource(file + ":new")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Pin(t.Context(), src, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := f.build(f.job(tree)); err != nil || !strings.HasPrefix(got["vmlinux"], "1000\nopen\n") {
		t.Errorf("the one that is named: %q, %v", got["vmlinux"], err)
	}
}

// TestUnpackSome has archives with what is neither a file nor a link, which is left out, as of a directory; and with
// files beside the kernel, which are no part of it, also where the archive is not read to its end before.
func TestUnpackSome(t *testing.T) {
	f := newFixture(t)
	data := tarGz(t, [2]string{"linux/Makefile", fakeMakefile}, [2]string{"linux/fs/open.c", "open\n"},
		[2]string{"linux/scripts/gdb/one.py", "one\n"}, [2]string{"linux/fs/null.c", "device"},
		[2]string{"linux/fs/pipe.c", "fifo"}, [2]string{"notes/fs/beside.c", "beside\n"})
	for name, text := range map[string]string{"some.tar.gz": string(data), "some.tar.xz": repacked(t, data)} {
		file := filepath.Join(t.TempDir(), name)
		writeFile(t, file, text)
		got, said, err := f.build(f.job(f.pin(file)))
		if err != nil || !strings.HasPrefix(got["vmlinux"], "1000\nopen\nTue") {
			t.Errorf("%s: %q, %v", name, got["vmlinux"], err)
		}
		want := "warning left out of the kernel source " + file + ", as neither a file nor a link: fs/null.c, fs/pipe.c"
		if err == nil && !slices.Contains(said.log, want) {
			t.Errorf("%s: told %q, want %q", name, said.log, want)
		}
	}
}

// repacked is a gzipped file as xz has it.
func repacked(t *testing.T, gz []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestUnpackBomb has a tarball that unpacks to more than is taken.
func TestUnpackBomb(t *testing.T) {
	f := newFixture(t)
	was := maxTree
	maxTree = 1 << 20
	t.Cleanup(func() { maxTree = was })
	file := filepath.Join(t.TempDir(), "l.tar.gz")
	writeFile(t, file, string(tarGz(t, [2]string{"l/Makefile", makefile612},
		[2]string{"l/big", strings.Repeat("\x00", 2<<20)})))
	j := f.job(f.pin(file))
	if _, _, err := f.build(j); err == nil || !strings.Contains(err.Error(), "kimg: more than 1048576 bytes") {
		t.Errorf("error %v, want one that says that it is too much", err)
	}
	if ok, err := f.eng.VolumeExists(t.Context(), j.SourceVolume()); err != nil || ok {
		t.Errorf("what was unpacked is kept: %v, %v", ok, err)
	}
}

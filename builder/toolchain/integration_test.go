package toolchain_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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

// cacheDir is the person's own: images and packages that are there are not made
// again for a test.
func cacheDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("KIMG_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "kimg")
}

// client reads the archive that KIMG_MIRROR or the host's apt names.
func client(t *testing.T, cache string) *archive.Client {
	t.Helper()
	mirror, err := archive.MirrorQuery{Root: "/", Family: suite.Debian, Arch: arch.Default}.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(cache, "store"))
	if err != nil {
		t.Fatal(err)
	}
	return &archive.Client{Store: st, Mirror: mirror, Arch: arch.Default,
		HTTP: &fetch.Client{HTTP: fetch.NewHTTP(mirror.ProxyFunc())}}
}

// image makes the target's image from the lock that ships or, as kimg does it,
// where its packages are gone from the archive, from a new one.
func image(t *testing.T, eng container.Engine, target toolchain.Target) (toolchain.Image, *toolchain.Lock) {
	t.Helper()
	cache := cacheDir(t)
	ac := client(t, cache)
	lock, err := toolchain.Load(target, arch.Default)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	task := progress.Start(nil, "toolchain", "Toolchain "+string(target), progress.LogTo(&log, ""))
	maker := toolchain.Maker{Engine: eng, Archive: ac, Locks: filepath.Join(cache, "locks"), Task: task}
	begun := time.Now()
	made, err := maker.Ensure(t.Context(), lock)
	if missing := (*archive.MissingError)(nil); errors.As(err, &missing) {
		if lock, err = toolchain.Resolve(t.Context(), ac, target); err == nil {
			made, err = maker.Ensure(t.Context(), lock)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	t.Logf("%s made=%v in %s", made.Ref, made.Made, time.Since(begun).Round(time.Millisecond))
	return made, lock
}

// script runs a shell script as a build does: as the image's user, without
// capabilities and without a network. It fails the test unless it succeeds.
func script(t *testing.T, eng container.Engine, image, script string) string {
	t.Helper()
	var out bytes.Buffer
	err := container.Run(t.Context(), eng, &container.Cmd{Image: image, User: "1000:1000", Dir: "/kimg/work",
		Args: []string{"sh", "-euc", script}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	return out.String()
}

func TestKernelToolchains(t *testing.T) {
	eng := containertest.Engine(t)
	for target, compilers := range map[toolchain.Target][]string{
		"bullseye": {"gcc-9", "gcc-10"},
		"bookworm": {"gcc-12"},
		"trixie":   {"gcc-14"},
	} {
		t.Run(string(target), func(t *testing.T) {
			t.Parallel() // dpkg has one processor's work
			made, _ := image(t, eng, target)
			for _, cc := range compilers {
				_, major, _ := strings.Cut(cc, "-")
				out := script(t, eng, made.ID, `
					test "$(id -u):$(id -g)" = 1000:1000
					test "$(id -un)" = kimg
					grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status
					touch /kimg/src/x /kimg/obj/x /kimg/ccache/x
					cat > a.c <<-'END'
						#include <libelf.h>
						#include <openssl/evp.h>
						#include <ncurses.h>
						int main(void) { return elf_version(EV_CURRENT) == EV_NONE || !EVP_sha256(); }
					END
					export CCACHE_DIR=/kimg/ccache
					ccache `+cc+` -g -O2 -c a.c
					`+cc+` a.o -lelf -lcrypto -o a
					./a
					for tool in ld make flex bison bc patch cpio depmod xz zstd lz4 bzip2 pahole openssl perl; do
						command -v $tool > /dev/null || { echo "no $tool"; exit 1; }
					done
					`+cc+` -dumpversion`)
				if version := strings.TrimSpace(out); version != major && !strings.HasPrefix(version, major+".") {
					t.Errorf("%s says its version is %q", cc, version)
				}
			}
		})
	}
}

func TestImaging(t *testing.T) {
	eng := containertest.Engine(t)
	made, _ := image(t, eng, toolchain.Imaging)
	out := script(t, eng, made.ID, `
		qemu-system-x86_64 --version
		qemu-img --version
		gdb --batch -ex 'python print("gdb speaks Python")'
		socat -V > /dev/null
		debootstrap --version
		test -s /usr/share/keyrings/debian-archive-keyring.gpg
		test -s /usr/share/keyrings/ubuntu-archive-keyring.gpg
		mkdir tree
		echo from-a-tar > tree/file
		tar -C tree --owner=7 --group=8 -cf tree.tar .
		/sbin/mke2fs -q -t ext4 -d tree.tar fs.img 8M
		/sbin/e2fsck -fn fs.img > /dev/null
		/sbin/debugfs -R 'cat file' fs.img
		/sbin/debugfs -R 'stat file' fs.img`)
	for _, want := range []string{"QEMU emulator version 10.", "gdb speaks Python", "debootstrap 1.", "from-a-tar",
		"User:     7   Group:     8"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	// The machines that kimg starts come up: every ROM that they ask for is there.
	for _, nic := range []string{"e1000", "virtio-net-pci"} {
		script(t, eng, made.ID, `echo '{"execute":"qmp_capabilities"}{"execute":"quit"}' |
			qemu-system-x86_64 -nodefaults -display none -vga std -device `+nic+` -qmp stdio -S`)
	}
}

func TestResolve(t *testing.T) {
	ac := client(t, cacheDir(t))
	var first []byte
	for range 2 {
		lock, err := toolchain.Resolve(t.Context(), ac, toolchain.Imaging)
		if err != nil {
			t.Fatal(err)
		}
		b, err := lock.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := toolchain.Parse(b); err != nil {
			t.Error(err)
		}
		if first != nil && !bytes.Equal(first, b) {
			t.Error("two locks of one release differ")
		}
		first = b
		shipped, err := toolchain.Load(toolchain.Imaging, arch.Default)
		if err != nil {
			t.Fatal(err)
		}
		if lock.InRelease == shipped.InRelease && lock.Ref() != shipped.Ref() {
			t.Error("the shipped lock is of this release and names other packages: run kimg toolchain relock")
		}
	}
	if _, err := toolchain.Resolve(t.Context(), ac, "potato"); err == nil ||
		!strings.Contains(err.Error(), `unknown toolchain "potato"`) {
		t.Errorf("got %v", err)
	}
}

func TestEnsureAgainDoesNothing(t *testing.T) {
	eng := containertest.Engine(t)
	image(t, eng, "trixie")
	begun := time.Now()
	if again, _ := image(t, eng, "trixie"); again.Made || time.Since(begun) > 2*time.Second {
		t.Errorf("made again: %v, after %s", again.Made, time.Since(begun))
	}
}

// A build that fails or is stopped leaves the engine as it was.
func TestEnsureLeavesNothing(t *testing.T) {
	eng := containertest.Engine(t)
	_, lock := image(t, eng, "trixie") // so its base is there
	cache := cacheDir(t)
	// Enough for a build that is cheap, and that fails: what these need is left out.
	lock.Packages = slices.DeleteFunc(lock.Packages, func(p archive.Locked) bool {
		return p.Name != "flex" && p.Name != "libelf-dev"
	})
	embedded := eng.Info().Name == "embedded"
	entries := func(t *testing.T) []string { // of the embedded engine, those of half a build among them
		t.Helper()
		all, err := filepath.Glob(filepath.Join(eng.Info().Host, "*", "[ci]*", "*")) // containers, images
		if err != nil || len(all) == 0 {
			t.Fatalf("%s has neither containers nor images: %v", eng.Info().Host, err)
		}
		return all
	}
	var before []string
	if embedded {
		before = entries(t)
	}
	for _, test := range []struct {
		name string
		stop string // what the builder says when the test stops it; empty: it fails by itself
		want string
	}{
		{"a set of packages that is incomplete", "", "returned a non-zero code"},
		{"stopped on the way", "Unpacking flex", "stopped by the test"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			log := &containertest.Watch{What: test.stop, Found: func() { cancel(errors.New("stopped by the test")) }}
			task := progress.Start(nil, "toolchain", "Toolchain", progress.LogTo(log, ""))
			maker := toolchain.Maker{Engine: eng, Archive: client(t, cache), Locks: filepath.Join(cache, "locks"),
				Task: task}
			_, err := maker.Ensure(ctx, lock)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it; the log:\n%s", err, test.want, log.All.Bytes())
			}
			if _, ok, err := eng.ImageID(t.Context(), lock.Ref()); ok || err != nil {
				t.Errorf("the image is there: %v, %v", ok, err)
			}
			if embedded { // a step of its builds makes no image of its own, and no container
				if after := entries(t); !slices.Equal(before, after) {
					t.Errorf("the engine has %q, and had %q", after, before)
				}
				return
			}
			ids := regexp.MustCompile(`(?m)^ ---> ([0-9a-f]{12})$`).FindAllSubmatch(log.All.Bytes(), -1)
			if len(ids) < 2 {
				t.Fatalf("the log names %d images:\n%s", len(ids), log.All.Bytes())
			}
			for _, id := range ids[1:] {
				if _, ok, err := eng.ImageID(t.Context(), string(id[1])); ok || err != nil {
					t.Errorf("image %s of a step is there: %v, %v", id[1], ok, err)
				}
			}
			step := regexp.MustCompile(`(?m)^ ---> Running in ([0-9a-f]{12})$`).FindSubmatch(log.All.Bytes())
			if step == nil {
				t.Fatalf("the log names no container:\n%s", log.All.Bytes())
			}
			if docker, err := exec.LookPath("docker"); err == nil {
				out, err := exec.Command(docker, "ps", "-aq", "--filter", "id="+string(step[1])).CombinedOutput()
				if err != nil || len(out) > 0 {
					t.Errorf("container %s of a step: %s, %v", step[1], out, err)
				}
			}
		})
	}
}

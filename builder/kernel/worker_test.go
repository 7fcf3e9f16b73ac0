package kernel

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/arch"
)

// TestMakeCommand holds all that a kernel's bits depend on besides the source, the
// config and the image. Whoever changes it changes what is built from the same lock.
func TestMakeCommand(t *testing.T) {
	j := Job{Arch: arch.AMD64, Era: Era{CC: "gcc-12"}, ImageID: "sha256:1", Epoch: time.Unix(1700000000, 0)}
	const prefixes = "-fdebug-prefix-map=..=/kimg/src -fdebug-prefix-map=/kimg/src/.kimg-obj=/kimg/obj"
	want := []string{
		"sh", "-c", `umask 022; exec "$@"`, "sh", "make", "-C", "/kimg/src", "O=/kimg/src/.kimg-obj", "ARCH=x86_64",
		"KCFLAGS=" + prefixes, "KAFLAGS=" + prefixes, "CC=ccache gcc-12", "HOSTCC=ccache gcc-12", "-j8", "bzImage",
	}
	if diff := cmp.Diff(want, makeArgv(makeVars(j), jobs(8), j.Arch.Image)); diff != "" {
		t.Errorf("make (-want +got):\n%s", diff)
	}
	want = []string{
		"LC_ALL=C", "TZ=UTC", "HOME=/kimg/work", "KBUILD_BUILD_TIMESTAMP=Tue Nov 14 22:13:20 UTC 2023",
		"KBUILD_BUILD_USER=kimg", "KBUILD_BUILD_HOST=kimg", "KBUILD_BUILD_VERSION=1", "CCACHE_DIR=/kimg/ccache",
		"CCACHE_DEPEND=1", "CCACHE_INODECACHE=1",
		"CCACHE_MAXSIZE=10G", "CCACHE_COMPILERCHECK=string:sha256:1", "LD_PRELOAD=/usr/lib/hugepages.so",
		"GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.top_pad=33554432",
	}
	if diff := cmp.Diff(want, buildEnv(j)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

// Another architecture's objects come from a cross compiler, named whole; what runs in the build does not.
func TestMakeVarsCross(t *testing.T) {
	j := Job{Arch: arch.ARM64, Era: Era{CC: "gcc-14"}}
	want := []string{"CC=ccache aarch64-linux-gnu-gcc-14", "HOSTCC=ccache gcc-14", "CROSS_COMPILE=aarch64-linux-gnu-"}
	if diff := cmp.Diff(want, makeVars(j)[4:]); diff != "" {
		t.Errorf("make (-want +got):\n%s", diff)
	}
}

func TestBeginning(t *testing.T) {
	var b beginning
	for range 100 {
		if n, err := b.Write([]byte(strings.Repeat("x", 100))); n != 100 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(b) != 4096 {
		t.Errorf("%d bytes were kept", len(b))
	}
}

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
		"KCFLAGS=" + prefixes, "KAFLAGS=" + prefixes,
		"CC=ccache x86_64-linux-gnu-gcc-12", "HOSTCC=ccache x86_64-linux-gnu-gcc-12",
		"CROSS_COMPILE=x86_64-linux-gnu-", "-j8", "bzImage",
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

// The compiler has the same name on every engine, and what runs in the build is compiled by the engine's own.
func TestMakeVars(t *testing.T) {
	for _, test := range []struct {
		of, host arch.Arch
		want     []string
	}{
		{arch.ARM64, arch.Arch{}, []string{"CC=ccache aarch64-linux-gnu-gcc-14",
			"HOSTCC=ccache x86_64-linux-gnu-gcc-14", "CROSS_COMPILE=aarch64-linux-gnu-"}},
		{arch.ARM64, arch.ARM64, []string{"CC=ccache aarch64-linux-gnu-gcc-14",
			"HOSTCC=ccache aarch64-linux-gnu-gcc-14", "CROSS_COMPILE=aarch64-linux-gnu-"}},
		{arch.AMD64, arch.ARM64, []string{"CC=ccache x86_64-linux-gnu-gcc-14",
			"HOSTCC=ccache aarch64-linux-gnu-gcc-14", "CROSS_COMPILE=x86_64-linux-gnu-"}},
	} {
		j := Job{Arch: test.of, Host: test.host, Era: Era{CC: "gcc-14"}}
		if diff := cmp.Diff(test.want, makeVars(j)[4:]); diff != "" {
			t.Errorf("make for %s on %s (-want +got):\n%s", test.of, test.host, diff)
		}
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

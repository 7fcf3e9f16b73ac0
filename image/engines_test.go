package image_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/units"
)

// The tools of engines of two architectures make the same ext4 image of a tree. KIMG_TEST_ENGINES names other
// architectures of engines than this one's, whose programs this machine has to run (see scripts/nightly-arch).
func TestEnginesMakeTheSameImage(t *testing.T) {
	engines := os.Getenv("KIMG_TEST_ENGINES")
	if engines == "" {
		t.Skip("KIMG_TEST_ENGINES names no other architecture: it would have to be emulated")
	}
	r := newRig(t)
	spec := r.spec(t, "trixie", archive.Minbase)
	tree, _ := r.bootstrap(t, spec)
	imageBy := func(r *rig) units.Digest {
		disk, sum := r.disk(t, spec, tree)
		keep(t, disk, "rootfs-"+r.imaging[:min(len(r.imaging), 20)]+".img")
		return sum
	}
	want := imageBy(r)
	for engine := range strings.SplitSeq(engines, ",") {
		on, err := arch.Parse(engine)
		if err != nil {
			t.Fatal(err)
		}
		if got := imageBy(newRigOn(t, toolchain.Imaging, on)); got != want {
			t.Errorf("the image is %s by an engine of %s, and %s by one of %s", want, arch.Default, got, on)
		}
	}
	t.Logf("one image by engines of %s and %s: %s", arch.Default, engines, want)
}

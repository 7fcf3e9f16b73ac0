package image_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// newForeignRig has the imaging image of another architecture's guests, and that one's packages.
func newForeignRig(t *testing.T, a arch.Arch) *rig {
	t.Helper()
	r := newRigOf(t, toolchain.ImagingFor(a))
	mirror, err := archive.MirrorQuery{Root: "/", Family: suite.Debian, Arch: a}.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	r.ac = &archive.Client{Store: r.ac.Store, Mirror: mirror, Arch: a,
		HTTP: &fetch.Client{HTTP: fetch.NewHTTP(mirror.ProxyFunc())}}
	return r
}

// TestEmulations makes the tree of an architecture by each way to run its programs, its ext4 image, and a script run in
// it, and compares them bit for bit. KIMG_TEST_EMULATED names the architecture, KIMG_TEST_EMULATIONS other ways than
// those that an engine has by itself.
func TestEmulations(t *testing.T) {
	name := os.Getenv("KIMG_TEST_EMULATED")
	if name == "" {
		t.Skip("KIMG_TEST_EMULATED names no architecture: each way takes minutes")
	}
	a, err := arch.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	ways := []image.Emulation{image.EmulateNamespace, image.EmulateTrace}
	if list := os.Getenv("KIMG_TEST_EMULATIONS"); list != "" {
		ways = nil
		for w := range strings.SplitSeq(list, ",") {
			ways = append(ways, image.Emulation(w))
		}
	}
	r := newForeignRig(t, a)
	spec := r.spec(t, "trixie", archive.Minbase)
	spec.Arch = a
	script := custom.Script{Name: "ways", Text: "#!/bin/sh\nset -eu\nuname -m >/etc/machine\n" +
		"perl -e 'print \"of perl\\n\"' >>/etc/machine\nsu -s /bin/sh nobody -c 'id -un' >>/etc/machine\n" +
		"(sleep 1000 &)\n"}
	var trees, disks, customs []units.Digest
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			var said []string
			m := r.maker(t)
			m.Emulation, m.Emulated = way, func(by string) { said = append(said, by) }
			begun := time.Now()
			tree, done := r.make(t, "rootfs.tar", func(w *os.File) error {
				return m.Bootstrap(t.Context(), spec, r.ac.Store, w)
			})
			t.Logf("bootstrapped by %q in %s: %s", said, time.Since(begun).Round(time.Second), done)
			begun = time.Now()
			_, ran := r.make(t, "custom.tar", func(w *os.File) error {
				return m.Customise(t.Context(), image.CustomSpec{
					Custom: custom.Custom{Run: []custom.Script{script}}, Epoch: spec.Epoch, Arch: a,
				}, opener(tree), r.ac.Store, w)
			})
			t.Logf("the script ran in %s: %s", time.Since(begun).Round(time.Second), ran)
			keep(t, tree, a.Name+"-"+string(way)+".tar")
			_, disk := r.disk(t, spec, tree)
			trees, disks, customs = append(trees, done), append(disks, disk), append(customs, ran)
			t.Logf("its image: %s", disk)
			if len(said) != 2 || said[0] != said[1] {
				t.Errorf("it was told to be run by %q", said)
			}
		})
	}
	for what, made := range map[string][]units.Digest{
		"trees": trees, "images": disks, "trees with the script": customs,
	} {
		if len(made) != len(ways) || len(slices.Compact(slices.Clone(made))) != 1 {
			t.Errorf("the %s differ: %s", what, made)
		}
	}
}

// make writes a file and returns its name and digest.
func (r *rig) make(t *testing.T, as string, do func(w *os.File) error) (string, units.Digest) {
	t.Helper()
	name := filepath.Join(t.TempDir(), as)
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name, digest(t, name)
}

// A way that is not to be had ends the bootstrap at once, with what was tried.
func TestNoEmulation(t *testing.T) {
	name := os.Getenv("KIMG_TEST_EMULATED")
	if name == "" {
		t.Skip("KIMG_TEST_EMULATED names no architecture")
	}
	a, err := arch.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	r := newForeignRig(t, a)
	spec := r.spec(t, "trixie", archive.Minbase)
	spec.Arch = a
	m := r.maker(t)
	m.Emulation = image.EmulateMachine
	var none *image.ForeignError
	begun := time.Now()
	if err := m.Bootstrap(t.Context(), spec, r.ac.Store, &bytes.Buffer{}); !errors.As(err, &none) ||
		none.By != image.EmulateMachine || !strings.Contains(err.Error(), "machine: no such format is registered") {
		t.Errorf("%v", err)
	}
	t.Logf("refused in %s", time.Since(begun).Round(time.Millisecond))
}

// TestEmulatedProbe has a program run in a tree by each way that engines have by themselves.
func TestEmulatedProbe(t *testing.T) {
	name := os.Getenv("KIMG_TEST_EMULATED")
	if name == "" {
		t.Skip("KIMG_TEST_EMULATED names no architecture")
	}
	a, err := arch.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	r := newForeignRig(t, a)
	for _, by := range []image.Emulation{"", image.EmulateNamespace, image.EmulateTrace} {
		image.EmulatesInside(t, r.eng, r.imaging, a, by)
	}
}

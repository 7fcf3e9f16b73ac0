package kernel

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/progress"
)

// partOf are objects of a kernel, from C and from assembler, with their debug information; and those of an
// architecture.
var (
	partOf = []string{"init/version.o", "init/main.o", "kernel/fork.o", "kernel/time/time.o", "lib/string.o",
		"mm/util.o", "fs/open.o"}
	partOfArch = map[arch.Arch][]string{
		arch.AMD64:   {"arch/x86/entry/entry_64.o", "arch/x86/kernel/traps.o"},
		arch.ARM64:   {"arch/arm64/kernel/entry.o", "arch/arm64/kernel/traps.o"},
		arch.RISCV64: {"arch/riscv/kernel/entry.o", "arch/riscv/kernel/traps.o"},
	}
)

// Engines of two architectures make the same objects of one kernel. KIMG_TEST_ENGINES names other architectures of
// engines than this one's, whose programs this machine has to run (see scripts/nightly-arch), and
// KIMG_TEST_ARCHES those of the kernels, with commas; all by default.
func TestEnginesMakeTheSameObjects(t *testing.T) {
	engines := os.Getenv("KIMG_TEST_ENGINES")
	if engines == "" {
		t.Skip("KIMG_TEST_ENGINES names no other architecture: it would have to be emulated")
	}
	source, _ := debianKernel(t, "trixie", "6.12")
	for name := range strings.SplitSeq(cmp.Or(os.Getenv("KIMG_TEST_ARCHES"), strings.Join(arch.Names(), ",")), ",") {
		a, err := arch.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir() // one, so that the source is unpacked once
			want := part(t, source, a, arch.Default, cache)
			for engine := range strings.SplitSeq(engines, ",") {
				on, err := arch.Parse(engine)
				if err != nil {
					t.Fatal(err)
				}
				got := part(t, source, a, on, cache)
				for _, name := range slices.Sorted(maps.Keys(want)) {
					if want[name] != got[name] {
						t.Errorf("%s is %s on %s, and %s on %s", name, want[name], arch.Default, got[name], on)
					}
				}
				t.Logf("%d files from engines of %s and %s", len(got), arch.Default, on)
			}
		})
	}
}

// part compiles a part of a kernel with what compiles on an engine of an architecture, and returns digests.
func part(t *testing.T, source *Tree, a, engine arch.Arch, cache string) map[string]string {
	t.Helper()
	era, err := EraFor(source.Version, "")
	if err != nil {
		t.Fatal(err)
	}
	target, err := era.Target(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, eng: containertest.Engine(t), cache: cache}
	f.image, f.id = imageFor(t, f.eng, toolchain.Target(target), engine)
	j := f.job(source)
	j.Arch, j.Host, j.Era, j.Jobs = a, engine, era, 0
	j.Config.Arch = a
	objects := slices.Concat(partOf, partOfArch[a])
	digests := map[string]string{}
	task := progress.Start(&lines{}, "part", "compile a part")
	err = onWorker(t.Context(), f.eng, j, task, func(w *worker) error {
		text, err := w.configure(t.Context(), j, task)
		if err != nil {
			return err
		}
		if err := w.write(t.Context(), objDir+"/.config", text); err != nil {
			return err
		}
		if err := w.make(t.Context(), append([]string{jobs(j.jobs(f.eng))}, objects...)...); err != nil {
			return err
		}
		list := []string{"sha256sum"}
		for _, name := range append(objects, ".config", "include/generated/asm-offsets.h") {
			list = append(list, objDir+"/"+name)
		}
		sums, err := w.output(t.Context(), nil, 1<<20, list...)
		for line := range strings.Lines(sums) {
			sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			digests[strings.TrimPrefix(name, objDir+"/")] = sum
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(digests) != len(objects)+2 {
		t.Fatalf("%d files of %d", len(digests), len(objects)+2)
	}
	return digests
}

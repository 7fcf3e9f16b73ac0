package kernel

import (
	"cmp"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

// partOf are objects of a kernel, from C and from assembler, with their debug information; and those of an
// architecture.
var (
	partOf = []string{"init/version.o", "init/main.o", "kernel/fork.o", "kernel/time/time.o", "lib/string.o",
		"mm/util.o", "fs/open.o"}
	partOfArch = map[arch.Arch][]string{
		arch.AMD64:   {"arch/x86/entry/entry_64.o", "arch/x86/kernel/traps.o"},
		arch.PPC64EL: {"arch/powerpc/kernel/interrupt_64.o", "arch/powerpc/kernel/traps.o"},
		arch.ARM64:   {"arch/arm64/kernel/entry.o", "arch/arm64/kernel/traps.o"},
		arch.RISCV64: {"arch/riscv/kernel/entry.o", "arch/riscv/kernel/traps.o"},
	}
)

// Engines of two architectures make the same objects of one kernel. KIMG_TEST_ENGINES names other architectures of
// engines than this one's, whose programs this machine has to run (see scripts/nightly-arch), and
// KIMG_TEST_ARCHES those of the kernels, with commas; all by default. First their compilers compile what this engine's
// make has configured and generated; then, unless -short, their own make does all of it: that is hours where it is
// emulated.
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
			here := partJob(t, source, a, arch.Default, cache)
			made := makePart(t, here)
			want := compilePart(t, here, here)
			for engine := range strings.SplitSeq(engines, ",") {
				on, err := arch.Parse(engine)
				if err != nil {
					t.Fatal(err)
				}
				there := partJob(t, source, a, on, cache)
				same(t, on, "compiled", want, compilePart(t, there, here))
				if !testing.Short() {
					same(t, on, "made", made, makePart(t, there))
				}
			}
		})
	}
}

// littleOf turns off most of what the vm config has: a third of its objects stay, objtool and the final link among what
// makes them.
var littleOf = []string{"NET=n", "BLOCK=n", "PCI=n", "ACPI=n", "INPUT=n", "HID=n", "USB_SUPPORT=n", "SOUND=n",
	"VIRTIO_MENU=n", "SMP=n", "CGROUPS=n", "MODULES=n", "BPF_SYSCALL=n", "FTRACE=n", "CRYPTO=n", "DRM=n",
	"NAMESPACES=n", "SWAP=n", "HYPERVISOR_GUEST=n", "RTC_CLASS=n", "SECCOMP=n", "IO_URING=n", "KALLSYMS_ALL=n"}

// Engines of two architectures make the same kernel of amd64, whole: configured, compiled, gone over by objtool, linked
// and packed by their own make. It is hours where an engine is emulated, and left out with -short.
func TestEnginesMakeTheSameKernel(t *testing.T) {
	engines := os.Getenv("KIMG_TEST_ENGINES")
	if engines == "" || testing.Short() {
		t.Skip("KIMG_TEST_ENGINES names no other architecture, or the tests are to be short")
	}
	source, _ := debianKernel(t, "trixie", "6.12")
	cache := t.TempDir()
	whole := func(on arch.Arch) map[string]string {
		p := partJob(t, source, arch.AMD64, on, cache)
		for _, set := range littleOf {
			r, err := ParseSet(set)
			if err != nil {
				t.Fatal(err)
			}
			p.Config.Requests = append(p.Config.Requests, r)
		}
		got, said, err := p.build(p.Job)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d files of %d objects by an engine of %s", len(got), said.compiled(), on)
		for name, data := range got {
			got[name] = string(units.DigestOf([]byte(data)))
		}
		return got
	}
	want := whole(arch.Default)
	if want["vmlinux"] == "" || want["bzImage"] == "" {
		t.Fatalf("no kernel: %v", slices.Sorted(maps.Keys(want)))
	}
	for engine := range strings.SplitSeq(engines, ",") {
		on, err := arch.Parse(engine)
		if err != nil {
			t.Fatal(err)
		}
		same(t, on, "made", want, whole(on))
	}
}

func same(t *testing.T, on arch.Arch, how string, want, got map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if want[name] != got[name] {
			t.Errorf("%s, %s, is %s on %s, and %s on %s", name, how, want[name], arch.Default, got[name], on)
		}
	}
	t.Logf("%d files, %s by engines of %s and %s", len(got), how, arch.Default, on)
}

// partOfJob is a kernel, and what compiles it on an engine.
type partOfJob struct {
	*fixture
	Job
	objects []string
}

func partJob(t *testing.T, source *Tree, a, engine arch.Arch, cache string) partOfJob {
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
	return partOfJob{f, j, slices.Concat(partOf, partOfArch[a])}
}

// makePart has make configure and compile the objects, and returns digests.
func makePart(t *testing.T, p partOfJob) (digests map[string]string) {
	t.Helper()
	task := progress.Start(&lines{}, "part", "make a part")
	err := onWorker(t.Context(), p.eng, p.Job, task, func(w *worker) error {
		text, err := w.configure(t.Context(), p.Job, task)
		if err != nil {
			return err
		}
		if err := w.write(t.Context(), objDir+"/.config", text); err != nil {
			return err
		}
		if err := w.make(t.Context(), append([]string{jobs(p.jobs(p.eng))}, p.objects...)...); err != nil {
			return err
		}
		digests, err = sums(t, w, objDir, append(p.objects, ".config", "include/generated/asm-offsets.h"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return digests
}

// compilePart has the compiler of an engine's image compile the objects again as they were, with what is in the
// directory of objects of whoever made them, and returns digests. What objtool does to them is not in these.
func compilePart(t *testing.T, p, made partOfJob) map[string]string {
	t.Helper()
	task := progress.Start(&lines{}, "part", "compile a part")
	w, err := newWorker(t.Context(), p.eng, p.Job, task, map[string]string{"/tmp": "mode=1777,exec"},
		container.Mount{Volume: made.SourceVolume(), Target: srcDir, ReadOnly: true},
		container.Mount{Volume: made.ObjectVolume(), Target: objDir})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Remove(t.Context())
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range p.objects {
		text, err := w.read(t.Context(), objDir+"/"+path.Join(path.Dir(name), "."+path.Base(name)+".cmd"))
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		m := commandRE.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s was compiled by %q", name, line)
		}
		words := compileWords(m[2])
		out := slices.Index(words, "-o") + 1
		if out == 0 {
			t.Fatalf("%s was compiled by %q", name, words)
		}
		words[out] = "/tmp/" + name
		args := append([]string{"sh", "-c", `cd "$1" && mkdir -p "$2" && shift 2 && exec "$@"`, "sh", objDir,
			path.Dir(words[out])}, words...)
		if err := w.run(t.Context(), nil, nil, args...); err != nil {
			t.Fatalf("compile %s: %v", name, err)
		}
	}
	digests, err := sums(t, w, "/tmp", p.objects)
	if err != nil {
		t.Fatal(err)
	}
	return digests
}

func sums(t *testing.T, w *worker, dir string, names []string) (map[string]string, error) {
	list := []string{"sha256sum"}
	for _, name := range names {
		list = append(list, dir+"/"+name)
	}
	said, err := w.output(t.Context(), nil, 1<<20, list...)
	digests := map[string]string{}
	for line := range strings.Lines(said) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		digests[strings.TrimPrefix(name, dir+"/")] = sum
	}
	if err == nil && len(digests) != len(names) {
		t.Errorf("%d files of %d", len(digests), len(names))
	}
	return digests, err
}

// Package kernel turns a kernel's source into a kernel: it finds the source, chooses the toolchain of its era,
// composes and proves the configuration, and compiles in the toolchain's container. How the toolchain's image is
// made, where packages come from, and where the artifacts go, is its caller's business.
package kernel

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

// Job is one kernel to be compiled.
type Job struct {
	Arch     arch.Arch
	Host     arch.Arch // the toolchain image's, that is the engine's; zero: the default
	Tree     *Tree
	Patches  []Patch // applied in this order
	Era      Era
	Image    string // the toolchain's image
	ImageID  string // who the compiler is, for ccache
	Config   Config
	Epoch    time.Time    // the build time that the kernel reports
	Jobs     int          // make -j; 0: as many as the engine has processors
	Targets  []string     // further make targets; see CheckTarget
	Boot     []needs.Need // what it must have to come up with its root filesystem; nil: with ext4 on a disk
	CacheDir string       // where locks and what is known of earlier builds are kept
	Ccache   string       // the volume of compiled objects; empty: CcacheVolume

	// Ask asks somebody whether to go on, with a question that yes or no answers; nil: nobody can answer.
	Ask func(ctx context.Context, question string) (bool, error)

	// Beside says that the job only asks: where another kimg compiles the source, it does not wait for its end.
	Beside bool

	copied bool // see besides

	// Temporary volumes are the caller's to remove; should kimg be killed, the next one does.
	Temporary bool
}

func (j Job) jobs(eng container.Engine) int {
	if j.Jobs > 0 {
		return j.Jobs
	}
	return max(1, eng.Info().CPUs)
}

// Volumes are those that the job keeps things in.
func (j Job) Volumes() []string { return []string{j.SourceVolume(), j.ObjectVolume(), j.ccache()} }

func (j Job) ccache() string { return cmp.Or(j.Ccache, CcacheVolume) }

// Put takes one artifact. It reads r to its end, size bytes.
type Put func(name string, mode fs.FileMode, size int64, r io.Reader) error

// Build compiles the job's kernel in eng and gives its artifacts to put: bzImage, vmlinux, System.map, config and,
// where GDB_SCRIPTS is on, vmlinux-gdb.py and scripts/gdb; where MODULES is on, ModulesTar and ModulesDir; below
// TargetsDir, what further targets made. Only one kimg at a time works on the same source; another one waits.
//
// An *UnmetError says that the configuration did not take what was asked for, a *CompileError that make failed.
func Build(ctx context.Context, eng container.Engine, j Job, task *progress.Task, put Put) error {
	return onWorker(ctx, eng, j, task, func(w *worker) error {
		config, err := w.build(ctx, eng, j, task)
		if err != nil {
			return err
		}
		if err := w.collect(ctx, config, put); err != nil {
			return err
		}
		if config.Get("MODULES") == "y" {
			if err := w.modules(ctx, j, put); err != nil {
				return err
			}
		}
		return w.further(ctx, j, j.jobs(eng), put)
	})
}

func (w *worker) build(ctx context.Context, eng container.Engine, j Job, task *progress.Task) (kconfig.Config, error) {
	text, err := w.configure(ctx, j, task)
	if err != nil {
		return nil, err
	}
	return kconfig.ParseConfig(text), w.compile(ctx, j, text, j.jobs(eng))
}

// onWorker brings the source into its volume and starts a worker on it; meanwhile other kimgs wait.
func onWorker(ctx context.Context, eng container.Engine, j Job, task *progress.Task,
	do func(*worker) error) (err error) {
	if j.Beside {
		j = j.besides(task)
	}
	unlock, err := lockTree(ctx, j, task)
	if err != nil {
		return err
	}
	defer unlock()
	src, err := deliver(ctx, eng, j, task)
	if err != nil {
		return err
	}
	if err := eng.EnsureVolume(ctx, j.ccache(), !j.Temporary); err != nil {
		return err
	}
	w, err := newCompiler(ctx, eng, j, src, task)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Remove(ctx)) }()
	if err := w.Start(ctx); err != nil {
		return err
	}
	return do(w)
}

// configScript puts the .config of its input to $2, by way of $1, where another one is there, and runs $3 before.
const configScript = `cat > "$1" && { cmp -s "$1" "$2" || { eval "$3" && cp "$1" "$2"; }; }`

// compile runs make. The .config is only replaced where it differs: by its time kbuild would read all of it again.
func (w *worker) compile(ctx context.Context, j Job, config []byte, n int) error {
	before := ":"
	if slices.Contains(j.Targets, BinDeb) {
		before = startOver
	}
	err := w.run(ctx, bytes.NewReader(config), nil,
		"sh", "-c", configScript, "sh", newConfig, objDir+"/.config", before)
	if err != nil {
		return fmt.Errorf("write .config: %w", err)
	}
	built, err := w.has(ctx, objDir+"/vmlinux")
	if err != nil {
		return err
	}
	count := newCounter(w.task, j, !built)
	var fault faults
	argv := makeArgv(w.vars, append([]string{jobs(n)}, targets(j, kconfig.ParseConfig(config))...)...)
	err = w.exec(ctx, nil, io.MultiWriter(w.task.Log(), count, &fault), io.MultiWriter(w.task.Log(), &fault), argv...)
	if err != nil {
		return fault.wrap(err)
	}
	count.remember()
	return nil
}

// artifacts are the files of the object directory that are given out, by the names they get.
func artifacts(a arch.Arch, c kconfig.Config) map[string]string {
	m := map[string]string{
		a.ImagePath: artifact.KernelImage(a), "vmlinux": artifact.Vmlinux, "System.map": artifact.SystemMap,
		".config": artifact.Config,
	}
	if c.Get("GDB_SCRIPTS") == "y" {
		m["vmlinux-gdb.py"], m["scripts/gdb"] = artifact.GDBLoader, artifact.GDBScripts
	}
	return m
}

// collect streams the artifacts out, links resolved: those of scripts/gdb point into the source.
func (w *worker) collect(ctx context.Context, c kconfig.Config, put Put) error {
	leave := []string{"--exclude=*.cmd", "--exclude=__pycache__", "--exclude=*.d"}
	return w.give(ctx, objDir, artifacts(w.arch, c), leave, put)
}

// give streams files and directories of dir out, under the names that names gives them.
func (w *worker) give(ctx context.Context, dir string, names map[string]string, options []string, put Put) error {
	args := slices.Concat([]string{"tar", "-C", dir, "-ch", "--hard-dereference"}, options,
		[]string{"--null", "-T", "-"})
	list := strings.Join(slices.Sorted(maps.Keys(names)), "\x00")
	take := func(r io.Reader) error { return takeAll(r, names, put) }
	if err := w.stream(ctx, strings.NewReader(list), take, args...); err != nil {
		return fmt.Errorf("collect the kernel: %w", err)
	}
	return nil
}

func takeAll(r io.Reader, names map[string]string, put Put) error {
	missing := map[string]bool{}
	for from := range names {
		missing[from] = true
	}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		// The name itself, or the directory among names that it is in.
		name := path.Clean(h.Name)
		for from := name; from != "." && from != "/"; from = path.Dir(from) {
			to, ok := names[from]
			if !ok {
				continue
			}
			delete(missing, from)
			if err := put(to+strings.TrimPrefix(name, from), h.FileInfo().Mode().Perm(), h.Size, tr); err != nil {
				return err
			}
			break
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	for from := range missing {
		return fmt.Errorf("make succeeded and left no %s", from)
	}
	return nil
}

// StepVersion is raised when Build makes another kernel of the same tree, patches and Inputs.
const StepVersion = "3"

// Inputs is a digest of how kernels are compiled: make's variables, environment and targets, and the scripts that
// pack. What is a job's own is left out, but for its architecture and what it has packed: keys name that beside it.
func (j Job) Inputs() units.Digest {
	var b strings.Builder
	packs := slices.Contains(j.Targets, BinDeb)
	j.Era, j.Epoch, j.Targets, j.ImageID = Era{CC: "CC"}, time.Unix(0, 0), nil, ""
	j.Host = arch.Arch{Triplet: "host"} // the bits do not depend on it
	env := slices.DeleteFunc(buildEnv(j), func(v string) bool { return strings.HasPrefix(v, "CCACHE_") })
	fmt.Fprintf(&b, "%q\n%q\n", makeArgv(makeVars(j)), env)
	all := kconfig.Config{"MODULES": "y", "GDB_SCRIPTS": "y"} // those that are off are not made
	fmt.Fprintf(&b, "%q\n%q\n", targets(j, all), artifacts(j.Arch, all))
	if j.Config.Modules() {
		fmt.Fprintf(&b, "%q\n", modulesScript)
	}
	if packs {
		tools, err := debToolsTar()
		if err != nil {
			panic(err) // they are embedded
		}
		d, _, err := units.DigestReader(tools)
		if err != nil {
			panic(err) // it is in memory
		}
		fmt.Fprintf(&b, "%q\n%q\n%q\n%s\n", debEnv("", j.Epoch), startOver, debPrepare, d)
	}
	return units.DigestOf([]byte(b.String()))
}

// Inputs is a digest of what the configuration of a version is composed of: its own file, kimg's fragments and the
// requests, in the words of that version; the symbols and not the comments, nor who asked for them.
func (c Config) Inputs(v units.KernelVersion) units.Digest {
	var b strings.Builder
	version := dialect{KernelVersion: v}
	if c.renames() {
		b.WriteString("names are the tree's\n")
	}
	switch c.Base {
	case VM:
		fmt.Fprintf(&b, "vm %q\n", c.ownRequests(version))
	case Defconfig:
		fmt.Fprintf(&b, "defconfig %q %q\n", kvmGuest, c.ownRequests(version))
	default:
		fmt.Fprintf(&b, "file %q %q\n", c.File, renamed(version, c))
	}
	fmt.Fprintf(&b, "%q\n%q\n", own("same.config", sameConfig, version), translate(version, c.Requests))
	return units.DigestOf([]byte(b.String()))
}

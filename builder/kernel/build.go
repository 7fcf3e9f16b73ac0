// Package kernel turns a kernel's source into a kernel: it finds the source,
// chooses the toolchain of its era, composes and proves the configuration, and
// compiles in the toolchain's container. It must not know how the toolchain's
// image is made, where packages come from, or what becomes of the artifacts.
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
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
)

// Job is one kernel to be compiled.
type Job struct {
	Tree     *Tree
	Patches  []Patch // applied in this order
	Era      Era
	Image    string // the toolchain's image
	ImageID  string // who the compiler is, for ccache
	Config   Config
	Epoch    time.Time // the build time that the kernel tells
	Jobs     int       // make -j; 0: as many as the engine has processors
	Targets  []string  // further make targets; see CheckTarget
	CacheDir string    // where locks and what is known of earlier builds are kept
	Ccache   string    // the volume of compiled objects; empty: CcacheVolume

	// Temporary volumes are the caller's to remove; should kimg be killed, the next one does.
	Temporary bool
}

// jobs is how many jobs make has.
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

// Build compiles the job's kernel in eng and gives its artifacts to put: bzImage,
// vmlinux, System.map, config and, where GDB_SCRIPTS is on, vmlinux-gdb.py and
// scripts/gdb; where MODULES is on, ModulesTar and ModulesDir; below
// TargetsDir, what further targets made. Only one kimg at a time works on the same source with the same
// toolchain; another one waits.
//
// An *UnmetError says that the configuration did not take what was asked for, a
// *CompileError that make failed.
func Build(ctx context.Context, eng container.Engine, j Job, task *progress.Task, put Put) error {
	return onBench(ctx, eng, j, task, func(b *bench) error {
		config, err := b.build(ctx, eng, j, task)
		if err != nil {
			return err
		}
		if err := b.collect(ctx, config, put); err != nil {
			return err
		}
		if config.Get("MODULES") == "y" {
			if err := b.modules(ctx, j, put); err != nil {
				return err
			}
		}
		return b.further(ctx, j, j.jobs(eng), put)
	})
}

// build configures and compiles.
func (b *bench) build(ctx context.Context, eng container.Engine, j Job, task *progress.Task) (kconfig.Config, error) {
	text, err := b.configure(ctx, j, task)
	if err != nil {
		return nil, err
	}
	return kconfig.ParseConfig(text), b.compile(ctx, j, text, j.jobs(eng))
}

// onBench brings the job's source into its volume, opens a bench on it, and
// keeps other kimgs from it while do works there.
func onBench(ctx context.Context, eng container.Engine, j Job, task *progress.Task, do func(*bench) error) (err error) {
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
	b, err := openBench(ctx, eng, j, src, j.ObjectVolume(), task)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.c.Remove(ctx)) }()
	return do(b)
}

// configScript puts the .config of its input to $2, by way of $1, where another one
// is there, and runs $3 before.
const configScript = `cat > "$1" && { cmp -s "$1" "$2" || { eval "$3" && cp "$1" "$2"; }; }`

// compile runs make. The .config is only replaced where it differs: its time
// alone would make kbuild read all of it again.
func (b *bench) compile(ctx context.Context, j Job, config []byte, n int) error {
	before := ":"
	if slices.Contains(j.Targets, BinDeb) {
		before = startOver
	}
	err := b.exec(ctx, bytes.NewReader(config), nil, io.Discard, "sh", "-c", configScript, "sh", newConfig, objDir+"/.config", before)
	if err != nil {
		return fmt.Errorf("write .config: %w", err)
	}
	built, err := b.has(ctx, objDir+"/vmlinux")
	if err != nil {
		return err
	}
	count := newCounter(b.task, j, !built)
	var fault faults
	argv := makeArgv(b.vars, append([]string{jobs(n)}, targets(j, kconfig.ParseConfig(config))...)...)
	err = b.exec(ctx, nil, io.MultiWriter(b.task.Log(), count, &fault), io.MultiWriter(b.task.Log(), &fault), argv...)
	if err != nil {
		return fault.wrap(err)
	}
	count.remember()
	return nil
}

// artifacts are the files of the object directory that are given out, by the
// names they get.
func artifacts(c kconfig.Config) map[string]string {
	m := map[string]string{
		"arch/x86/boot/bzImage": "bzImage", "vmlinux": "vmlinux", "System.map": "System.map", ".config": "config",
	}
	if c.Get("GDB_SCRIPTS") == "y" {
		m["vmlinux-gdb.py"], m["scripts/gdb"] = "vmlinux-gdb.py", "scripts/gdb"
	}
	return m
}

// collect streams the artifacts out, links resolved: those of scripts/gdb point
// into the source.
func (b *bench) collect(ctx context.Context, c kconfig.Config, put Put) error {
	return b.give(ctx, objDir, artifacts(c), []string{"--exclude=*.cmd", "--exclude=__pycache__", "--exclude=*.d"}, put)
}

// give streams files and directories of dir out, under the names that names
// gives them.
func (b *bench) give(ctx context.Context, dir string, names map[string]string, options []string, put Put) error {
	args := slices.Concat([]string{"tar", "-C", dir, "-ch", "--hard-dereference"}, options, []string{"--null", "-T", "-"})
	list := strings.Join(slices.Sorted(maps.Keys(names)), "\x00")
	return reading.Pipe(func(w io.Writer) error {
		if err := b.said(ctx, strings.NewReader(list), w, args); err != nil {
			return fmt.Errorf("collect the kernel: %w", err)
		}
		return nil
	}, func(r io.Reader) error { return takeAll(r, names, put) })
}

// said runs a command; its error begins with the first line of what the command wrote to its standard error.
func (b *bench) said(ctx context.Context, in io.Reader, out io.Writer, args []string) error {
	var errs strings.Builder
	err := b.exec(ctx, in, out, &errs, args...)
	if err != nil {
		err = fmt.Errorf("%s: %w", firstLine(errs.String()), err)
	}
	return err
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
			return fmt.Errorf("collect the kernel: %w", err)
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
		return fmt.Errorf("collect the kernel: %w", err)
	}
	for from := range missing {
		return fmt.Errorf("collect the kernel: make ended well and left no %s", from)
	}
	return nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

package kernel

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
)

func targets(j Job, c kconfig.Config) []string {
	t := []string{j.Arch.Image}
	if c.Get("MODULES") == "y" {
		t = append(t, "modules")
	}
	if c.Get("GDB_SCRIPTS") == "y" {
		if j.Tree.Version.AtLeast(5, 1) {
			t = append(t, "scripts_gdb")
		} else {
			t = append(t, "scripts") // it had no target of its own
		}
	}
	return t
}

// TargetsDir is where the file that a further target names is given out.
const TargetsDir = "targets"

var targetRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+-]*$`)

var noTargets = []struct{ targets, why string }{
	{"deb-pkg srcdeb-pkg", "they pack the source as well, for which newer kernels want git " +
		"and older ones a writable tree; " + BinDeb + " makes the packages"},
	{"rpm-pkg binrpm-pkg srcrpm-pkg snap-pkg pacman-pkg", "the toolchain images have no tools for such packages"},
	{"dir-pkg tar-pkg targz-pkg tarbz2-pkg tarxz-pkg tarzst-pkg",
		"the times in them differ from build to build; " + ModulesTar + " is what a guest needs of them"},
	{"menuconfig nconfig xconfig gconfig config oldconfig syncconfig", "kimg config is how a configuration is changed"},
	{"clean mrproper distclean", "nothing stale is ever used; another source directory is built from scratch"},
	{"install modules_install zinstall vdso_install",
		"they install on the machine that runs them; with MODULES=y, modules are in rootfs.img"},
	{"headers_install", "it wants rsync from some versions on, which the toolchain images lack; " + BinDeb +
		" makes a linux-libc-dev of them"},
}

// CheckTarget checks a further make target: an error says why it cannot be had.
func CheckTarget(name string) error {
	if !targetRE.MatchString(name) || slices.Contains(strings.Split(name, "/"), "..") {
		return fmt.Errorf("%q is not a make target", name)
	}
	for _, n := range noTargets {
		if slices.Contains(strings.Fields(n.targets), name) {
			return fmt.Errorf("make %s: %s", name, n.why)
		}
	}
	return nil
}

// further makes the job's own targets, one after the other, and gives out each file of the object directory that a
// target names, as fs/open.i does, and the packages of BinDeb.
func (w *worker) further(ctx context.Context, j Job, n int, put Put) error {
	for _, t := range j.Targets {
		w.task.Say("make " + t)
		if t == BinDeb {
			if err := w.bindeb(ctx, j, n, put); err != nil {
				return fmt.Errorf("make %s: %w", t, err)
			}
			continue
		}
		if err := w.make(ctx, jobs(n), t); err != nil {
			return fmt.Errorf("make %s: %w", t, err)
		}
		if _, given := artifacts(w.arch, kconfig.Config{"GDB_SCRIPTS": "y"})[t]; given {
			continue
		}
		there, err := w.has(ctx, objDir+"/"+t)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if err := w.give(ctx, objDir, map[string]string{t: path.Join(TargetsDir, t)}, nil, put); err != nil {
			return err
		}
	}
	return nil
}

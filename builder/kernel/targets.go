package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/artifact"
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

// ModulesTar is the artifact that holds what modules_install installed, as lib/modules/VERSION, with depmod's
// indices: what belongs into a root filesystem. Its modules carry no debug information; those below ModulesDir do,
// for a debugger to load (lx-symbols finds them by their names).
const (
	ModulesTar = artifact.Modules
	ModulesDir = artifact.ModulesDir
)

// Modules reports whether the configuration asks for modules: no other symbol turns MODULES on.
func (c Config) Modules() bool {
	on := c.Base != VM && c.Base != Defconfig && kconfig.ParseConfig(c.File).Get("MODULES") == "y"
	for _, r := range c.Requests {
		if r.Symbol == "MODULES" {
			on = r.Value == "y"
		}
	}
	return on
}

const modulesRoot = workDir + "/" + ModulesDir

// modulesScript makes the tar $2 of what was installed below $1, the same from the same modules, with times of $3
// (seconds since 1970). build and source are links to directories that no guest has.
const modulesScript = `cd "$1" && find lib -type d -exec chmod 755 {} + && exec tar -cf "$2" \
--format=gnu --sort=name --mtime="@$3" --owner=0 --group=0 --numeric-owner \
--exclude='lib/modules/*/build' --exclude='lib/modules/*/source' lib/modules`

// maxList bounds the list of a kernel's modules, in bytes.
const maxList = 64 << 20

func (w *worker) modules(ctx context.Context, j Job, put Put) error {
	if err := w.make(ctx, "INSTALL_MOD_PATH="+modulesRoot, "INSTALL_MOD_STRIP=1", "modules_install"); err != nil {
		return fmt.Errorf("install the modules: %w", err)
	}
	err := w.run(ctx, nil, nil,
		"sh", "-c", modulesScript, "sh", modulesRoot, workDir+"/"+ModulesTar, fmt.Sprint(j.Epoch.Unix()))
	if err != nil {
		return fmt.Errorf("install the modules: %w", err)
	}
	if err := w.give(ctx, workDir, map[string]string{ModulesTar: ModulesTar}, nil, put); err != nil {
		return err
	}
	list, err := w.output(ctx, nil, maxList, "find", objDir, "-name", "*.ko", "-printf", `%P\n`)
	if err != nil {
		return fmt.Errorf("list the modules: %w", err)
	}
	names := map[string]string{}
	for name := range strings.Lines(list) {
		name = strings.TrimSuffix(name, "\n")
		names[name] = path.Join(ModulesDir, name)
	}
	if len(names) == 0 {
		return nil
	}
	return w.give(ctx, objDir, names, nil, func(name string, _ fs.FileMode, size int64, r io.Reader) error {
		return put(name, 0o644, size, r)
	})
}

// BinDeb is the make target that packs the kernel for dpkg, in an image with dpkg-dev; see Era.Target.
const BinDeb = "bindeb-pkg"

// debTools stand before the programs of their names in bindeb-pkg's PATH. They are why nothing is written to the
// source, nothing needs to be root, and the packages are the same bits each time.
//
//go:embed bindeb
var debTools embed.FS

const (
	toolsDir = workDir + "/bindeb"
	debsDir  = workDir + "/debs"
)

// debEnv is the environment of make bindeb-pkg besides the build's.
func debEnv(release string, epoch time.Time) []string {
	return []string{
		"PATH=" + toolsDir + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"KDEB_PKGVERSION=" + release + "-1", "KDEB_CHANGELOG_DIST=unstable", "KDEB_COMPRESS=xz",
		"DEBFULLNAME=kimg", "DEBEMAIL=kimg@localhost",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()),
		"DEB_RULES_REQUIRES_ROOT=no", "KIMG_DEBS=" + debsDir,
	}
}

// startOver removes all objects but kimg's own files. linux-headers has in it whatever lies in some directories,
// what another configuration left there as well. ccache still knows the objects.
const startOver = `find ` + objDir + ` -mindepth 1 -maxdepth 1 ! -name 'kimg.*' -exec rm -rf {} +`

// debPrepare unpacks the tools, and removes the debian directory of an earlier build: old kernels do not.
const debPrepare = `rm -rf "$1"/debian && mkdir -p "$2" && tar -x -C "$3"`

func (w *worker) bindeb(ctx context.Context, j Job, n int, put Put) error {
	release, err := w.output(ctx, nil, 1<<10, "cat", objDir+"/include/config/kernel.release")
	if err != nil {
		return fmt.Errorf("read the kernel's release: %w", err)
	}
	tools, err := debToolsTar()
	if err != nil {
		return err
	}
	if err := w.run(ctx, tools, nil, "sh", "-c", debPrepare, "sh", objDir, debsDir, workDir); err != nil {
		return fmt.Errorf("prepare the packing: %w", err)
	}
	pack := *w
	pack.env = append(pack.env[:len(pack.env):len(pack.env)], debEnv(strings.TrimSpace(release), j.Epoch)...)
	if err := pack.make(ctx, jobs(n), BinDeb); err != nil {
		return err
	}
	return w.giveDebs(ctx, put)
}

func (w *worker) giveDebs(ctx context.Context, put Put) error {
	list, err := w.output(ctx, nil, 1<<16, "sh", "-c", `cd "$1" && ls -1 && rm -rf "$2"/debian`, "sh", debsDir, objDir)
	if err != nil {
		return fmt.Errorf("list the packages: %w", err)
	}
	names := map[string]string{}
	for name := range strings.Lines(list) {
		name = strings.TrimSuffix(name, "\n")
		names[name] = path.Join(TargetsDir, name)
	}
	if len(names) == 0 {
		return errors.New("make succeeded and left no package")
	}
	return w.give(ctx, debsDir, names, nil, put)
}

func debToolsTar() (io.Reader, error) {
	entries, err := debTools.ReadDir("bindeb")
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		name := "bindeb/" + e.Name()
		text, err := debTools.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := putFile(tw, name, 0o755, string(text)); err != nil {
			return nil, err
		}
	}
	return &buf, tw.Close()
}

package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"time"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
)

// Where things are in every toolchain container. The paths are fixed: they are
// in vmlinux's debug information.
//
// Objects are a volume of their own that is mounted inside of the source, because
// kbuild then names headers by "../include" and not by "/kimg/src/include". With
// engines whose layers are in user space (fuse-overlayfs) every look at "/" by an
// ordinary user is a question to the engine, thousands for each object: an
// eighth of a build's processor time. Debug information names absolute paths all
// the same (see prefixMap).
const (
	srcDir    = "/kimg/src"
	objName   = ".kimg-obj"
	objDir    = srcDir + "/" + objName
	ccacheDir = "/kimg/ccache"
	workDir   = "/kimg/work"
	user      = "1000:1000"

	// newConfig is beside the .config of the last build. It has to be in the object
	// directory: the kconfig of old kernels (5.0 is one) writes a temporary file
	// where it runs and renames it, which fails from one file system to another.
	newConfig = objDir + "/kimg.config"
)

// bench is a toolchain container that waits for commands. It has no network, no
// capabilities and no new privileges, and runs nothing as root.
type bench struct {
	c    container.Container
	vars []string // variables of make's command line
	env  []string
	task *progress.Task
}

// openBench starts a bench on a source and an object volume. The source cannot
// be written to. The caller calls Remove on its container.
func openBench(ctx context.Context, eng container.Engine, j Job, src, obj string, task *progress.Task) (*bench, error) {
	c, err := eng.Create(ctx, &container.Cmd{
		Image: j.Image, User: user, Dir: workDir, Init: true,
		Args: []string{"sleep", "infinity"},
		Mounts: []container.Mount{
			{Volume: src, Target: srcDir, ReadOnly: true},
			{Volume: obj, Target: objDir},
			{Volume: j.ccache(), Target: ccacheDir},
		},
		// The compiler hands the assembler megabytes for every object. On an engine
		// whose layers are in user space (fuse-overlayfs) that is a tenth of a build.
		Tmpfs: map[string]string{"/tmp": "mode=1777,exec"},
	})
	if err != nil {
		return nil, err
	}
	b := &bench{c: c, vars: makeVars(j.Era), env: buildEnv(j), task: task}
	if err := c.Start(ctx); err != nil {
		return nil, errors.Join(err, c.Remove(ctx))
	}
	return b, nil
}

// prefixMap makes debug information name sources as /kimg/src/fs/open.c, which a
// debugger can substitute as one prefix.
const prefixMap = "-fdebug-prefix-map=..=" + srcDir + " -fdebug-prefix-map=" + objDir + "=/kimg/obj"

// makeVars are the variables that every make of an era is given.
func makeVars(e Era) []string {
	return []string{
		"O=" + objDir, "ARCH=x86_64", "KCFLAGS=" + prefixMap, "KAFLAGS=" + prefixMap,
		"CC=ccache " + e.CC, "HOSTCC=ccache " + e.CC,
	}
}

// buildEnv is the environment that the bits of a kernel depend on, and ccache's.
func buildEnv(j Job) []string {
	return []string{
		"LC_ALL=C", "TZ=UTC", "HOME=" + workDir,
		// What the kernel tells of its build in /proc/version.
		"KBUILD_BUILD_TIMESTAMP=" + j.Epoch.UTC().Format(time.UnixDate),
		"KBUILD_BUILD_USER=kimg", "KBUILD_BUILD_HOST=kimg", "KBUILD_BUILD_VERSION=1",
		// Depend mode takes the list of headers from the compiler, which kbuild
		// asks for one anyway, and spares a run of the preprocessor. It cannot see
		// that the compiler changed by its time alone, so its image says who it is.
		"CCACHE_DIR=" + ccacheDir, "CCACHE_DEPEND=1", "CCACHE_INODECACHE=1", "CCACHE_MAXSIZE=10G",
		"CCACHE_COMPILERCHECK=string:" + j.ImageID,
		// Huge pages for the compiler's memory: its garbage collector's by the image's
		// hugepages.so, malloc's by glibc, in steps of 32 MiB (a number of bytes). That
		// spares most page faults. A glibc that does not know a tunable passes it over.
		"LD_PRELOAD=/usr/lib/hugepages.so", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.top_pad=33554432",
	}
}

// makeArgv is one make command.
func makeArgv(vars []string, args ...string) []string {
	argv := []string{"sh", "-c", `umask 022; exec "$@"`, "sh", "make", "-C", srcDir}
	return append(append(argv, vars...), args...)
}

// exec runs a command on the bench.
func (b *bench) exec(ctx context.Context, in io.Reader, out, errs io.Writer, args ...string) error {
	return b.c.Exec(ctx, &container.ExecCmd{Args: args, Env: b.env, User: user, Dir: workDir,
		Stdin: in, Stdout: out, Stderr: errs})
}

// make runs one make command; what it prints goes to the step's log and, should
// it fail, into the error.
func (b *bench) make(ctx context.Context, args ...string) error {
	var fault faults
	out, errs := io.MultiWriter(b.task.Log(), &fault), io.MultiWriter(b.task.Log(), &fault)
	if err := b.exec(ctx, nil, out, errs, makeArgv(b.vars, args...)...); err != nil {
		return fault.wrap(err)
	}
	return nil
}

func code(err error) int {
	var exit *container.ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	return 0
}

// maxKconfig bounds what is read of a tree's Kconfig, in bytes; 6.12 has 6 MiB.
const maxKconfig = 64 << 20

// kconfigFiles reads the Kconfig files of the tree into memory.
func (b *bench) kconfigFiles(ctx context.Context) (kconfig.Files, error) {
	var buf bytes.Buffer
	err := b.exec(ctx, nil, limitWriter(&buf, maxKconfig), io.Discard, "sh", "-c",
		"cd "+srcDir+" && find . -path ./"+objName+" -prune -o -type f -name 'Kconfig*' -print0 | tar -c --null -T -")
	if err != nil {
		return nil, fmt.Errorf("read Kconfig files: %w", err)
	}
	files := kconfig.Files{}
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read Kconfig files: %w", err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return nil, fmt.Errorf("read Kconfig files: %w", err)
		}
		files[path.Clean(h.Name)] = data
	}
}

type limited struct {
	w    io.Writer
	left int
}

// limitWriter refuses more than n bytes.
func limitWriter(w io.Writer, n int) io.Writer { return &limited{w, n} }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("more output than a kernel tree has")
	}
	return l.w.Write(p)
}

// jobs is make's -j.
func jobs(n int) string { return "-j" + strconv.Itoa(n) }

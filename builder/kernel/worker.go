package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
)

// Where things are in every toolchain container. The paths are fixed: they are in vmlinux's debug information.
//
// Objects are a volume of their own that is mounted inside of the source, because kbuild then names headers by
// "../include" and not by "/kimg/src/include". With engines whose layers are in user space (fuse-overlayfs) every
// look at "/" by an ordinary user is a question to the engine, thousands for each object: an eighth of a build's
// processor time. Debug information names absolute paths all the same (see prefixMap).
const (
	srcDir    = "/kimg/src"
	objName   = ".kimg-obj"
	objDir    = srcDir + "/" + objName
	ccacheDir = "/kimg/ccache"
	workDir   = "/kimg/work"
	user      = "1000:1000"

	// newConfig is beside the last build's .config: the kconfig of old kernels renames a temporary file to it, which
	// fails from one file system to another.
	newConfig = objDir + "/kimg.config"
)

// worker is a toolchain container that waits for commands, without network, capabilities, new privileges and root.
type worker struct {
	container.Container
	arch arch.Arch
	vars []string // variables of make's command line
	env  []string
	task *progress.Task
}

// newWorker creates a worker that has mounts and tmpfs, and does not start it. The caller removes it.
func newWorker(ctx context.Context, eng container.Engine, j Job, task *progress.Task,
	tmpfs map[string]string, mounts ...container.Mount) (*worker, error) {
	c, err := eng.Create(ctx, &container.Cmd{
		Image: j.Image, User: user, Dir: workDir, Init: true, Args: []string{"sleep", "infinity"},
		Mounts: mounts, Tmpfs: tmpfs,
	})
	return &worker{c, j.Arch, makeVars(j), buildEnv(j), task}, err
}

// newCompiler creates the worker that compiles. It cannot write to the source.
func newCompiler(ctx context.Context, eng container.Engine, j Job, src string, task *progress.Task) (*worker, error) {
	// The compiler hands the assembler megabytes: with layers in user space (fuse-overlayfs) a tenth of a build.
	tmpfs := map[string]string{"/tmp": "mode=1777,exec"}
	return newWorker(ctx, eng, j, task, tmpfs,
		container.Mount{Volume: src, Target: srcDir, ReadOnly: true},
		container.Mount{Volume: j.ObjectVolume(), Target: objDir},
		container.Mount{Volume: j.ccache(), Target: ccacheDir})
}

// prefixMap makes debug information name sources as /kimg/src/fs/open.c: one prefix to substitute.
const prefixMap = "-fdebug-prefix-map=..=" + srcDir + " -fdebug-prefix-map=" + objDir + "=/kimg/obj"

// makeVars are variables of make's command line. Compilers and binutils have their whole names on every engine: a
// kernel says what its compiler was called, and the same one is a cross compiler elsewhere.
func makeVars(j Job) []string {
	cc := func(a arch.Arch) string { return "ccache " + a.Triplet + "-" + j.Era.CC }
	return []string{
		"O=" + objDir, "ARCH=" + j.Arch.Kernel, "KCFLAGS=" + prefixMap, "KAFLAGS=" + prefixMap,
		"CC=" + cc(j.Arch), "HOSTCC=" + cc(j.Host.Or()), "CROSS_COMPILE=" + j.Arch.Triplet + "-",
	}
}

// buildEnv is the environment that the bits of a kernel depend on, and ccache's.
func buildEnv(j Job) []string {
	return []string{
		"LC_ALL=C", "TZ=UTC", "HOME=" + workDir,
		// What the kernel says about its build in /proc/version.
		"KBUILD_BUILD_TIMESTAMP=" + j.Epoch.UTC().Format(time.UnixDate),
		"KBUILD_BUILD_USER=kimg", "KBUILD_BUILD_HOST=kimg", "KBUILD_BUILD_VERSION=1",
		// Depend mode spares a run of the preprocessor. It does not see that the compiler changed by its time alone:
		// its image says who it is.
		"CCACHE_DIR=" + ccacheDir, "CCACHE_DEPEND=1", "CCACHE_INODECACHE=1", "CCACHE_MAXSIZE=10G",
		"CCACHE_COMPILERCHECK=string:" + j.ImageID,
		// Huge pages for the compiler's memory: its garbage collector's by the image's
		// hugepages.so, malloc's by glibc, in steps of 32 MiB (a number of bytes). That
		// spares most page faults. A glibc that does not know a tunable passes it over.
		"LD_PRELOAD=/usr/lib/hugepages.so", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.top_pad=33554432",
	}
}

func makeArgv(vars []string, args ...string) []string {
	argv := []string{"sh", "-c", `umask 022; exec "$@"`, "sh", "make", "-C", srcDir}
	return append(append(argv, vars...), args...)
}

func (w *worker) exec(ctx context.Context, in io.Reader, out, errs io.Writer, args ...string) error {
	return w.Exec(ctx, &container.ExecCmd{Args: args, Env: w.env, User: user, Dir: workDir,
		Stdin: in, Stdout: out, Stderr: errs})
}

// run runs a command whose errors are no news unless it fails.
func (w *worker) run(ctx context.Context, in io.Reader, out io.Writer, args ...string) error {
	var errs beginning
	err := w.exec(ctx, in, out, &errs, args...)
	if said := firstLine(string(errs)); err != nil && said != "" {
		return fmt.Errorf("%s: %w", said, err)
	}
	return err
}

// beginning keeps the first kilobytes that are written to it.
type beginning []byte

func (b *beginning) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), max(0, 4<<10-len(*b)))]...)
	return len(p), nil
}

// output runs a command and returns what it prints, which is limit bytes at most.
func (w *worker) output(ctx context.Context, in io.Reader, limit int, args ...string) (string, error) {
	var out strings.Builder
	err := w.run(ctx, in, limitWriter(&out, limit), args...)
	return out.String(), err
}

func (w *worker) stream(ctx context.Context, in io.Reader, take func(io.Reader) error, args ...string) error {
	return reading.Pipe(func(out io.Writer) error { return w.run(ctx, in, out, args...) }, take)
}

// read returns a small file of the worker's; that there is none is fs.ErrNotExist.
func (w *worker) read(ctx context.Context, name string) ([]byte, error) {
	var out bytes.Buffer
	err := w.run(ctx, nil, &out, "sh", "-c", `test -f "$1" || exit 44; exec cat "$1"`, "sh", name)
	if code(err) == 44 {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return out.Bytes(), err
}

func (w *worker) has(ctx context.Context, name string) (bool, error) {
	err := w.run(ctx, nil, nil, "test", "-f", name)
	if code(err) == 1 {
		return false, nil
	}
	return err == nil, err
}

func (w *worker) write(ctx context.Context, name string, text []byte) error {
	return w.run(ctx, bytes.NewReader(text), nil, "sh", "-c", `exec cat > "$1"`, "sh", name)
}

// make runs one make command; what it prints goes to the step's log and, should it fail, into the error.
func (w *worker) make(ctx context.Context, args ...string) error {
	var fault faults
	out, errs := io.MultiWriter(w.task.Log(), &fault), io.MultiWriter(w.task.Log(), &fault)
	if err := w.exec(ctx, nil, out, errs, makeArgv(w.vars, args...)...); err != nil {
		return fault.wrap(err)
	}
	return nil
}

// firstLine is what an error has room for of what a command said.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

func putFile(tw *tar.Writer, name string, mode int64, text string) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(text))}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.WriteString(tw, text)
	return err
}

// code is the exit status of a command that failed; 0: it did not, or was not run.
func code(err error) int {
	var exit *container.ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	return 0
}

// maxKconfig bounds what is read of a tree's Kconfig, in bytes; 6.12 has 6 MiB.
const maxKconfig = 64 << 20

func (w *worker) kconfigFiles(ctx context.Context) (kconfig.Files, error) {
	text, err := w.output(ctx, nil, maxKconfig, "sh", "-c",
		"cd "+srcDir+" && find . -path ./"+objName+" -prune -o -type f -name 'Kconfig*' -print0 | tar -c --null -T -")
	if err != nil {
		return nil, fmt.Errorf("read Kconfig files: %w", err)
	}
	files := kconfig.Files{}
	for tr := tar.NewReader(strings.NewReader(text)); ; {
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

func limitWriter(w io.Writer, n int) io.Writer { return &limited{w, n} }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("more output than a kernel tree has")
	}
	return l.w.Write(p)
}

func jobs(n int) string { return "-j" + strconv.Itoa(n) }

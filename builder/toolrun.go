package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
)

// ToolCommand is a command for the compilers of a build, such as that of a program for its guest.
type ToolCommand struct {
	Out  string   // the build's directory
	Args []string // of the command, with itself
	// Dir is where the command's files are copied from, but for Out and .git, and what it made or changed is put.
	Dir string

	Stdin          io.Reader // nil: nothing to read
	Stdout, Stderr io.Writer // get what the command writes; nil drops it
}

const (
	toolVolume = "/kimg/work"
	toolDir    = toolVolume + "/dir"
	toolUser   = "1000:1000"
)

// Times of files are those of the kernel's clock, which stands for up to 10 ms.
const (
	toolPut = `mkdir "$0" && tar --extract --no-same-owner --directory="$0" &&
sleep 0.03 && : >"$0.stamp" && sleep 0.03`
	toolGet = `cd "$0" && find . -mindepth 1 \( -type f -o -type d -o -type l \) -cnewer "$0.stamp" -print0 |
tar --create --format=posix --no-recursion --null --verbatim-files-from --files-from=-`
)

// RunTool runs a command in a container of the toolchain that a build's kernel was compiled in, with the C library of
// its architecture. The command is an ordinary user there and has no network; its environment has CC, ARCH and
// CROSS_COMPILE as the kernel's make has them. status is the command's, 128+n when signal n ended it.
func RunTool(ctx context.Context, env Env, c ToolCommand) (status int, err error) {
	l, err := spec.NamedLock(filepath.Join(c.Out, artifact.Lock))
	if err != nil {
		return 0, err
	}
	t, err := openFor(env)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.ensureToolchain(ctx, &l.Toolchain); err != nil {
		return 0, err
	}
	eng, image, err := t.image(ctx, l.Toolchain)
	if err != nil {
		return 0, err
	}
	volume, err := container.TempVolume(ctx, eng)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, eng.RemoveVolume(ctx, volume)) }()
	k, err := eng.Create(ctx, &container.Cmd{
		Image: image, User: toolUser, Dir: toolVolume, Init: true, Args: []string{"sleep", "infinity"},
		Mounts: []container.Mount{{Volume: volume, Target: toolVolume}},
		Tmpfs:  map[string]string{"/tmp": "mode=1777,exec"},
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, k.Remove(ctx)) }()
	if err := k.Start(ctx); err != nil {
		return 0, err
	}

	out, err := filepath.Abs(c.Out)
	if err != nil {
		return 0, err
	}
	inside := func(in io.Reader, out io.Writer, script string) error {
		var said strings.Builder
		err := k.Exec(ctx, &container.ExecCmd{Args: []string{"sh", "-c", script, toolDir}, User: toolUser,
			Dir: toolVolume, Stdin: in, Stdout: out, Stderr: &said})
		if err != nil && said.Len() > 0 {
			line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
			return fmt.Errorf("%w: %s", err, line)
		}
		return err
	}
	err = reading.Pipe(func(w io.Writer) error { return packDir(ctx, c.Dir, out, w) },
		func(r io.Reader) error { return inside(r, nil, toolPut) })
	if err != nil {
		return 0, fmt.Errorf("give %s to the command: %w", c.Dir, err)
	}
	// The shell's words and status for a command that there is not are the same with every engine.
	err = k.Exec(ctx, &container.ExecCmd{Args: append([]string{"sh", "-c", `exec "$@"`, "kimg"}, c.Args...),
		User: toolUser, Dir: toolDir, Env: toolEnv(l), Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr})
	var exit *container.ExitError
	if errors.As(err, &exit) {
		status = exit.Code
	} else if err != nil {
		return 0, fmt.Errorf("run %s: %w", c.Args[0], err)
	}
	err = reading.Pipe(func(w io.Writer) error { return inside(nil, w, toolGet) },
		func(r io.Reader) error { return t.takeBack(ctx, c.Dir, r) })
	if err != nil {
		return status, fmt.Errorf("take what the command made into %s: %w", c.Dir, err)
	}
	return status, nil
}

// toolEnv is what makefiles, the kernel's and others, go by.
func toolEnv(l *spec.Lock) []string {
	return []string{
		"HOME=" + toolVolume, "LC_ALL=C.UTF-8", "TZ=UTC",
		"ARCH=" + l.Arch.Or().Kernel, "CROSS_COMPILE=" + l.Arch.Or().Triplet + "-",
		"CC=" + l.Arch.Or().Triplet + "-" + l.Toolchain.Compiler,
	}
}

// packDir writes a tar of a directory's files, directories and links, but for those in out and in .git.
func packDir(ctx context.Context, dir, out string, w io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if d.IsDir() && (name == ".git" || filepath.Join(abs, name) == out) && name != "." {
			return fs.SkipDir
		}
		return packFile(root, name, d, tw)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func packFile(root *os.Root, name string, d fs.DirEntry, tw *tar.Writer) error {
	st, err := d.Info()
	if err != nil || name == "." || st.Mode()&^(fs.ModeDir|fs.ModeSymlink|fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|
		fs.ModeSticky) != 0 { // a socket, a device
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode().Perm() | 0o200), ModTime: st.ModTime(), Format: tar.FormatPAX}
	switch st.Mode().Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", h.Mode|0o700
		return tw.WriteHeader(h)
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(name); err != nil {
			return err
		}
		return tw.WriteHeader(h)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, st.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(tw, f, h.Size)
	return err
}

// takeBack puts a tar's files, directories and links into dir, in the place of those of their names. Nothing lands
// elsewhere; a link that leads out of it is left out, and said.
func (t *tools) takeBack(ctx context.Context, dir string, r io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return reading.Tar(ctx, r, func(name string, h *tar.Header, content io.Reader) error {
		switch h.Typeflag {
		case tar.TypeDir:
			return root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			if path.IsAbs(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), h.Linkname)) {
				progress.Warn(t.env.Sink, fmt.Sprintf("%s is a link to %s, out of the directory: left out", name,
					h.Linkname))
				return nil
			}
			return inPlace(root, name, func(fresh string) error { return root.Symlink(h.Linkname, fresh) })
		case tar.TypeReg:
			return inPlace(root, name, func(fresh string) error { return writeFile(root, fresh, h, content) })
		}
		return nil
	})
}

// inPlace makes a file beside its place, and renames it.
func inPlace(root *os.Root, name string, mk func(fresh string) error) error {
	fresh := name + ".kimg-new"
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // one that was killed left it
		return err
	}
	err := mk(fresh)
	if err == nil {
		err = root.Rename(fresh, name)
	}
	if err != nil {
		if gone := root.Remove(fresh); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

func writeFile(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, h.ModTime)
}

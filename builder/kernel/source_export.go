package kernel

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
)

// Where debug information says that sources are: those of the tree, and those
// that the build generated (see prefixMap). Both are fixed.
const (
	DebugSource    = srcDir
	DebugGenerated = "/kimg/obj"
)

// SourceExport says where tools of this machine are to find what was compiled.
type SourceExport struct {
	Source    string // directory that the tree is written to; with Have, where it is
	Have      bool   // it is there already: the user's own directory
	Generated string // directory that headers and sources of the build are written to
}

// ExportSource writes the source as it was compiled, and returns the content of a compile_commands.json that speaks
// of it. It compiles what is missing. Each directory is replaced whole, or left as it was.
func ExportSource(ctx context.Context, eng container.Engine, j Job, e SourceExport, task *progress.Task) (
	commands []byte, err error) {
	err = onWorker(ctx, eng, j, task, func(w *worker) error {
		if _, err := w.build(ctx, eng, j, task); err != nil {
			return err
		}
		if !e.Have {
			err := w.unpackTo(ctx, e.Source, "tar", "-C", srcDir, "-c",
				"--exclude=./"+objName, "--exclude=./"+patchDir, "--exclude=./"+sourceMark, ".")
			if err != nil {
				return fmt.Errorf("export the source: %w", err)
			}
		}
		if err := w.unpackTo(ctx, e.Generated, "sh", "-c", generatedScript, "sh", objDir); err != nil {
			return fmt.Errorf("export what was generated: %w", err)
		}
		commands, err = w.commands(ctx, e)
		return err
	})
	return commands, err
}

// generatedScript makes a tar of what a build generates and compiles: headers,
// sources, and the configuration as make reads it.
const generatedScript = `cd "$1" &&
find . -type f \( -name '*.[chS]' -o -name '*.inc' -o -name auto.conf \) ! -name '*.mod.c' -print0 |
sort -z | tar -c --null -T -`

// commandsScript prints the lines of .cmd files that may compile something.
const commandsScript = `cd "$1" && find . -name '.*.o.cmd' ! -path './scripts/*' ! -path './tools/*' -print0 |
sort -z | xargs -0 -r grep -h -E '^(saved)?cmd_[^ ]*\.o := '`

// maxCommands bounds what is read of .cmd files, in bytes; a distribution's kernel of 6.12 has some 60 MB.
const maxCommands = 512 << 20

func (w *worker) commands(ctx context.Context, e SourceExport) ([]byte, error) {
	lines, err := w.output(ctx, nil, maxCommands, "sh", "-c", commandsScript, "sh", objDir)
	if err != nil {
		return nil, fmt.Errorf("read kbuild's .cmd files: %w", err)
	}
	list, err := compileCommands(strings.NewReader(lines), e.Source, e.Generated)
	if err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(list, "", " ")
	return append(out, '\n'), err
}

func (w *worker) unpackTo(ctx context.Context, dir string, args ...string) (err error) {
	fresh := dir + ".kimg-new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return err
	}
	take := func(r io.Reader) error { return unpack(ctx, r, fresh) }
	if err := w.stream(ctx, nil, take, args...); err != nil {
		return err
	}
	old := dir + ".kimg-old"
	if err := errors.Join(os.RemoveAll(old), notThere(os.Rename(dir, old)), os.Rename(fresh, dir)); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

func notThere(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// unpack writes a tar's files, directories and links below dir; nothing lands
// elsewhere, whatever the tar says. Links that point out of the tree are left out.
func unpack(ctx context.Context, r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if name == "." {
			continue
		}
		name = filepath.FromSlash(name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			if escapes(path.Clean(h.Name), h.Linkname) {
				continue
			}
			if err = root.MkdirAll(filepath.Dir(name), 0o755); err == nil {
				err = root.Symlink(h.Linkname, name)
			}
		case tar.TypeReg:
			if err = root.MkdirAll(filepath.Dir(name), 0o755); err == nil {
				err = unpackFile(root, name, h, tr)
			}
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
}

func unpackFile(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm()&0o755|0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// gdbWord keeps a path one word in gdb's command language, which takes a backslash
// before any character for that character.
var gdbWord = strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", `"`, `\"`, `'`, `\'`)

// GDBHeader begins every script of GDBScript.
const GDBHeader = "# Written by kimg"

// GDBScript is a gdb script that finds the sources of a vmlinux that was built
// here: source and generated are their directories, "" where there are none.
func GDBScript(source, generated string) []byte {
	var b strings.Builder
	b.WriteString(GDBHeader + ": where this kernel's sources are. gdb -x kimg.gdb vmlinux\n")
	for _, m := range [][2]string{{DebugSource, source}, {DebugGenerated, generated}} {
		if m[1] != "" {
			fmt.Fprintf(&b, "set substitute-path %s %s\n", m[0], gdbWord.Replace(m[1]))
		}
	}
	return []byte(b.String())
}

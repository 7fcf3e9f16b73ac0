package kernel

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/lettercase"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
)

// Where debug information says that sources are: the tree's, and those that the build generated (see prefixMap).
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

// generatedScript makes a tar of the headers and sources that a build makes, and of auto.conf.
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
	return reading.Tar(ctx, r, func(clean string, h *tar.Header, content io.Reader) (err error) {
		name := filepath.FromSlash(clean)
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			if escapes(clean, h.Linkname) {
				return nil
			}
			if err = root.MkdirAll(filepath.Dir(name), 0o755); err == nil {
				err = root.Symlink(h.Linkname, name)
			}
		case tar.TypeReg:
			if err = root.MkdirAll(filepath.Dir(name), 0o755); err == nil {
				err = unpackFile(root, name, h, content)
			}
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		return nil
	})
}

func unpackFile(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm()&0o755|0o644)
	if errors.Is(err, fs.ErrExist) {
		if folds, bad := lettercase.Folds(root.Name()); bad == nil && folds {
			return &lettercase.Error{Dir: root.Name(), One: name}
		}
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// gdbWord keeps a path one word in gdb's command language.
var gdbWord = strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", `"`, `\"`, `'`, `\'`)

// GDBHeader begins every script of GDBScript.
const GDBHeader = "# Written by kimg"

// GDBScript is a gdb script that finds a vmlinux's sources: "" where there are none.
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

// Command is an entry of compile_commands.json (https://clang.llvm.org/docs/JSONCompilationDatabase.html).
type Command struct {
	Directory string   `json:"directory"`
	File      string   `json:"file"`
	Arguments []string `json:"arguments"`
	Output    string   `json:"output"`
}

// commandRE is the line of a .cmd file that kbuild writes beside an object; its prefix is savedcmd_ from 6.3 on.
var commandRE = regexp.MustCompile(`^(?:saved)?cmd_(\S+\.o) := (.*)$`)

// compileCommands reads the lines of kbuild's .cmd files and returns how each object was compiled, in the words of
// another machine: src is where it has the source, obj where it has what was generated. The tree's own
// gen_compile_commands.py wants 4.20 and Python, and knows the container's paths alone.
func compileCommands(lines io.Reader, src, obj string) ([]Command, error) {
	var all []Command
	sc := bufio.NewScanner(lines)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		m := commandRE.FindStringSubmatch(sc.Text())
		if m == nil {
			continue
		}
		words := compileWords(m[2])
		if len(words) < 2 {
			continue
		}
		file := words[len(words)-1]
		if ext := path.Ext(file); ext != ".c" && ext != ".S" {
			continue
		}
		c := Command{Directory: obj, File: onHost(file, src, obj), Output: m[1]}
		for _, w := range words {
			if !oursRE.MatchString(w) {
				c.Arguments = append(c.Arguments, argumentOnHost(w, src, obj))
			}
		}
		if !path.IsAbs(c.File) {
			c.File = path.Join(obj, c.File)
		}
		all = append(all, c)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read kbuild's .cmd files: %w", err)
	}
	return all, nil
}

// compileWords splits a command as a shell does and returns the compiler's part: from the compiler to the first
// ";", without ccache before it. make's own escapes are undone.
func compileWords(command string) []string {
	command = strings.NewReplacer("$(pound)", "#", "$$", "$").Replace(command)
	var words []string
	var word strings.Builder
	in, quote := false, byte(0)
	end := func() {
		if in {
			words = append(words, word.String())
		}
		word.Reset()
		in = false
	}
	for i := 0; i < len(command); i++ {
		c := command[i]
		switch {
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(command):
			i++
			word.WriteByte(command[i])
			in = true
		case quote == 0 && (c == ' ' || c == '\t'):
			end()
		case quote == 0 && (c == ';' || c == '&' || c == '|'):
			end()
			i = len(command)
		default:
			word.WriteByte(c)
			in = true
		}
	}
	end()
	if len(words) > 0 && words[0] == "ccache" {
		words = words[1:]
	}
	if !strings.Contains(strings.Join(words, " "), " -c ") {
		return nil
	}
	return words
}

// oursRE are arguments of kimg's own, lists of headers, and what clang does not take from a gcc command.
var oursRE = regexp.MustCompile(`^-(` +
	`f(debug|macro|file)-prefix-map=|Wp,-MM?D,|fconserve-stack$|f(no-)?allow-store-data-races$|` +
	`mpreferred-stack-boundary=|mindirect-branch|mfunction-return=|mrecord-mcount$|mskip-rax-setup$|` +
	`fmin-function-alignment=|fno-var-tracking-assignments$|fno-ipa-|fno-partial-inlining$|fplugin|` +
	`mharden-sls=|falign-jumps=|falign-loops=)`)

func argumentOnHost(word, src, obj string) string {
	for _, option := range []string{"-I", "-include", "-isystem", "-iquote"} {
		if rest, ok := strings.CutPrefix(word, option); ok && rest != "" {
			return option + onHost(rest, src, obj)
		}
	}
	if strings.HasPrefix(word, "-") {
		return word
	}
	return onHost(word, src, obj)
}

// onHost is a path of the container on the other machine; what is relative to the objects stays so.
func onHost(name, src, obj string) string {
	for _, m := range []struct{ from, to string }{{objDir, obj}, {srcDir, src}, {"..", src}, {"./..", src}} {
		if rest, ok := strings.CutPrefix(name, m.from); ok && (rest == "" || rest[0] == '/') {
			return m.to + rest
		}
	}
	return name
}

package kernel

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// Command is one entry of a compile_commands.json, as
// https://clang.llvm.org/docs/JSONCompilationDatabase.html has it.
type Command struct {
	Directory string   `json:"directory"`
	File      string   `json:"file"`
	Arguments []string `json:"arguments"`
	Output    string   `json:"output"`
}

// commandRE is the line of a .cmd file that kbuild writes beside an object; its prefix is savedcmd_ from 6.3 on.
var commandRE = regexp.MustCompile(`^(?:saved)?cmd_(\S+\.o) := (.*)$`)

// compileCommands reads the lines of kbuild's .cmd files and returns how each object was compiled, in the words of
// another machine: src is where it has the source, obj where it has what the build generated. Lines that compile
// nothing are passed over.
//
// It does what the tree's own gen_compile_commands.py does, which a tree before
// 4.20 lacks, which wants Python, and which knows the container's paths alone.
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
			if !ours(w) {
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

// oursRE are arguments that say nothing of the source: what kimg adds, where
// lists of headers go, and what clang does not take from a gcc command.
var oursRE = regexp.MustCompile(`^-(` +
	`f(debug|macro|file)-prefix-map=|Wp,-MM?D,|fconserve-stack$|f(no-)?allow-store-data-races$|` +
	`mpreferred-stack-boundary=|mindirect-branch|mfunction-return=|mrecord-mcount$|mskip-rax-setup$|` +
	`fmin-function-alignment=|fno-var-tracking-assignments$|fno-ipa-|fno-partial-inlining$|fplugin|` +
	`mharden-sls=|falign-jumps=|falign-loops=)`)

func ours(word string) bool { return oursRE.MatchString(word) }

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

// onHost is a path of the object directory's container on the other machine. One
// that is relative to the object directory stays so.
func onHost(name, src, obj string) string {
	for _, m := range []struct{ from, to string }{{objDir, obj}, {srcDir, src}, {"..", src}, {"./..", src}} {
		if rest, ok := strings.CutPrefix(name, m.from); ok && (rest == "" || rest[0] == '/') {
			return m.to + rest
		}
	}
	return name
}

package kernel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompileCommands(t *testing.T) {
	tests := []struct {
		name, line, file string
		args             string // joined by |; empty: no command
	}{
		{"6.12", `savedcmd_fs/open.o := ccache gcc-14 -Wp,-MMD,fs/.open.o.d -nostdinc -I../arch/x86/include ` +
			`-I./arch/x86/include/generated -I../include -I./include -include ../include/linux/kconfig.h ` +
			`-D__KERNEL__ -fdebug-prefix-map=..=/kimg/src -std=gnu11 -fconserve-stack  -DKBUILD_MODFILE='"fs/open"' ` +
			`-DKBUILD_BASENAME='"open"' -c -o fs/open.o ../fs/open.c  ; ./tools/objtool/objtool --orc fs/open.o`,
			"/src/fs/open.c", `gcc-14|-nostdinc|-I/src/arch/x86/include|-I./arch/x86/include/generated|` +
				`-I/src/include|-I./include|-include|/src/include/linux/kconfig.h|-D__KERNEL__|-std=gnu11|` +
				`-DKBUILD_MODFILE="fs/open"|-DKBUILD_BASENAME="open"|-c|-o|fs/open.o|/src/fs/open.c`},
		{"5.0", `cmd_kernel/fork.o := gcc-9 -Wp,-MD,kernel/.fork.o.d ` +
			`-isystem /usr/lib/gcc/x86_64-linux-gnu/9/include -I/kimg/src/include -DA="a b" -DB=\"b\" ` +
			`-DP=$(pound)$$x -c -o kernel/fork.o /kimg/src/kernel/fork.c`,
			"/src/kernel/fork.c", `gcc-9|-isystem|/usr/lib/gcc/x86_64-linux-gnu/9/include|-I/src/include|` +
				`-DA=a b|-DB="b"|-DP=#$x|-c|-o|kernel/fork.o|/src/kernel/fork.c`},
		{"a generated source", `savedcmd_kernel/x.o := gcc -c -o kernel/x.o kernel/x.c`, "/obj/kernel/x.c",
			"gcc|-c|-o|kernel/x.o|kernel/x.c"},
		{"assembler", `savedcmd_a.o := gcc -D__ASSEMBLY__ -c -o a.o ../a.S`, "/src/a.S",
			"gcc|-D__ASSEMBLY__|-c|-o|a.o|/src/a.S"},
		{"a name that only begins so", `savedcmd_a.o := gcc -I/kimg/srcs -I..x -c -o a.o ../a.c`, "/src/a.c",
			"gcc|-I/kimg/srcs|-I..x|-c|-o|a.o|/src/a.c"},
		{"a link", `savedcmd_fs/built-in.a := rm -f fs/built-in.a; ar cDPrST fs/built-in.a fs/open.o`, "", ""},
		{"an object of objects", `savedcmd_drivers/x.o := ld -r -o drivers/x.o @drivers/x.mod`, "", ""},
		{"another line", `deps_fs/open.o := \`, "", ""},
		{"nothing", `savedcmd_a.o := `, "", ""},
	}
	for _, tt := range tests {
		got, err := compileCommands(strings.NewReader(tt.line+"\n"), "/src", "/obj")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if tt.args == "" {
			if len(got) > 0 {
				t.Errorf("%s: got %v", tt.name, got)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: %d commands", tt.name, len(got))
			continue
		}
		if got[0].Directory != "/obj" || got[0].File != tt.file {
			t.Errorf("%s: %s in %s", tt.name, got[0].File, got[0].Directory)
		}
		if diff := cmp.Diff(tt.args, strings.Join(got[0].Arguments, "|")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func FuzzCompileCommands(f *testing.F) {
	f.Add("savedcmd_a.o := gcc -DX='\"a\"' -c -o a.o ../a.c ; x")
	f.Add("cmd_a.o := gcc \\")
	f.Fuzz(func(t *testing.T, line string) {
		got, err := compileCommands(strings.NewReader(line), "/src", "/obj")
		for _, c := range got {
			if err == nil && (len(c.Arguments) < 2 || c.File == "") {
				t.Errorf("%q: %v", line, c)
			}
		}
	})
}

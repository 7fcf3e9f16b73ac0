package image

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/sandbox/foreign"
	"github.com/kimg/kimg/internal/suite"
)

// What changes a tree changes the digest, and what is only read by people does not.
func TestRootfsInputs(t *testing.T) {
	s, err := suite.Parse("trixie")
	if err != nil {
		t.Fatal(err)
	}
	was := RootfsInputs(s, arch.Default)
	defer func(script string, r []rule) { bootstrapScript, rules = script, r }(bootstrapScript, rules)
	script, all := bootstrapScript, rules
	with := func(r rule) []rule { return append(slices.Clone(all), r) }
	for _, c := range []struct {
		name    string
		script  string
		rules   []rule
		changes bool
	}{
		{"nothing", script, all, false},
		{"a reason", script, append([]rule{{all[0].pattern, all[0].do, "another reason"}}, all[1:]...), false},
		{"a comment", strings.Replace(script, "\n# ", "\n# It is said that ", 1), all, false},
		{"a command", script + "sync\n", all, true},
		{"a rule", script, with(rule{"etc/more", drop, "more"}), true},
		{"what a rule does", script, append([]rule{{all[0].pattern, empty, all[0].why}}, all[1:]...), true},
	} {
		bootstrapScript, rules = c.script, c.rules
		if c.name == "a comment" && c.script == script {
			t.Fatal("the script has no comment")
		}
		if got := RootfsInputs(s, arch.Default) != was; got != c.changes {
			t.Errorf("%s: the digest changed: %v", c.name, got)
		}
	}
}

// Another architecture's tree is made with an emulator, which is no news to the default one's.
func TestForeignRootfsInputs(t *testing.T) {
	s, err := suite.Parse("trixie")
	if err != nil {
		t.Fatal(err)
	}
	digests := func() map[Digest]bool {
		m := map[Digest]bool{}
		for _, a := range arch.All {
			m[RootfsInputs(s, a)] = true
		}
		return m
	}
	was := digests()
	if len(was) != len(arch.All) || !was[RootfsInputs(s, Arch{})] {
		t.Errorf("%d digests of %d architectures", len(was), len(arch.All))
	}
	defer func(script string) { emulateScript = script }(emulateScript)
	emulateScript += "sync\n"
	if now := digests(); !now[RootfsInputs(s, arch.Default)] || !was[RootfsInputs(s, arch.Default)] ||
		was[RootfsInputs(s, arch.ARM64)] {
		t.Error("another emulate.sh is another input of foreign trees alone")
	}
	const arm = `:kimg:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:` +
		`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64:PF`
	if got := foreign.Format(arch.ARM64); got != arm {
		t.Errorf("binfmt_misc is told %s", got)
	}
}

// The console that logs root in is the architecture's.
func TestEditsNameTheConsole(t *testing.T) {
	other := arch.AMD64
	other.Console = "ttyAMA0"
	for want, a := range map[string]arch.Arch{"ttyS0": {}, "ttyAMA0": other} {
		spec := DiskSpec{Arch: a, Epoch: time.Unix(1, 0)}
		file := spec.edits()[0].(ext4.WriteFile).Path
		if file != "/etc/systemd/system/serial-getty@"+want+".service.d/autologin.conf" {
			t.Errorf("%s: %s", want, file)
		}
	}
}

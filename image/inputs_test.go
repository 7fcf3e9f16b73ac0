package image

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/suite"
)

// What changes a tree changes the digest, and what is only read by people does not.
func TestRootfsInputs(t *testing.T) {
	s, err := suite.Parse("trixie")
	if err != nil {
		t.Fatal(err)
	}
	was := RootfsInputs(s)
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
		if got := RootfsInputs(s) != was; got != c.changes {
			t.Errorf("%s: the digest changed: %v", c.name, got)
		}
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

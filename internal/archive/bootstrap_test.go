package archive

import (
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/suite"
)

func TestClosure(t *testing.T) {
	list := []string{
		stanza("base-files", "Priority: required", "Pre-Depends: awk", "Depends: usrmerge, libx (>= 1)"),
		stanza("mawk", "Provides: awk"),
		stanza("libx", "Depends: liby | libz, only:any (>= 2) , virtual"),
		stanza("liby"), stanza("libz"), stanza("only"), stanza("usrmerge"), stanza("usr-is-merged"),
		stanza("provider", "Provides: virtual"),
		stanza("apt", "Depends: libx, keyring"), stanza("keyring"),
		stanza("cron", "Priority: important", "Depends: tz"), stanza("tz"),
		stanza("extra", "Depends: base-files, tz"),
		stanza("demoted 1", "Priority: required"), stanza("demoted 2", "Priority: optional"),
	}
	for _, c := range []struct{ suite, variant, include, required, base string }{
		{"trixie", "minbase", "", "base-files libx liby only", "apt keyring"},
		{"bookworm", "minbase", "", "base-files libx liby only usr-is-merged", "apt keyring"},
		{"bullseye", "minbase", "", "base-files libx liby only usrmerge", "apt keyring"},
		{"jammy", "minbase", "", "base-files libx liby only usrmerge", "apt keyring"},
		{"trixie", "standard", "", "base-files libx liby only", "cron tz"},
		{"trixie", "minbase", "extra libz base-files", "base-files libx liby only", "apt extra keyring libz tz"},
		{"trixie", "minbase", "usrmerge", "base-files libx liby only", "apt keyring usrmerge"},
	} {
		s, _ := suite.Parse(c.suite)
		b, err := indexOf(t, list...).Closure(ClosureSpec{s, Variant(c.variant), strings.Fields(c.include)})
		if err != nil || names(b.Required) != c.required || names(b.Base) != c.base {
			t.Errorf("%s %s +%s: %q, %q, %v", c.suite, c.variant, c.include, names(b.Required), names(b.Base), err)
		}
	}
	for include, want := range map[string]string{"nothing": `no package "nothing"`,
		"virtual": "provides it: provider"} {
		_, err := indexOf(t, list...).Closure(ClosureSpec{trixie(t), Minbase, []string{include}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("including %s: %v", include, err)
		}
	}
	if _, err := indexOf(t, list...).Closure(ClosureSpec{trixie(t), "buildd", nil}); err == nil {
		t.Error("an unknown variant is accepted")
	}
}

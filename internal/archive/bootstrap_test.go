package archive

import (
	"errors"
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

// TestClosureClash includes what cannot be beside the suite's own packages, which dpkg would say minutes later.
func TestClosureClash(t *testing.T) {
	list := []string{
		stanza("apt", "Depends: systemd-sysv"), stanza("systemd-sysv", "Conflicts: sysvinit-core"),
		stanza("sysvinit-core"), stanza("init-thing", "Depends: sysvinit-core"),
		stanza("odd", "Breaks: apt (<< 0)", "Provides: mta", "Conflicts: mta"), stanza("mta2", "Provides: mta"),
		stanza("quarrel", "Priority: required", "Conflicts: other"), stanza("other", "Priority: required"),
	}
	for include, want := range map[string]string{
		"sysvinit-core": "systemd-sysv excludes sysvinit-core", "init-thing": "systemd-sysv excludes sysvinit-core",
		"odd": "", "odd mta2": "odd excludes mta2", "": "",
	} {
		_, err := indexOf(t, list...).Closure(ClosureSpec{trixie(t), Minbase, strings.Fields(include)})
		var clash *ClashError
		if want == "" && err != nil || want != "" && (!errors.As(err, &clash) ||
			err.Error() != "not all of these packages can be there: "+want) {
			t.Errorf("including %q: %v, want %s", include, err, want)
		}
		if clash != nil && strings.HasSuffix(clash.Hint(), ": ") { // nobody is found who asked for one
			t.Errorf("the hint ends with nothing: %q", clash.Hint())
		}
	}
	for include, want := range map[string]string{
		"init-thing": "(systemd-sysv is in every guest; sysvinit-core is there for init-thing), " +
			"leave init-thing out of --include: kimg's guests start systemd",
		"odd mta2=1": "odd excludes mta2, leave one of them out of --include: mta2, odd",
	} {
		own := strings.Fields(include)
		_, err := indexOf(t, list...).Closure(ClosureSpec{trixie(t), Minbase, append(own, "systemd-sysv")})
		var clash *ClashError
		if !errors.As(err, &clash) {
			t.Fatalf("including %q: %v", include, err)
		}
		if clash.Found(own, []string{"systemd-sysv"}); !strings.Contains(err.Error()+", "+clash.Hint(), want) {
			t.Errorf("including %q: %v, %s; want %s", include, err, clash.Hint(), want)
		}
	}
}

// TestClosureVersion includes one version of a package, as apt names it.
func TestClosureVersion(t *testing.T) {
	own := []string{stanza("apt 1"), stanza("tool 1", "Depends: libtool (= 1)"), stanza("libtool 1"), stanza("plain 3")}
	more := []string{stanza("tool 2", "Depends: libtool (= 2)"), stanza("libtool 2"), stanza("lib 1")}
	late := []string{stanza("tool 9~bpo1", "Depends: libtool")}
	for include, want := range map[string]string{
		"tool":             "apt=1 libtool=2 tool=2",
		"tool=2":           "apt=1 libtool=2 tool=2",
		"tool tool=9~bpo1": "apt=1 libtool=2 tool=9~bpo1",
		"tool=1 libtool=1": "apt=1 libtool=1 tool=1",
		"tool=1": "install tool: it depends on libtool (= 1) (libtool is 2, of archive more): " +
			"include libtool=1, too",
		"plain=3": "apt=1 plain=3",
		"plain=4": "include plain=4: there is no such version: the suite has 3",
		"mine=1":  "apt=1 mine=1",
		"mine=2":  "include mine=2: there is no such version: a file of yours has 1",
		"tool=3": "include tool=3: there is no such version: the archive more has 2, the suite has 1, " +
			"the archive late has 9~bpo1",
		"toool=1": `find packages: the suite has no package "toool", and no other archive has it ` +
			"(did you mean tool?)",
	} {
		back := from("late", indexOf(t, late...))
		back.late = true
		x, err := Join(indexOf(t, own...), []File{file(t, "mine 1")}, from("more", indexOf(t, more...)), back)
		if err != nil {
			t.Fatal(err)
		}
		b, err := x.Closure(ClosureSpec{trixie(t), Minbase, strings.Fields(include)})
		var got []string
		for _, p := range b.Base {
			got = append(got, p.Name+"="+p.Version)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s:\ngot  %s\nwant %s", include, strings.Join(got, " "), want)
		}
		if p, _ := x.Lookup("tool"); p.Version != "2" {
			t.Errorf("%s: the index itself has now %s", include, p.Version)
		}
	}
	var none *VersionError
	_, err := indexOf(t, own...).Closure(ClosureSpec{trixie(t), Minbase, []string{"plain=4"}})
	if !errors.As(err, &none) {
		t.Errorf("in the suite alone: %v", err)
	}
}

func TestDescribeMissing(t *testing.T) {
	x := indexOf(t, stanza("openssh-server"), stanza("gcc-12"), stanza("gcc-14"), stanza("python3"), stanza("strace"))
	x.components = []string{"main"}
	for name, want := range map[string]string{
		"opensh-server":    `the suite has no package "opensh-server" in main (did you mean openssh-server?)`,
		"gcc-13":           `the suite has no package "gcc-13" in main (did you mean gcc-12 or gcc-14?)`,
		"python":           `the suite has no package "python" in main (did you mean python3?)`,
		"firmware-atheros": `the suite has no package "firmware-atheros" in main`,
	} {
		if got := x.describeMissing(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

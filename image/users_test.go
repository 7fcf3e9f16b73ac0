package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/custom"
)

// withAccounts is guestTree with what accounts, keys, units and locales are made from.
func withAccounts(t *testing.T) Tree {
	t.Helper()
	owned := func(i item, uid int, mode int64) item {
		return change(i, func(h *tar.Header) { h.Uid, h.Gid, h.Mode = uid, uid, mode })
	}
	return func() (io.ReadCloser, error) {
		b := makeTar(t, base(
			dir("./usr"), dir("./usr/bin"), owned(reg("./usr/bin/bash", "ELF"), 0, 0o755), symlink("./bin", "usr/bin"),
			reg("./usr/bin/data", "no program"),
			dir("./etc/skel"), reg("./etc/skel/.profile", "umask 022\n"), dir("./etc/skel/.config"),
			reg("./etc/skel/.config/x", "x\n"), reg("./etc/skel/.bashrc", "skel's\n"),
			owned(dir("./root"), 0, 0o700), dir("./home"), dir("./srv"), owned(dir("./srv/open"), 0, 0o777),
			reg("./etc/passwd", "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/srv:/bin/sh\n"+
				"old:x:1000:1000::/nonexistent:/bin/sh\n"),
			reg("./etc/group", "root:x:0:\nsudo:x:27:\nkvm:x:101:root\nold:x:1000:\nodd:x:1500:\n"),
			reg("./etc/gshadow", "root:*::\nsudo:*::\nkvm:!::root\nold:!::\nodd:!::\n"),
			dir("./usr/lib"), dir("./usr/lib/systemd"), dir("./usr/lib/systemd/system"), symlink("./lib", "usr/lib"),
			reg("./usr/lib/systemd/system/ssh.service", "[Service]\n[Install]\nWantedBy=multi-user.target\n"),
			reg("./usr/lib/systemd/system/fstrim.timer", "[Timer]\n[Install]\nWantedBy=timers.target\n"),
			reg("./usr/lib/systemd/system/static.service", "[Service]\n"),
			reg("./usr/lib/systemd/system/getty@.service", "[Service]\n"),
			dir("./usr/lib/systemd/system/getty@.service.d"),
			reg("./usr/lib/systemd/system/getty@.service.d/x.conf", "[Install]\nDefaultInstance=tty1\n"),
			dir("./etc/systemd"), dir("./etc/systemd/system"),
			symlink("./etc/systemd/system/fstrim.timer", "/dev/null"),
			dir("./usr/share"), dir("./usr/share/i18n"),
			reg("./usr/share/i18n/SUPPORTED", "de_DE.UTF-8 UTF-8\nde_DE ISO-8859-1\nde_AT.UTF-8 UTF-8\n"),
			reg("./etc/locale.gen", "# de_DE.UTF-8 UTF-8\n"),
			dir("./etc/default"), symlink("./etc/default/locale", "../locale.conf"),
			reg("./etc/locale.conf", "LANG=C\n"),
		)...)
		return io.NopCloser(bytes.NewReader(b)), nil
	}
}

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@example.org"

func accountsOf(t *testing.T, c Custom, from Packages) (*tree, error) {
	t.Helper()
	var out bytes.Buffer
	if err := (Maker{}).Customise(t.Context(), CustomSpec{Custom: c, Epoch: epoch}, withAccounts(t), from,
		&out); err != nil {
		return nil, err
	}
	got, err := readTar(&out, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { got.close() })
	return got, nil
}

func TestUsers(t *testing.T) {
	store := packed{}
	over := write(t, "home/ann/.bashrc", "home/ann/src/x", "home/other/y")
	got, err := accountsOf(t, Custom{
		Overlays: []custom.Overlay{store.add(t, over)},
		Users: []custom.User{
			{Name: "ann", Groups: []string{"sudo", "kvm"}},
			{Name: "bob", UID: 1500, Shell: "/usr/bin/bash", Home: "/srv/bob", Password: "none"},
			{Name: "web", UID: 34, Home: "/srv", Password: "$6$salt$0123456789abcdef0123"},
		},
		AuthorizedKeys: []custom.Keys{{User: "root", Keys: []string{publicKey}},
			{User: "ann", Keys: []string{publicKey, publicKey + " again"}}},
		Files: []custom.File{{Path: "/home/ann/own", Mode: 0o644, Owner: "ann"}},
	}, store)
	if err != nil {
		t.Fatal(err)
	}
	text := func(name string) string {
		b, err := got.content(got.nodes[name])
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	days := fmt.Sprint(epoch.Unix() / 86400)
	for name, want := range map[string]string{
		"etc/passwd": "ann:x:1001:1001::/home/ann:/bin/bash\nbob:x:1500:1002::/srv/bob:/usr/bin/bash\n" +
			"web:x:34:34::/srv:/bin/bash\n",
		"etc/group": "root:x:0:\nsudo:x:27:ann\nkvm:x:101:root,ann\nold:x:1000:\nodd:x:1500:\n" +
			"ann:x:1001:\nbob:x:1002:\nweb:x:34:\n",
		"etc/gshadow": "kvm:!::root,ann\nold:!::\nodd:!::\nann:!::\nbob:!::\nweb:!::\n",
		"etc/shadow": "ann:*:" + days + ":0:99999:7:::\nbob::" + days + ":0:99999:7:::\n" +
			"web:$6$salt$0123456789abcdef0123:" + days + ":0:99999:7:::\n",
		"home/ann/.ssh/authorized_keys": publicKey + "\n" + publicKey + " again\n",
	} {
		if !strings.HasSuffix(text(name), want) {
			t.Errorf("%s is\n%s, want at its end\n%s", name, text(name), want)
		}
	}
	for name, want := range map[string]string{
		"home/ann":                      "5 0700 1001:1001", // as any home, where an overlay has it, too
		"home/ann/.bashrc":              `0 0644 1001:1001 "my home/ann/.bashrc\n"`,
		"home/ann/src":                  "5 0755 1001:1001",
		"home/ann/.profile":             `0 0644 1001:1001 "umask 022\n"`,
		"home/ann/.config/x":            `0 0644 1001:1001 "x\n"`,
		"home/ann/own":                  `0 0644 1001:1001 ""`,
		"home/ann/.ssh":                 "5 0700 1001:1001",
		"home/other/y":                  `0 0644 0:0 "my home/other/y\n"`,
		"srv/bob":                       "5 0700 1500:1002",
		"srv/bob/.bashrc":               `0 0644 1500:1002 "skel's\n"`,
		"srv":                           "5 0755 0:0",
		"srv/.bashrc":                   "none", // a home that was there is as it was
		"root/.ssh":                     "5 0700 0:0",
		"root/.ssh/authorized_keys":     fmt.Sprintf("0 0600 0:0 %q", publicKey+"\n"),
		"home/ann/.ssh/authorized_keys": fmt.Sprintf("0 0600 1001:1001 %q", text("home/ann/.ssh/authorized_keys")),
	} {
		if line := line(t, got, name); line != want {
			t.Errorf("%s is %s, want %s", name, line, want)
		}
	}
}

func TestUsersRefused(t *testing.T) {
	user := func(u custom.User) Custom { return Custom{Users: []custom.User{u}} }
	keys := func(of string) Custom {
		return Custom{AuthorizedKeys: []custom.Keys{{User: of, Keys: []string{publicKey}}}}
	}
	for name, c := range map[string]struct {
		want Custom
		err  string
	}{
		"there already":  {user(custom.User{Name: "www-data"}), "has this user already"},
		"a group's name": {user(custom.User{Name: "kvm"}), "has a group of this name"},
		"a number taken": {user(custom.User{Name: "a", UID: 33}), "33 is www-data's"},
		"no such group": {user(custom.User{Name: "a", Groups: []string{"sudoo"}}),
			"no group sudoo: did you mean sudo?"},
		"no such shell":     {user(custom.User{Name: "a", Shell: "/bin/zsh"}), "no program /bin/zsh"},
		"no program":        {user(custom.User{Name: "a", Shell: "/bin/data"}), "no program /bin/data"},
		"a file for a home": {user(custom.User{Name: "a", Home: "/etc/passwd"}), "no directory"},
		"a home of a boot":  {user(custom.User{Name: "a", Home: "/run/a"}), "mounts over /run"},
		"root":              {user(custom.User{Name: "root"}), "root is there already"},
		"a program no more": {Custom{Files: []custom.File{{Path: "/bin/bash", Mode: 0o644}}},
			"nobody could run what replaces it"},
		"two lines":          {user(custom.User{Name: "a\nroot2"}), "is not a name of a user"},
		"a line of passwd":   {user(custom.User{Name: "a", Home: "/h:/bin/sh"}), "a colon"},
		"a home that leaves": {user(custom.User{Name: "a", Home: "/home/../etc"}), "no path of a file"},
		"too large":          {user(custom.User{Name: "a", UID: 1 << 31}), "is not a user's number"},
		"nobody":             {user(custom.User{Name: "a", UID: 65534}), "is not a user's number"},
		"less than nobody":   {user(custom.User{Name: "a", UID: -1}), "is not a user's number"},
		"twice":              {Custom{Users: []custom.User{{Name: "a"}, {Name: "a"}}}, "a is there twice"},
		"one number": {Custom{Users: []custom.User{{Name: "a", UID: 7}, {Name: "b", UID: 7}}},
			"a and b have one uid, 7"},
		"a password":          {user(custom.User{Name: "a", Password: "hunter2"}), "never the password itself"},
		"keys of nobody":      {keys("jane"), "has no user jane"},
		"keys without a home": {keys("old"), "/nonexistent is not there"},
		"keys in the open": {Custom{Users: []custom.User{{Name: "a", Home: "/srv/open"}},
			AuthorizedKeys: keys("a").AuthorizedKeys}, "with mode 0777"},
		"no key": {Custom{AuthorizedKeys: []custom.Keys{{User: "root", Keys: []string{"ssh-ed25519 AAAA"}}}},
			"is no public key"},
	} {
		_, err := accountsOf(t, c.want, nil)
		if kind := (*CustomError)(nil); !errors.As(err, &kind) || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", err)
		}
	}
}

// A home that is there and another's is told of.
func TestHomeOfAnother(t *testing.T) {
	var told []string
	m := Maker{Warn: func(s string) { told = append(told, s) }}
	c := Custom{Users: []custom.User{{Name: "a", Home: "/root", Password: "locked"}, {Name: "b"}}}
	err := m.Customise(t.Context(), CustomSpec{Custom: c, Epoch: epoch}, withAccounts(t), nil, io.Discard)
	want := "users: a: home: /root is there, and user 0's: it stays as it is"
	if err != nil || len(told) != 1 || told[0] != want {
		t.Errorf("%v, %q, want %q", err, told, want)
	}
}

// A locale that libc has is a setting; others are known or refused before anything runs.
func TestLocale(t *testing.T) {
	got, err := accountsOf(t, Custom{Locale: "C.UTF-8"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l := line(t, got, "etc/locale.conf"); l != `0 0644 0:0 "LANG=C.UTF-8\n"` ||
		got.nodes["etc/default/locale"].typ != tar.TypeSymlink {
		t.Errorf("etc/locale.conf is %s", l)
	}
	for want, near := range map[string]string{
		"de_DE.utf8": "did you mean de_DE.UTF-8?", "de_AT": "did you mean de_AT.UTF-8?",
		"xx_XX.UTF-8": `no "xx_XX.UTF-8"`, "../../etc": "is not a locale",
	} {
		var hint interface{ Hint() string }
		_, err := accountsOf(t, Custom{Locale: want}, nil)
		if err == nil || !strings.Contains(err.Error(), near) ||
			!strings.Contains(near, "is not") && !errors.As(err, &hint) {
			t.Errorf("%s: %v, want %s", want, err, near)
		}
	}
}

func TestUnitCommands(t *testing.T) {
	do := func(u custom.Units) ([]command, *customiser, error) {
		t.Helper()
		var tr *tree
		err := withAccounts(t).read(func(r io.Reader) (err error) { tr, err = readTar(r, ""); return err })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tr.close() })
		c := &customiser{tree: tr, want: &Custom{Units: u}, epoch: epoch}
		list, err := c.units()
		return list, c, err
	}
	list, c, err := do(custom.Units{
		Enable: []string{"fstrim.timer", "getty@tty1.service"}, Disable: []string{"ssh.service"},
		Mask: []string{"static.service"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range list {
		lines = append(lines, l.line)
	}
	want := "systemctl disable -- 'ssh.service'|systemctl enable -- 'fstrim.timer' 'getty@tty1.service'|" +
		"systemctl mask -- 'static.service'"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if c.nodes["etc/systemd/system/fstrim.timer"] != nil {
		t.Error("a unit that kimg masks and the user enables is masked still")
	}
	for unit, want := range map[string]string{
		"sshd.service": "did you mean ssh.service?", "none-such.timer": "is not in the tree",
		"static.service": "no [Install] section",
	} {
		var told *UnitError
		_, _, err := do(custom.Units{Enable: []string{unit}})
		if !errors.As(err, &told) || !strings.Contains(err.Error(), want) || told.Hint() == "" {
			t.Errorf("%s: %v, want %s", unit, err, want)
		}
	}
	for unit, want := range map[string]string{
		"a'; reboot #.service": "is not a unit", "kimg-agent.service": "kimg speaks to the guest by",
		"../x.service": "is not a unit", "serial-getty@ttyS0.service": "kimg speaks to the guest by",
	} {
		if err := (&Custom{Units: custom.Units{Mask: []string{unit}}}).Check(); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", unit, err, want)
		}
	}
}

package spec

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/yamlfile"
	"go.yaml.in/yaml/v3"
)

const aKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@example.org"

func TestAccountsOfFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"id.pub": "# mine\n" + aKey + "\n\n", "setup.sh": "#!/bin/sh -e\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := loadText(t, dir, `
locale: de_DE.UTF-8
run: setup.sh
users:
  - ann
  - {name: bob, uid: 1500, groups: "sudo,kvm", shell: /bin/sh, home: /srv/bob, password: none}
authorized-keys:
  root: id.pub
  ann: [ "`+aKey+`", id.pub ]
units: {enable: [a.timer, b], mask: c.service}
`)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.Request()
	if err != nil {
		t.Fatal(err)
	}
	want := Custom{
		Locale: "de_DE.UTF-8", Run: []Script{{Name: "setup.sh", Text: "#!/bin/sh -e\nexit 0\n"}},
		Users: []User{{Name: "ann"}, {Name: "bob", UID: 1500, Groups: []string{"sudo", "kvm"}, Shell: "/bin/sh",
			Home: "/srv/bob", Password: "none"}},
		AuthorizedKeys: []Keys{{User: "root", Keys: []string{aKey}}, {User: "ann", Keys: []string{aKey, aKey}}},
		Units:          Units{Enable: []string{"a.timer", "b.service"}, Mask: []string{"c.service"}},
	}
	if !reflect.DeepEqual(q.Custom, want) {
		t.Errorf("got %+v\nwant %+v", q.Custom, want)
	}
	if got := strings.Join(q.Include, " "); got != "locales openssh-server" {
		t.Errorf("includes %q", got)
	}
	b, err := yaml.Marshal(&Lock{Arch: arch.Default, Custom: q.Custom})
	if err != nil {
		t.Fatal(err)
	}
	var again struct{ Custom Custom }
	if err := yaml.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(again.Custom, want) {
		t.Errorf("a lock gives back %+v, %v", again.Custom, err)
	}
	s.Include = []string{"dropbear"}
	if q, err = s.Request(); err != nil || strings.Join(q.Include, " ") != "dropbear locales" {
		t.Errorf("with another sshd: %q, %v", q.Include, err)
	}
}

// Scripts that no guest could run are refused as what they are.
func TestScriptsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "names no interpreter",
		"echo\n":                    "names no interpreter",
		"#!\n":                      "names no interpreter",
		"#!/bin/sh\r\necho\r\n":     "CR LF",
		"\x7fELF\x02\x01":           "a program, not a script",
		"#!bin/sh\n":                "no absolute path",
		"\xef\xbb\xbf#!/bin/sh\n":   "byte order mark",
		"#!/bin/sh -e\necho a\rb\n": "",
	} {
		err := custom.CheckScript(custom.Script{Name: "x", Text: yamlfile.Text(text)})
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// loadMine loads a kimg.yaml of this text, beside which there is a file.
func loadMine(t *testing.T, text string) (Spec, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("mine\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.sh"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tree"), 0o700); err != nil {
		t.Fatal(err)
	}
	return loadText(t, dir, text)
}

func TestCustomsOfFile(t *testing.T) {
	s, err := loadMine(t, `
overlay: tree
hostname: vm1
timezone: Europe/Berlin
root-password: $6$salt$0123456789abcdef0123
files:
  - {path: /etc/a, mode: 4755, owner: "1:2", source: mine}
  - path: /etc/b
    content: ""
`)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.Request()
	if err != nil {
		t.Fatal(err)
	}
	want := Custom{
		Overlays: []custom.Overlay{{Path: "tree", From: s.Overlay[0]}}, Hostname: "vm1", Timezone: "Europe/Berlin",
		RootPassword: "$6$salt$0123456789abcdef0123",
		Files: []custom.File{
			{Path: "/etc/a", Mode: 0o4755, Owner: "1:2", Text: "mine\x00"}, {Path: "/etc/b", Mode: 0o644},
		},
	}
	if !filepath.IsAbs(s.Overlay[0]) || !reflect.DeepEqual(q.Custom, want) {
		t.Errorf("got %+v\nwant %+v", q.Custom, want)
	}
	if strings.Join(q.Include, " ") != "tzdata" {
		t.Errorf("a time zone includes %q", q.Include)
	}
	// The lock gives it back as it was.
	b, err := yaml.Marshal(&Lock{Arch: arch.Default, Custom: q.Custom})
	if err != nil {
		t.Fatal(err)
	}
	var again struct{ Custom Custom }
	if err := yaml.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if want.Overlays[0].From = ""; !reflect.DeepEqual(again.Custom, want) {
		t.Errorf("a lock gives back %+v", again.Custom)
	}
	if b, err = yaml.Marshal(&Lock{Arch: arch.Default}); err != nil || strings.Contains(string(b), "custom") {
		t.Errorf("a lock of nothing: %v\n%s", err, b)
	}
}

func TestCustomsRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"files: {path: /a, content: x, mod: 1}", "unknown key \"mod\""},
		{"files: {path: /a, content: x, mode: 999}", ":1: files: mode: \"999\" is not a mode"},
		{"files: {path: /a, content: x, mode: 0o17777}", "is not a mode"},
		{"files: {path: /a}", "want content: (the text itself) or source:"},
		{"files: {path: /a, content: x, source: mine}", "want content: (the text itself) or source:"},
		{"root-password: hunter2", ":1: root-password: want a password's hash"},
		{"root-password: \"$6$a$0123456789abcdef0123:0\"", "want a password's hash"},
		{"files: {content: x}", "want a path"},
		{"files: /a", "want a file with the keys"},
		{"files: {path: /a, content: {}}", "want a text here"},
		{"files: {path: a, content: x}", ":1: files: \"a\" is no absolute path"},
		{"files: [{path: /a/../b, content: x}]", "is no path of a file"},
		{"files: [{path: \"/a\\nb\", content: x}]", "control characters"},
		{"files: [{path: /a, content: x, owner: ../x}]", "is not an owner"},
		{"files: [{path: /a, content: x}, {path: /a, source: mine}]", "/a is there twice"},
		{"files: {path: /a, source: none}", "read source"},
		{"files: {path: /a, source: /dev/zero}", "read source"},
		{"hostname: a_b", ":1: hostname: \"a_b\" is not a host's name"},
		{"users: {name: a, uid: 0}", ":1: users: uid: \"0\": want a number"},
		{"users: {name: a, uid: 99999999999}", "is not a user's number"},
		{"users: {name: \"a\\nb\"}", ":1: users: \"a\\nb\" is not a name of a user"},
		{"users: [a, {nam: b}]", ":1: unknown key \"nam\""},
		{"users: {uid: 1000}", ":1: users: want a name"},
		{"users: {name: a, password: hunter2}", ":1: users: a: password: want a password"},
		{"users: {name: a, shell: bash}", "a: shell: \"bash\" is no absolute path"},
		{"users: {name: a, home: /home/../x}", "a: home: \"/home/../x\" is no path"},
		{"users: [a, a]", "users: a is there twice"},
		{"authorized-keys: none.pub", ":1: authorized-keys: read a public key"},
		{"authorized-keys: https://a/x.keys", ":1: authorized-keys: https://a/x.keys is an address: want a file"},
		{"authorized-keys: mine", "mine: line 1: it has control characters"},
		{"authorized-keys: ssh-ed25519 AAAAC3", ":1: authorized-keys: line 1: it is no public"},
		{"authorized-keys: {a: {}}", "want a text here"},
		{"authorized-keys: {a: mine, a: mine}", "a is there already"},
		{"locale: ../x", ":1: locale: \"../x\" is not a locale"},
		{"run: apt-get install vim", "want the name of a script's file, not a command"},
		{"files: {path: /a, content: }", ":1: files: content: want a text here, and there is nothing"},
		{"run: \"#!/bin/sh\\necho\\n\"", "not the script itself"},
		{"authorized-keys: {Ann: mine}", ":1: authorized-keys: \"Ann\" is not a name"},
		{"run: none", ":1: run: read script"},
		{"run: mine", "mine: its first line names no interpreter"},
		{"units: {enable: ../x}", ":1: units: enable: \"../x.service\" is not a"},
		{"units: {enable: a, mask: a.service}", ":1: units: mask: a.service is below enable"},
		{"units: {start: a}", ":1: unknown key \"start\""},
		{"units: ssh", ":1: units: want what is to be done to which"},
		{"files: {path: /a, content: !!binary eA==}", ":1: the tag !!binary is not read"},
		{"users: {name: a, uid: 70000}\nrun: x.sh", "kimg.yaml:1: users: a: uid: 70000 is above"},
		{"files: {path: /a, content: x, owner: \"1:70000\"}\nunits: {mask: a}", "/a: owner: 70000 is above 65535"},
		{"units: {mask: dbus.socket}", "is what the guest's console and"},
		{"units: {enable: yes}", ":1: units: enable: want the names of units"},
		{"units: {enable: [a b]}", "\"a b.service\" is not a unit"},
		{"units: {enable: [-x]}", "\"-x.service\" is not a unit"},
		{"files: {path: /tmp/a, content: x}", ":1: files: /tmp/a: a boot mounts over /tmp"},
		{"files: {path: /a, content: [x]}", "want a text here, not a list"},
		{"users: {name: a, home: /proc/x}", ":1: users: a: home: /proc/x: a boot"},
		{"users: [{name: a, home: /home/b}, b]", "a and b have one home, /home/b"},
		{"users: [\"\"]", ":1: users: want a text here, and it is empty"},
		{"root-password: \"\"", ":1: root-password: is empty"},
		{"overlay: none", ":1: overlay: stat "},
		{"overlay: /dev/null", ":1: overlay: /dev/null is a special file"},
		{"users:\n- {name: a, uid: 7}\n- {name: b, uid: 7}", "kimg.yaml:3: users: a and b have one uid"},
		{"files:\n- {path: /a, content: x}\n- {path: /a, source: mine}", "kimg.yaml:3: files: /a is there twice"},
		{"units:\n  mask: a\n  enable: a", "kimg.yaml:2: units: mask: a.service is below"},
		{"users: {<<: {name: a}}", "merge keys (<<) are not read"},
		{"authorized-keys: bogus " + aKey, ":1: authorized-keys: line 1: sshd has no"},
		{"authorized-keys: from " + aKey, "the option from before the key wants a value"},
		{"authorized-keys: 127.0.0.1 " + aKey, "a line of a known_hosts file"},
		{"authorized-keys: no-pyt " + aKey, "did you mean no-pty?"},
		{"timezone: /etc/passwd", ":1: timezone: \"/etc/passwd\" is not a time"},
		{"authorized-keys: |\n  -----BEGIN OPENSSH PRIVATE KEY-----\n  c2VjcmV0", ":1: authorized-keys: it is " +
			"a private key"},
	} {
		s, err := loadMine(t, c.text)
		if err == nil {
			err = s.Check()
		}
		if err == nil {
			_, err = s.Request()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", err)
		}
	}
}

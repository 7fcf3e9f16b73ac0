package spec

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/custom"
	"go.yaml.in/yaml/v3"
)

// loadMine loads a kimg.yaml of this text, beside which there is a file.
func loadMine(t *testing.T, text string) (Spec, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("mine\x00"), 0o600); err != nil {
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
	for text, want := range map[string]string{
		"files: {path: /a, content: x, mod: 1}":                   "unknown key \"mod\"",
		"files: {path: /a, content: x, mode: 999}":                ":1: files: mode: \"999\" is not a mode",
		"files: {path: /a, content: x, mode: 0o17777}":            "is not a mode",
		"files: {path: /a}":                                       "want content: (the text itself) or source:",
		"files: {path: /a, content: x, source: mine}":             "want content: (the text itself) or source:",
		"root-password: hunter2":                                  ":1: root-password: want a password's hash",
		"root-password: \"$6$a$0123456789abcdef0123:0\"":          "want a password's hash",
		"files: {content: x}":                                     "want a path",
		"files: /a":                                               "want a file with the keys",
		"files: {path: /a, content: {}}":                          "want a text here",
		"files: {path: a, content: x}":                            ":1: files: \"a\" is no absolute path",
		"files: [{path: /a/../b, content: x}]":                    "is no path of a file",
		"files: [{path: \"/a\\nb\", content: x}]":                 "control characters",
		"files: [{path: /a, content: x, owner: ../x}]":            "is not an owner",
		"files: [{path: /a, content: x}, {path: /a, content: y}]": "/a is there twice",
		"files: {path: /a, source: none}":                         "read source",
		"files: {path: /a, source: /dev/zero}":                    "read source",
		"hostname: a_b":                                           ":1: hostname: \"a_b\" is not a host's name",
		"timezone: /etc/passwd":                                   ":1: timezone: \"/etc/passwd\" is not a time zone",
	} {
		s, err := loadMine(t, text)
		if err == nil {
			err = s.Check()
		}
		if err == nil {
			_, err = s.Request()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", err)
		}
	}
}

package spec

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/yamlfile"
)

// What is wanted otherwise in the root filesystem than its packages have it, as a lock pins it.
type (
	// Custom is all of it.
	Custom = custom.Custom
	// Overlay is a tree that is laid over.
	Overlay = custom.Overlay
	// LaidFile is a file that is laid over.
	LaidFile = custom.File
	// Mode is a file's permissions, as chmod has them.
	Mode = custom.Mode
	// User is an account that is made.
	User = custom.User
	// Keys are the public keys of a user.
	Keys = custom.Keys
	// Script is run in the tree.
	Script = custom.Script
	// Units are systemd's, by what is done to them.
	Units = custom.Units
	// Unit is one of them.
	Unit = custom.Unit
)

// Customs is Custom as the user wrote it.
type Customs struct {
	Overlay  []string  `yaml:"overlay"` // directories and tars, laid over the tree in this order
	Files    []OwnFile `yaml:"files"`
	Hostname string    `yaml:"hostname"`
	Timezone string    `yaml:"timezone"`
	Locale   string    `yaml:"locale"`

	RootPassword   string    `yaml:"root-password"` // a hash, or none
	Users          []OwnUser `yaml:"users"`
	AuthorizedKeys []OwnKey  `yaml:"authorized-keys"`
	Run            []string  `yaml:"run"` // scripts, run in the tree in this order
	Units          OwnUnits  `yaml:"units"`
}

// OwnFile is a file that is laid over the tree. Either Content or Source says what is in it.
type OwnFile struct {
	Path    string // in the guest
	Mode    Mode
	Owner   string // name[:group], or numbers; empty: root
	Content string
	Source  string // a file

	at string // FILE:LINE that wants it
}

// maxFiles bounds the contents of files:, in bytes, of all of them: they are in the lock.
const maxFiles = 8 << 20

// maxScript bounds a script, in bytes, which is in the lock.
const maxScript = 1 << 20

// overlayHint is for what does not belong into a lock.
const overlayHint = "; put it into an overlay:, which may be of any size"

// file reads an item of files:.
func (r *fileReader) file(n *yaml.Node) (f OwnFile) {
	f.Mode, f.at = 0o644, fmt.Sprintf("%s:%d", r.File, n.Line)
	values := r.Mapping(n, "a file", []string{"path", "mode", "owner", "content", "source"})
	if values == nil {
		return f
	}
	for key, to := range map[string]*string{"path": &f.Path, "owner": &f.Owner, "source": &f.Source} {
		if v := values[key]; v != nil {
			*to = r.Text("files: "+key, v)
		}
	}
	if v := values["mode"]; v != nil {
		if text := r.Text("files: mode", v); text != "" {
			if err := f.Mode.UnmarshalText([]byte(text)); err != nil {
				r.Wrong(v, "files: mode: %w", err)
			}
		}
	}
	content := values["content"]
	if content != nil && (content.Kind != yaml.ScalarNode || yamlfile.IsNull(content)) {
		r.Wrong(content, "files: content: want a text here%s", yamlfile.Instead(content))
	} else if content != nil {
		f.Content = content.Value
	}
	switch {
	case values["path"] == nil:
		r.Wrong(n, "files: want a path: where the file is in the guest")
	case (content == nil) == (values["source"] == nil):
		r.Wrong(n, "files: %s: want content: (the text itself) or source: (a file of yours), and not both", f.Path)
	}
	return f
}

// checkCustoms is of the values alone.
func (s Spec) checkCustoms() error {
	c := s.values()
	for _, f := range s.Files {
		c.Files = append(c.Files, custom.File{Path: f.Path, Mode: f.Mode, Owner: f.Owner})
	}
	for _, k := range s.AuthorizedKeys {
		if !slices.ContainsFunc(c.AuthorizedKeys, func(o Keys) bool { return o.User == k.User }) {
			c.AuthorizedKeys = append(c.AuthorizedKeys, Keys{User: k.User})
		}
	}
	return s.itemWrong(c.Check())
}

// values is what no file is read for.
func (s Spec) values() (c Custom) {
	c.Hostname, c.Timezone, c.RootPassword, c.Locale = s.Hostname, s.Timezone, s.RootPassword, s.Locale
	c.Units = s.Units.Units
	for _, u := range s.Users {
		c.Users = append(c.Users, u.User)
	}
	return c
}

// custom reads the files that the user names. Overlays are packed when they are pinned.
func (s Spec) custom() (c Custom, err error) {
	c = s.values()
	if c.AuthorizedKeys, err = s.authorizedKeys(); err != nil {
		return c, err
	}
	for _, o := range s.Overlay {
		if o == "" {
			return c, s.Wrong("--overlay", o, errors.New("is empty: want a directory or a tar"))
		}
		if err := checkOverlay(o); err != nil {
			return c, s.Wrong("--overlay", o, err)
		}
		c.Overlays = append(c.Overlays, custom.Overlay{Path: filepath.Base(o), From: o})
	}
	left := maxFiles
	take := func(text string) error {
		if left -= len(text); left < 0 {
			return fmt.Errorf("all contents together have more than %d bytes%s", maxFiles, overlayHint)
		}
		return nil
	}
	for _, f := range s.Files {
		text := f.Content
		if f.Source != "" {
			b, err := reading.Small(f.Source, int64(left))
			if err != nil {
				hint := ""
				if large := (*reading.SizeError)(nil); errors.As(err, &large) {
					hint = overlayHint
				}
				return c, placed(f.at, "files", fmt.Errorf("%s: read source: %w%s", f.Path, err, hint))
			}
			text = string(b)
		}
		if err := take(text); err != nil {
			return c, placed(f.at, "files", err)
		}
		c.Files = append(c.Files, custom.File{Path: f.Path, Mode: f.Mode, Owner: f.Owner, Text: yamlfile.Text(text)})
	}
	for _, file := range s.Run {
		if strings.Contains(file, "\n") {
			return c, s.Wrong("--run", file, errors.New("want the name of a script's file, not the script itself"))
		}
		b, err := reading.Small(file, maxScript)
		if err != nil {
			hint := ""
			if strings.Contains(filepath.Base(file), " ") {
				hint = ": want the name of a script's file, not a command"
			}
			return c, s.Wrong("--run", file, fmt.Errorf("read script: %w%s", err, hint))
		}
		script := custom.Script{Name: filepath.Base(file), Text: yamlfile.Text(b)}
		if err := cmp.Or(custom.CheckScript(script), take(string(b))); err != nil {
			return c, s.Wrong("--run", file, fmt.Errorf("%s: %w", file, err))
		}
		c.Run = append(c.Run, script)
	}
	return c, s.itemWrong(c.Check())
}

// checkOverlay judges an overlay by what it is: its content is read when it is packed.
func checkOverlay(file string) error {
	st, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case !st.IsDir() && !st.Mode().IsRegular():
		return fmt.Errorf("%s is %s: want a directory, or a tar of one", file, reading.Kind(st.Mode()))
	}
	return nil
}

// itemWrong places an error of one of several things, where the file has it.
func (s Spec) itemWrong(err error) error {
	var item *custom.ItemError
	if err == nil {
		return nil
	}
	if !errors.As(err, &item) {
		return &InputError{Err: err}
	}
	at := ""
	switch item.Key {
	case "hostname", "timezone", "locale":
		return s.Wrong("--"+item.Key, item.Item, item.Err)
	case "root-password":
		return s.Wrong(item.Key, item.Item, item.Err)
	case "files":
		at = lastOf(s.Files, item.Item, func(f OwnFile) (string, string) { return f.Path, f.at })
	case "users":
		at = lastOf(s.Users, item.Item, func(u OwnUser) (string, string) { return u.Name, u.at })
	case "authorized-keys":
		at = lastOf(s.AuthorizedKeys, item.Item, func(k OwnKey) (string, string) { return k.User, k.at })
	default:
		at = s.Units.at[Unit{Verb: strings.TrimPrefix(item.Key, "units: "), Name: item.Item}]
	}
	return placed(at, item.Key, item.Err)
}

// lastOf finds the place of the last of some things that has a name.
func lastOf[T any](all []T, want string, named func(T) (name, at string)) (place string) {
	for _, one := range all {
		if name, at := named(one); name == want {
			place = at
		}
	}
	return place
}

// overlayNames are overlays for users.
func overlayNames(list []custom.Overlay) string {
	var files []FileLock
	for _, o := range list {
		files = append(files, FileLock{Path: o.Path, SHA256: o.SHA256})
	}
	return named(files...)
}

// scriptNames are scripts for users.
func scriptNames(list []custom.Script) string {
	var files []FileLock
	for _, s := range list {
		files = append(files, FileLock{Path: s.Name, SHA256: units.DigestOf([]byte(s.Text))})
	}
	return named(files...)
}

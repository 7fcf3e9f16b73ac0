package custom

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mode is a file's permissions, with set-user-id and the like as chmod has them: 04755.
type Mode uint32

// MarshalText writes a mode as people do.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText reads 644, 0644, 4755 or 0o644.
func (m *Mode) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(strings.TrimPrefix(string(b), "0o"), 8, 32)
	if err != nil || v > 0o7777 {
		return fmt.Errorf("%q is not a mode: want one as chmod takes it, such as 0644", b)
	}
	*m = Mode(v)
	return nil
}

// The bounds of what a kernel takes for names.
const (
	maxPath = 4095
	maxName = 255
)

// CheckPath judges a path in the guest.
func CheckPath(p string) error {
	switch {
	case !path.IsAbs(p):
		return fmt.Errorf("%q is no absolute path in the guest", p)
	case path.Clean(p) != p || p == "/":
		return fmt.Errorf("%q is no path of a file: want it without .., doubled slashes or one at the end", p)
	case len(p) > maxPath:
		return fmt.Errorf("a path of %d bytes: %d are the most", len(p), maxPath)
	}
	return CheckName(p)
}

// CheckName judges the spelling of a name or path: file systems take nearly all bytes, and what lists them does not.
func CheckName(p string) error {
	if !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl) {
		return fmt.Errorf("the name %q has control characters, or is not UTF-8", p)
	}
	for elem := range strings.SplitSeq(p, "/") {
		if len(elem) > maxName {
			return fmt.Errorf("a name of %d bytes, %.20q...: %d are the most", len(elem), elem, maxName)
		}
	}
	return nil
}

// HiddenDirs are the directories of the guest's that a boot mounts over or empties.
var HiddenDirs = []string{"dev", "proc", "sys", "run", "tmp"}

// CheckSeen refuses the paths of the guest's that no guest would see.
func CheckSeen(p string) error {
	for _, dir := range HiddenDirs {
		if dir = "/" + dir; p == dir || strings.HasPrefix(p, dir+"/") {
			return fmt.Errorf("%s: a boot mounts over %s, and no guest would see it: choose another place", p, dir)
		}
	}
	return nil
}

var owner = regexp.MustCompile(`^(` + account + `|[0-9]{1,9})(:(` + account + `|[0-9]{1,9}))?$`)

// account is the name of a user or a group, as useradd takes it.
const account = `[a-z_][a-z0-9_-]{0,31}`

// CheckOwner judges name[:group].
func CheckOwner(s string) error {
	if !owner.MatchString(s) {
		return fmt.Errorf("%q is not an owner: want a user, or user:group, by names or numbers", s)
	}
	return nil
}

// CheckFile judges a file that is laid over.
func CheckFile(f File) error {
	if err := cmp.Or(CheckPath(f.Path), CheckSeen(f.Path)); err != nil {
		return err
	}
	if f.Owner == "" {
		return nil
	}
	return CheckOwner(f.Owner)
}

// hostname is RFC 1123's, of one name or more; Linux takes 64 bytes.
var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?` +
	`(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// CheckHostname judges a guest's name.
func CheckHostname(s string) error {
	if len(s) > 64 || !hostname.MatchString(s) {
		return fmt.Errorf("%q is not a host's name: want letters, digits, - and dots, 64 at most", s)
	}
	return nil
}

var timezone = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+_-]*(/[A-Za-z0-9][A-Za-z0-9+_-]*){0,2}$`)

// CheckTimezone judges the form of a time zone's name. Whether there is one, the tree says.
func CheckTimezone(s string) error {
	if !timezone.MatchString(s) {
		return fmt.Errorf("%q is not a time zone: want a name such as Europe/Berlin or UTC", s)
	}
	return nil
}

// None is a password that is not asked for.
const None = "none"

// Locked is a password that no password is.
const Locked = "locked"

// locked are the words for that: shadow(5) has the signs.
var locked = []string{Locked, "!", "*"}

// Shadow is what the field of a password in shadow(5) has.
func Shadow(password string) string {
	switch {
	case password == None:
		return ""
	case slices.Contains(locked, password):
		return "*" // and not !, by which sshd may refuse keys, too
	}
	return password
}

// passwordHash is what crypt(5) makes with its methods of today.
var passwordHash = regexp.MustCompile(`^\$(y|gy|7|6|5|2[abxy])\$[./A-Za-z0-9$=,]{20,400}$`)

// CheckPassword judges a password's hash. What is wrong with it does not say what it is: it may be a password.
func CheckPassword(s string) error {
	if s != None && !slices.Contains(locked, s) && !passwordHash.MatchString(s) {
		return errors.New("want a password's hash, as openssl passwd -6 prints it; none, to ask for no password; or " +
			"locked, to take none; never the password itself")
	}
	return nil
}

// ItemError is what is wrong with one of the things that are wanted.
type ItemError struct {
	Key  string // as kimg.yaml has it, such as users
	Item string // the name, path, user or value that it is found by there; of several of one name the last
	Err  error
}

func (e *ItemError) Error() string { return e.Key + ": " + e.Err.Error() }

func (e *ItemError) Unwrap() error { return e.Err }

// Check judges all of it, as a lock may be anybody's. Of one value, or thing of several, the error is an *ItemError.
func (c *Custom) Check() error {
	seen := map[string]bool{}
	for _, f := range c.Files {
		err := CheckFile(f)
		if err == nil && seen[f.Path] {
			err = fmt.Errorf("%s is there twice", f.Path)
		}
		if err != nil {
			return &ItemError{"files", f.Path, err}
		}
		seen[f.Path] = true
	}
	for _, one := range []struct {
		key, value string
		check      func(string) error
	}{
		{"hostname", c.Hostname, CheckHostname}, {"timezone", c.Timezone, CheckTimezone},
		{"locale", c.Locale, CheckLocale},
		{"root-password", c.RootPassword, CheckPassword},
	} {
		if one.value == "" {
			continue
		}
		if err := one.check(one.value); err != nil {
			return &ItemError{one.key, one.value, err}
		}
	}
	for _, o := range c.Overlays {
		if o.SHA256 == "" && o.From == "" {
			return errors.New("overlay: one has no digest")
		}
	}
	if err := c.checkAccounts(); err != nil {
		return err
	}
	return c.checkInside()
}

package custom

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

// User is an account that is made in the tree, with a group of its own.
type User struct {
	Name     string   `yaml:"name"`
	UID      int      `yaml:"uid,omitempty"`         // 0: the first that is free, from 1000
	Groups   []string `yaml:"groups,omitempty,flow"` // of the tree, besides the user's own
	Shell    string   `yaml:"shell,omitempty"`       // empty: DefaultShell
	Home     string   `yaml:"home,omitempty"`        // empty: /home/NAME
	Password string   `yaml:"password,omitempty"`    // a hash, or None; empty: no password logs in
}

// DefaultShell is the shell of a user for whom none is named, as adduser has it.
const DefaultShell = "/bin/bash"

// maxUID bounds the numbers of users: above it programs take them for negative.
const maxUID = 1<<31 - 1

// The numbers that mean nobody, in 16 and in 32 bits.
const (
	nobody   = 65534
	noUser16 = 65535
)

var accountName = regexp.MustCompile(`^` + account + `$`)

// CheckAccount judges the name of a user or a group, which what says.
func CheckAccount(what, name string) error {
	if !accountName.MatchString(name) {
		return fmt.Errorf("%q is not a name of a %s: want lower-case letters, digits, - and _, 32 at most, "+
			"a letter first", name, what)
	}
	return nil
}

// CheckUser judges a user by itself: what is taken already, the tree says.
func CheckUser(u User) error {
	if err := CheckAccount("user", u.Name); err != nil {
		return err
	}
	switch {
	case u.Name == "root":
		return errors.New("root is there already: root-password: and authorized-keys: change it")
	case u.UID < 0 || u.UID > maxUID || u.UID == nobody || u.UID == noUser16:
		return fmt.Errorf("%s: uid: %d is not a user's number: want 1 to %d, and neither %d nor %d, which are nobody's",
			u.Name, u.UID, maxUID, nobody, noUser16)
	}
	for _, g := range u.Groups {
		if err := CheckAccount("group", g); err != nil {
			return fmt.Errorf("%s: groups: %w", u.Name, err)
		}
	}
	for key, file := range map[string]string{"shell": u.Shell, "home": u.Home} {
		if file == "" {
			continue
		}
		err := CheckPath(file)
		if err == nil && strings.Contains(file, ":") {
			err = fmt.Errorf("%q: a colon parts the fields of etc/passwd", file)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", u.Name, key, err)
		}
	}
	if u.Password != "" {
		if err := CheckPassword(u.Password); err != nil {
			return fmt.Errorf("%s: password: %w", u.Name, err)
		}
	}
	return nil
}

// Keys are the public keys that log a user in by ssh, as lines of an authorized_keys file.
type Keys struct {
	User string   `yaml:"user"`
	Keys []string `yaml:"keys"`
}

// keyType is what a public key begins with.
var keyType = regexp.MustCompile(`^(ssh-(rsa|ed25519|dss)|ecdsa-sha2-nistp(256|384|521)|` +
	`sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)$`)

// IsKey reports whether a text is meant for a key, and not for the name of a file that has some.
func IsKey(s string) bool {
	if strings.Contains(s, "\n") || privateKey(s) {
		return true
	}
	for _, word := range strings.Fields(s) {
		if keyType.MatchString(word) {
			return true
		}
	}
	return false
}

func privateKey(s string) bool {
	return strings.Contains(s, "PRIVATE KEY") || strings.HasPrefix(s, "PuTTY-User-Key-File")
}

// ParseKeys reads the keys of a file such as id_ed25519.pub or authorized_keys. What is wrong with it does not say
// what it is: it may be secret.
func ParseKeys(text string) (keys []string, err error) {
	if privateKey(text) {
		return nil, errors.New("it is a private key, which nobody else should see: want the public one, " +
			"whose file ends in .pub")
	}
	if strings.HasPrefix(text, "---- BEGIN SSH2") {
		return nil, errors.New("it is a key in another form: ssh-keygen -i -f FILE prints OpenSSH's")
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := CheckKey(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys = append(keys, line)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return keys, nil
}

// CheckKey judges a line of an authorized_keys file.
func CheckKey(line string) error {
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return errors.New("it has control characters")
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return errors.New("it is no public key: want a line such as that of id_ed25519.pub, whole")
	case key.Type() == "ssh-dss":
		return errors.New("it is a DSA key, which sshd no longer takes: ssh-keygen -t ed25519 makes another")
	case strings.Contains(key.Type(), "-cert-"):
		return errors.New("it is a certificate: want the public key that it was made of, or its authority's")
	}
	return nil
}

// Dir is the user's home directory.
func (u User) Dir() string { return cmp.Or(u.Home, path.Join("/home", u.Name)) }

func (c *Custom) checkAccounts() error {
	seen, uids := map[string]bool{}, map[int]string{}
	for _, u := range c.Users {
		if err := CheckUser(u); err != nil {
			return fmt.Errorf("users: %w", err)
		}
		if seen[u.Name] {
			return fmt.Errorf("users: %s is there twice", u.Name)
		}
		if other := uids[u.UID]; u.UID != 0 && other != "" {
			return fmt.Errorf("users: %s and %s have one uid, %d", other, u.Name, u.UID)
		}
		seen[u.Name], uids[u.UID] = true, u.Name
	}
	seen = map[string]bool{}
	for _, k := range c.AuthorizedKeys {
		if err := CheckAccount("user", k.User); err != nil {
			return fmt.Errorf("authorized-keys: %w", err)
		}
		if seen[k.User] {
			return fmt.Errorf("authorized-keys: %s is there twice", k.User)
		}
		seen[k.User] = true
		for _, line := range k.Keys {
			if err := CheckKey(line); err != nil {
				return fmt.Errorf("authorized-keys: %s: %w", k.User, err)
			}
		}
	}
	return nil
}

package custom

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/yamlfile"
	"golang.org/x/crypto/ssh"
)

// User is an account that is made in the tree, with a group of its own.
type User struct {
	Name     string   `yaml:"name"`
	UID      int      `yaml:"uid,omitempty"`         // 0: the first that is free, from 1000
	Groups   []string `yaml:"groups,omitempty,flow"` // of the tree, besides the user's own
	Shell    string   `yaml:"shell,omitempty"`       // empty: DefaultShell
	Home     string   `yaml:"home,omitempty"`        // empty: /home/NAME
	Password string   `yaml:"password,omitempty"`    // a hash, None, or locked; empty: locked, too
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
		if err == nil && key == "home" {
			err = CheckSeen(file)
		}
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
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err == nil {
		err = checkOptions(line, options)
		if err != nil {
			return err
		}
	}
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

// keyOptions are what sshd takes before a key, with = where a value follows: AUTHORIZED_KEYS FILE FORMAT of sshd(8).
var keyOptions = []string{"agent-forwarding", "cert-authority", "command=", "environment=", "expiry-time=", "from=",
	"no-agent-forwarding", "no-port-forwarding", "no-pty", "no-touch-required", "no-user-rc", "no-x11-forwarding",
	"permitlisten=", "permitopen=", "port-forwarding", "principals=", "pty", "restrict", "tunnel=", "user-rc",
	"verify-required", "x11-forwarding"}

// checkOptions judges what is before a key: of a line with an option that it does not know sshd takes nothing.
func checkOptions(line string, options []string) error {
	for _, o := range options {
		name, _, valued := strings.Cut(o, "=")
		name = strings.ToLower(name)
		if valued {
			name += "="
		}
		switch {
		case slices.Contains(keyOptions, name):
		case slices.Contains(keyOptions, name+"="):
			return fmt.Errorf("the option %s before the key wants a value: %s=\"...\"", o, o)
		case strings.HasPrefix(line, "|1|") || strings.HasPrefix(line, "@") || strings.ContainsAny(o, ".:["):
			return errors.New("it is a line of a known_hosts file, which has the keys of hosts: want a user's public " +
				"key, such as the line of id_ed25519.pub")
		default:
			return fmt.Errorf("sshd has no option %q, and would not take the key%s", o,
				yamlfile.Suggest(name, keyOptions))
		}
	}
	return nil
}

// Dir is the user's home directory.
func (u User) Dir() string { return cmp.Or(u.Home, path.Join("/home", u.Name)) }

func (c *Custom) checkAccounts() error {
	seen, uids, homes := map[string]bool{}, map[int]string{}, map[string]string{}
	for _, u := range c.Users {
		err := CheckUser(u)
		switch other, home := uids[u.UID], homes[u.Dir()]; {
		case err != nil:
		case seen[u.Name]:
			err = fmt.Errorf("%s is there twice", u.Name)
		case u.UID != 0 && other != "":
			err = fmt.Errorf("%s and %s have one uid, %d", other, u.Name, u.UID)
		case home != "":
			err = fmt.Errorf("%s and %s have one home, %s, which would be %s's alone", home, u.Name, u.Dir(), home)
		}
		if err != nil {
			return &ItemError{"users", u.Name, err}
		}
		seen[u.Name], uids[u.UID], homes[u.Dir()] = true, u.Name, u.Name
	}
	seen = map[string]bool{}
	for _, k := range c.AuthorizedKeys {
		err := CheckAccount("user", k.User)
		if err == nil && seen[k.User] {
			err = fmt.Errorf("%s is there twice", k.User)
		}
		seen[k.User] = true
		for _, line := range k.Keys {
			if bad := CheckKey(line); bad != nil && err == nil {
				err = fmt.Errorf("%s: %w", k.User, bad)
			}
		}
		if err != nil {
			return &ItemError{"authorized-keys", k.User, err}
		}
	}
	return nil
}

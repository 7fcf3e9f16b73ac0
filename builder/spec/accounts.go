package spec

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/yamlfile"
)

// OwnUser is a user of the guest's.
type OwnUser struct {
	User

	at string // FILE:LINE that wants it
}

// OwnKey is a public key, or a file of such, by which a user of the guest's logs in.
type OwnKey struct {
	User string
	Key  string // a line of an authorized_keys file, or a file's name

	at string // FILE:LINE that wants it
}

// OwnUnits are what is done to systemd's units.
type OwnUnits struct {
	Units

	at map[Unit]string // FILE:LINE that wants it
}

func (r *fileReader) place(n *yaml.Node) string { return fmt.Sprintf("%s:%d", r.File, n.Line) }

// user reads an item of users:, which may be a name alone.
func (r *fileReader) user(n *yaml.Node) OwnUser {
	n = yamlfile.Resolve(n)
	u := OwnUser{at: r.place(n)}
	if n.Kind == yaml.ScalarNode {
		u.Name = r.Text("users", n)
		return u
	}
	values := r.Mapping(n, "a user", []string{"name", "uid", "groups", "shell", "home", "password"})
	if values == nil {
		return u
	}
	for key, to := range map[string]*string{
		"name": &u.Name, "shell": &u.Shell, "home": &u.Home, "password": &u.Password,
	} {
		if v := values[key]; v != nil {
			*to = r.Text("users: "+key, v)
		}
	}
	if v := values["uid"]; v != nil {
		var err error
		if u.UID, err = strconv.Atoi(v.Value); err != nil || u.UID == 0 {
			r.Wrong(v, "users: uid: %q: want a number, from 1; 0 is root's", v.Value)
		}
	}
	if v := values["groups"]; v != nil {
		for _, g := range r.List(v) {
			u.Groups = append(u.Groups, split("include", r.Text("users: groups", g))...)
		}
	}
	if values["name"] == nil && len(values) > 0 {
		r.Wrong(n, "users: want a name")
	}
	return u
}

// keys reads authorized-keys:, which are root's where no user is named.
func (r *fileReader) keys(n *yaml.Node) (all []OwnKey) {
	of := func(user string, n *yaml.Node) {
		for _, one := range r.List(n) {
			one = yamlfile.Resolve(one)
			if key := r.Text("authorized-keys", one); key != "" {
				all = append(all, OwnKey{User: user, Key: key, at: r.place(one)})
			}
		}
	}
	if n.Kind != yaml.MappingNode {
		of("root", n)
		return all
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		user := n.Content[i]
		if line, twice := seen[user.Value]; twice {
			r.Wrong(user, "authorized-keys: %s is there already, in line %d", user.Value, line)
			continue
		}
		seen[user.Value] = user.Line
		of(user.Value, n.Content[i+1])
	}
	return all
}

// units reads units:.
func (r *fileReader) units(n *yaml.Node) OwnUnits {
	u := OwnUnits{at: map[Unit]string{}}
	if n = yamlfile.Resolve(n); n.Kind != yaml.MappingNode {
		r.Wrong(n, "units: want what is to be done to which, such as "+
			"units: {enable: [ssh.service], mask: [cron.service]}")
		return u
	}
	values := r.Mapping(n, "lists of units", []string{"enable", "disable", "mask"})
	for key, to := range map[string]*[]string{"enable": &u.Enable, "disable": &u.Disable, "mask": &u.Mask} {
		v := values[key]
		if v == nil {
			continue
		}
		for _, one := range r.List(v) {
			text := r.Text("units: "+key, one)
			names := []string{text}
			switch one = yamlfile.Resolve(one); {
			case text == "":
				continue
			case one.Style == 0 && switches[strings.ToLower(text)] != "":
				r.Wrong(one, "units: %s: want the names of units here, such as ssh.service, not %s", key, text)
				continue
			case v.Kind != yaml.SequenceNode:
				names = split("include", text)
			}
			for _, name := range names {
				name = custom.UnitName(name)
				*to = append(*to, name)
				u.at[Unit{Verb: key, Name: name}] = r.place(one)
			}
		}
	}
	return u
}

// placed is an error of a value that a file has, or a program gave.
func placed(at, key string, err error) error {
	if at == "" {
		return &InputError{key, err}
	}
	return &InputError{at + ": " + key, err}
}

// maxKeys bounds a file of public keys, in bytes.
const maxKeys = 1 << 20

// authorizedKeys reads the keys that the user names, each user's together.
func (s Spec) authorizedKeys() (all []custom.Keys, err error) {
	nth := map[string]int{}
	for _, k := range s.AuthorizedKeys {
		text, name := k.Key, ""
		if !custom.IsKey(text) {
			name = text + ": "
			if strings.Contains(text, "://") {
				return nil, placed(k.at, "authorized-keys",
					fmt.Errorf("%s is an address: want a file, or the line of a key", text))
			}
			b, err := reading.Small(text, maxKeys)
			if err != nil {
				return nil, placed(k.at, "authorized-keys", fmt.Errorf("read a public key: %w", err))
			}
			text = string(b)
		}
		keys, err := custom.ParseKeys(text)
		if err != nil {
			return nil, placed(k.at, "authorized-keys", fmt.Errorf("%s%w", name, err))
		}
		i, known := nth[k.User]
		if !known {
			i = len(all)
			nth[k.User] = i
			all = append(all, custom.Keys{User: k.User})
		}
		all[i].Keys = append(all[i].Keys, keys...)
	}
	return all, nil
}

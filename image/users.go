package image

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/custom"
)

// users makes accounts as useradd would: a line in each of the four files, and a home from /etc/skel.
func (c *customiser) users() error {
	for _, u := range c.want.Users {
		if err := c.user(u); err != nil {
			return fmt.Errorf("users: %s: %w", u.Name, err)
		}
	}
	return nil
}

// firstUID is that of the first user of a machine, in Debian and elsewhere.
const firstUID = 1000

func (c *customiser) user(u custom.User) error {
	passwd, err := c.records("etc/passwd")
	if err != nil {
		return err
	}
	groups, err := c.records("etc/group")
	if err != nil {
		return err
	}
	users, gids := byNumber(passwd), byNumber(groups)
	for _, f := range passwd {
		if f[0] == u.Name {
			return errors.New("the guest has this user already: choose another name")
		}
	}
	for _, f := range groups {
		if f[0] == u.Name {
			return errors.New("the guest has a group of this name, and the user would get one of its own: " +
				"choose another name")
		}
	}
	uid := u.UID
	for id := firstUID; uid == 0; id++ {
		if users[id] == "" && gids[id] == "" {
			uid = id
		}
	}
	if other := users[uid]; other != "" {
		return fmt.Errorf("uid: %d is %s's: choose another, or name none to get the next that is free", uid, other)
	}
	gid := uid
	for id := firstUID; gids[gid] != ""; id++ {
		gid = id
	}
	shell := cmp.Or(u.Shell, custom.DefaultShell)
	if n := c.at(shell); n == nil || n.typ != tar.TypeReg || n.mode&0o111 == 0 {
		return fmt.Errorf("shell: the guest has no program %s: include the package that has it", shell)
	}
	password := custom.Shadow(cmp.Or(u.Password, custom.Locked))
	id := strconv.Itoa
	days := strconv.FormatInt(c.epoch.Unix()/(24*60*60), 10)
	for _, one := range []struct {
		file string
		line []string
	}{
		{"etc/passwd", []string{u.Name, "x", id(uid), id(gid), "", u.Dir(), shell}},
		{"etc/shadow", []string{u.Name, password, days, "0", "99999", "7", "", "", ""}},
		{"etc/group", []string{u.Name, "x", id(gid), ""}},
		{"etc/gshadow", []string{u.Name, "!", "", ""}},
	} {
		if one.file == "etc/gshadow" && c.at(one.file) == nil {
			continue // a tree without shadowed groups
		}
		all, err := c.records(one.file)
		if err != nil {
			return err
		}
		if strings.HasPrefix(one.file, "etc/g") {
			if err := c.join(one.file, all, u); err != nil {
				return err
			}
		}
		c.record(one.file, append(all, one.line))
	}
	return c.home(u, uid, gid)
}

// byNumber are the names of a passwd's or group's lines.
func byNumber(all [][]string) map[int]string {
	names := map[int]string{}
	for _, f := range all {
		if len(f) > 2 {
			if id, err := strconv.Atoi(f[2]); err == nil {
				names[id] = f[0]
			}
		}
	}
	return names
}

// join adds the user to the groups that have lines among all, which are a group's or gshadow's.
func (c *customiser) join(file string, all [][]string, u custom.User) error {
	const members = 3
	for _, group := range u.Groups {
		i := slices.IndexFunc(all, func(f []string) bool { return f[0] == group && len(f) > members })
		switch {
		case i >= 0:
			all[i][members] = strings.TrimPrefix(all[i][members]+","+u.Name, ",")
		case file == "etc/group":
			return fmt.Errorf("groups: %w", c.noAccount("group", file, group))
		}
	}
	return nil
}

// home makes a user's home directory. What an overlay of no owners has put there becomes the user's.
func (c *customiser) home(u custom.User, uid, gid int) error {
	dir := strings.TrimPrefix(u.Dir(), "/")
	old := c.at(dir)
	if old != nil && old.typ != tar.TypeDir {
		return fmt.Errorf("home: %s is there and no directory", u.Dir())
	}
	if err := c.lay(&node{name: dir, typ: tar.TypeDir, mode: 0o700, uid: uid, gid: gid}); err != nil {
		return fmt.Errorf("home: %w", err)
	}
	dir = c.at(dir).name
	if c.ruled[dir] { // an overlay's, whose mode says nothing of who may read a home
		c.nodes[dir].mode = 0o700
	}
	if old != nil && !c.ruled[dir] { // a package's, and as it has it
		if old.uid != uid {
			c.warn(fmt.Sprintf("users: %s: home: %s is there, and user %d's: it stays as it is",
				u.Name, u.Dir(), old.uid))
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		n := c.nodes[name]
		if within(name, dir) && c.ruled[name] {
			n.uid, n.gid = uid, gid
		}
		rel, ok := strings.CutPrefix(name, "etc/skel/")
		if !ok || c.nodes[path.Join(dir, rel)] != nil {
			continue
		}
		if n = c.at(name); n == nil || n.typ == tar.TypeSymlink {
			continue
		}
		of := *n
		of.name, of.uid, of.gid = path.Join(dir, rel), uid, gid
		if err := c.lay(&of); err != nil {
			return fmt.Errorf("home: %w", err)
		}
	}
	return nil
}

// keys gives users the public keys by which they log in, with the owners and modes that sshd's StrictModes wants.
func (c *customiser) keys() error {
	for _, k := range c.want.AuthorizedKeys {
		if err := c.userKeys(k); err != nil {
			return fmt.Errorf("authorized-keys: %w", err)
		}
	}
	return nil
}

func (c *customiser) userKeys(k custom.Keys) error {
	f, err := c.account("etc/passwd", k.User)
	if err != nil {
		return err
	}
	if len(f) < 7 {
		return c.noAccount("user", "etc/passwd", k.User)
	}
	uid, uerr := strconv.Atoi(f[2])
	gid, gerr := strconv.Atoi(f[3])
	if err := errors.Join(uerr, gerr); err != nil {
		return fmt.Errorf("etc/passwd: the line of %s has no numbers: %w", k.User, err)
	}
	home := c.at(f[5])
	if home == nil || home.typ != tar.TypeDir {
		return fmt.Errorf("%s has no home directory: %s is not there", k.User, f[5])
	}
	dir := path.Join(home.name, ".ssh")
	if err := c.lay(&node{name: dir, typ: tar.TypeDir, mode: 0o700, uid: uid, gid: gid}); err != nil {
		return err
	}
	dir = c.at(dir).name
	text := strings.Join(k.Keys, "\n") + "\n"
	file := &node{name: dir + "/authorized_keys", typ: tar.TypeReg, mode: 0o600, uid: uid, gid: gid}
	file.setContent([]byte(text))
	if err := c.lay(file); err != nil {
		return err
	}
	for name := dir; ; name = path.Dir(name) {
		if n := c.nodes[name]; n.mode&0o022 != 0 || n.uid != 0 && n.uid != uid {
			return fmt.Errorf("sshd would not take %s's keys: /%s is of user %d with mode %04o, and others could "+
				"change it: make it %s's, and writable by nobody else", k.User, name, n.uid, n.mode, k.User)
		}
		if name == home.name || name == "." {
			return nil
		}
	}
}

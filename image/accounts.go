package image

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/editdist"
)

// owner finds the numbers of name[:group]. Without a group it is the user's own.
func (c *customiser) owner(s string) (uid, gid int, err error) {
	user, group, grouped := strings.Cut(cmp.Or(s, "0:0"), ":")
	uid, err = strconv.Atoi(user)
	gid = uid
	if err != nil {
		f, err := c.account("etc/passwd", user)
		if err != nil {
			return 0, 0, err
		}
		if len(f) < 4 {
			return 0, 0, fmt.Errorf("the guest has no user %s: include the package that makes it, or give its number",
				user)
		}
		if uid, err = strconv.Atoi(f[2]); err == nil {
			gid, err = strconv.Atoi(f[3])
		}
		if err != nil {
			return 0, 0, fmt.Errorf("etc/passwd: the line of %s has no numbers", user)
		}
	}
	if !grouped {
		return uid, gid, nil
	}
	if gid, err = strconv.Atoi(group); err == nil {
		return uid, gid, nil
	}
	f, err := c.account("etc/group", group)
	if err == nil && len(f) < 3 {
		err = fmt.Errorf("the guest has no group %s", group)
	}
	if err == nil {
		gid, err = strconv.Atoi(f[2])
	}
	return uid, gid, err
}

// rootPassword puts the hash of root's password into the tree.
func (c *customiser) rootPassword() error {
	if c.want.RootPassword == "" {
		return nil
	}
	hash := custom.Shadow(c.want.RootPassword)
	text, err := c.read("etc/shadow")
	if err != nil {
		return err
	}
	var out strings.Builder
	found := false
	for line := range strings.Lines(text) {
		if f := strings.Split(line, ":"); f[0] == "root" && len(f) > 1 {
			f[1], found = hash, true
			line = strings.Join(f, ":")
		}
		out.WriteString(line)
	}
	if !found {
		return errors.New("root-password: etc/shadow: no root")
	}
	c.at("etc/shadow").setContent([]byte(out.String()))
	return nil
}

// noAccount says that the guest has no user or group of that name, and which one may be meant.
func (c *customiser) noAccount(what, file, name string) error {
	all, err := c.records(file)
	if err != nil {
		return err
	}
	near := ""
	if n := editdist.Nearest(name, func(yield func(string) bool) {
		for _, f := range all {
			if !yield(f[0]) {
				return
			}
		}
	}, 2); n != "" {
		near = ": did you mean " + n + "?"
	}
	return fmt.Errorf("the guest has no %s %s%s", what, name, near)
}

// records are the lines of a file such as etc/passwd, in their fields.
func (c *customiser) records(file string) (all [][]string, err error) {
	text, err := c.read(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		all = append(all, strings.Split(strings.TrimSuffix(line, "\n"), ":"))
	}
	return all, nil
}

// record writes the lines of such a file.
func (c *customiser) record(file string, all [][]string) {
	var out strings.Builder
	for _, f := range all {
		out.WriteString(strings.Join(f, ":") + "\n")
	}
	c.at(file).setContent([]byte(out.String()))
}

// account is the line of a name in a file such as etc/passwd, in its fields; nil: there is none.
func (c *customiser) account(file, name string) ([]string, error) {
	text, err := c.read(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), ":"); f[0] == name {
			return f, nil
		}
	}
	return nil, nil
}

// read is the text of a small file of the tree.
func (c *customiser) read(file string) (string, error) {
	n := c.at(file)
	if n == nil {
		return "", fmt.Errorf("read %s: the tree has none", file)
	}
	b, err := c.content(n)
	return string(b), err
}

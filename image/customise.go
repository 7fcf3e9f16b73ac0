package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/guest"
)

// Custom is what a user wants otherwise in a tree than its packages have it.
type Custom = custom.Custom

// CustomSpec says what Customise makes of a tree.
type CustomSpec struct {
	Custom     Custom
	Epoch      time.Time // the time of what is laid over
	Size       Size      // of the image, which the tree must not outgrow where something runs in it; 0: no bound
	Arch       Arch      // of the tree's programs; zero: the default
	Privileged bool      // what runs in the tree does so in a fully privileged container
}

// CustomError is something that is wanted of a tree and that this tree cannot have.
type CustomError struct{ Err error }

func (e *CustomError) Error() string { return e.Err.Error() }

func (e *CustomError) Unwrap() error { return e.Err }

// overlayTime stands for the epoch in a packed overlay, which does not know it.
var overlayTime = time.Unix(0, 0)

// Customise writes the tar of a normalised tree with what is wanted in it. Later parts win: overlays in their order,
// settings, users and their keys, files, scripts in their order, units. Overlays are opened by their digests. Only what
// [Custom.Inside] says takes a container, as the bootstrap's.
func (m Maker) Customise(ctx context.Context, spec CustomSpec, base Tree, overlays Packages, out io.Writer) error {
	if err := spec.Custom.Check(); err != nil {
		return &CustomError{err}
	}
	var t *tree
	if err := base.read(func(r io.Reader) (err error) { t, err = readTar(r, ""); return err }); err != nil {
		return err
	}
	c := &customiser{tree: t, Maker: m, spec: &spec, want: &spec.Custom, ruled: map[string]bool{},
		epoch: spec.Epoch.UTC().Truncate(time.Second)}
	defer func() { c.close() }()
	c.had = map[string]bool{}
	for _, file := range vital {
		n := c.at(file)
		c.had[file] = n != nil && n.typ == tar.TypeReg
	}
	if err := c.overlays(ctx, overlays); err != nil {
		return err
	}
	for _, do := range []func() error{c.settings, c.locale, c.users, c.rootPassword, c.keys, c.files} {
		if err := do(); err != nil {
			return &CustomError{err}
		}
	}
	if err := c.runAll(ctx); err != nil {
		return err
	}
	if err := c.bootable(); err != nil {
		return &CustomError{err}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return c.write(out)
}

// vital are files without which no guest boots to a shell.
var vital = []string{"/sbin/init", "/bin/sh", "/etc/passwd"}

// bootable wants what no guest boots without, where the packages have it.
func (c *customiser) bootable() error {
	for _, file := range vital {
		n := c.at(file)
		if (n == nil || n.typ != tar.TypeReg) && c.had[file] {
			return fmt.Errorf("%s is gone, or no file any more, and no guest boots without: leave it as it is", file)
		}
	}
	return nil
}

// customiser changes a tree.
type customiser struct {
	*tree
	Maker
	spec  *CustomSpec
	want  *Custom
	epoch time.Time
	had   map[string]bool // which of vital the tree came with
	ruled map[string]bool // names whose owner is root by rule, and may be another by a better one
}

func (c *customiser) overlays(ctx context.Context, from Packages) error {
	for _, o := range c.want.Overlays {
		if err := c.overlay(ctx, o, from); err != nil {
			return fmt.Errorf("overlay %s: %w", o.Path, err)
		}
	}
	return nil
}

func (c *customiser) overlay(ctx context.Context, o custom.Overlay, from Packages) error {
	r, err := from.Open(o.SHA256)
	if err != nil {
		return err
	}
	defer r.Close()
	over, err := readTar(r, "")
	if err != nil {
		return err
	}
	defer over.close()
	placed := map[string]string{} // where the overlay's names have come to be
	for _, n := range over.sorted() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if n.name == "." {
			continue
		}
		to := *n
		if to.typ == tar.TypeReg && to.size > 0 {
			to.at = c.end
			w := io.NewOffsetWriter(c.spool, c.end)
			size, err := io.Copy(w, io.NewSectionReader(over.spool, n.at, n.size))
			if err != nil {
				return err
			}
			c.end += size
		}
		if to.typ == tar.TypeLink {
			to.link = placed[n.link]
		}
		if err := c.lay(&to); err != nil {
			return err
		}
		placed[n.name] = to.name
	}
	return nil
}

// settings are the guest's name and time zone.
func (c *customiser) settings() error {
	if name := c.want.Hostname; name != "" {
		short, _, dotted := strings.Cut(name, ".")
		names := name
		if dotted {
			names += " " + short
		}
		text := strings.Replace(hosts, "\t"+Hostname+"\n", "\t"+names+"\n", 1)
		if err := errors.Join(c.text("etc/hostname", name+"\n"), c.text("etc/hosts", text)); err != nil {
			return err
		}
	}
	if zone := c.want.Timezone; zone != "" {
		file := "/" + zones + "/" + zone
		if n := c.at(file); zone != "UTC" && (n == nil || n.typ == tar.TypeDir) {
			return c.noZone(zone, n != nil)
		}
		link := &node{name: "etc/localtime", typ: tar.TypeSymlink, mode: 0o777, link: file}
		if err := errors.Join(c.lay(link), c.text("etc/timezone", zone+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// ZoneError is a time zone that a tree does not have, and what may be meant.
type ZoneError struct{ Zone, Near string }

func (e *ZoneError) Error() string {
	return fmt.Sprintf("timezone: the suite has no %q%s", e.Zone, e.Near)
}

const zones = "usr/share/zoneinfo"

// noZone is the error of a time zone that is none, or a directory of some.
func (c *customiser) noZone(zone string, dir bool) error {
	var known []string
	real, err := c.resolve(zones + "/x")
	if err != nil {
		return err
	}
	for name, n := range c.nodes {
		if rel, ok := strings.CutPrefix(name, path.Dir(real)+"/"); ok && n.typ != tar.TypeDir {
			known = append(known, rel)
		}
	}
	slices.Sort(known)
	is := func(name string) bool { return strings.EqualFold(name, zone) }
	below := func(name string) bool { return strings.HasPrefix(name, zone+"/") }
	e := &ZoneError{Zone: zone}
	if i := slices.IndexFunc(known, below); dir && i >= 0 {
		e.Near = ": it is a directory of zones, such as " + known[i]
	} else if i := slices.IndexFunc(known, is); i >= 0 {
		e.Near = ": did you mean " + known[i] + "?"
	} else if near := editdist.Nearest(zone, slices.Values(known), 2); near != "" {
		e.Near = ": did you mean " + near + "?"
	}
	return e
}

// Hint says where names are.
func (e *ZoneError) Hint() string {
	return "timedatectl list-timezones prints those that there are, such as Europe/Berlin; " +
		"old names (US/Pacific) need include: tzdata-legacy since trixie"
}

// files are those that are named one by one.
func (c *customiser) files() error {
	laid := map[string]string{} // by the name in the tree: /bin/x and /usr/bin/x are one
	for _, f := range c.want.Files {
		n := &node{name: strings.TrimPrefix(f.Path, "/"), typ: tar.TypeReg, mode: int64(f.Mode)}
		n.setContent([]byte(f.Text))
		var err error
		if n.uid, n.gid, err = c.owner(f.Owner); err != nil {
			return fmt.Errorf("files: %s: owner: %w", f.Path, err)
		}
		if old := c.at(f.Path); old != nil && old.typ == tar.TypeDir {
			return fmt.Errorf("files: %s is a directory in the tree: name a file in it", f.Path)
		} else if old != nil && old.mode&0o111 != 0 && n.mode&0o111 == 0 {
			return fmt.Errorf("files: %s is a program in the tree, and with mode %04o nobody could run what replaces "+
				"it: give it mode: 0755", f.Path, n.mode)
		}
		if err := c.lay(n); err != nil {
			return fmt.Errorf("files: %w", err)
		}
		if other := laid[n.name]; other != "" {
			return fmt.Errorf("files: %s and %s are one file in this tree, /%s: leave one out", other, f.Path, n.name)
		}
		laid[n.name] = f.Path
	}
	return nil
}

// text lays a file of root's over.
func (c *customiser) text(name, text string) error {
	n := &node{name: name, typ: tar.TypeReg, mode: 0o644}
	n.setContent([]byte(text))
	return c.lay(n)
}

// at is what is at a path of the guest, links followed; nil: nothing.
func (c *customiser) at(file string) *node {
	name := strings.TrimPrefix(file, "/")
	for range maxSymlink {
		real, err := c.resolve(name)
		n := c.nodes[real]
		if err != nil || n == nil {
			return nil
		}
		if n.typ == tar.TypeLink {
			return c.nodes[n.link]
		}
		if n.typ != tar.TypeSymlink {
			return n
		}
		if name = n.link; !path.IsAbs(name) {
			name = "/" + path.Join(path.Dir(real), name)
		}
		name = strings.TrimPrefix(path.Clean(name), "/")
	}
	return nil
}

// lay adds or replaces a name, which becomes where in the tree that really is. A directory that is there stays as it
// is, a link to one included; what is made above it belongs to whom the directory above that belongs to.
func (c *customiser) lay(n *node) error {
	name, err := c.resolve(n.name)
	if err != nil {
		return err
	}
	if n.typ == tar.TypeDir {
		if at := c.at(name); at != nil && at.typ == tar.TypeDir {
			n.name = at.name
			return nil
		}
	}
	if err := layable(name); err != nil {
		return err
	}
	old := c.nodes[name]
	if old != nil && old.typ == tar.TypeSymlink && !strings.Contains(name, "/") &&
		within(path.Clean("/"+old.link), "/usr") && (n.typ != tar.TypeSymlink || n.link != old.link) {
		return fmt.Errorf("/%s is a link to %s, and programs are looked for there: it cannot be replaced",
			name, old.link)
	}
	if n.typ == tar.TypeLink && n.link == name {
		return nil // both names of a file were links to one place
	}
	var missing []string
	dir := path.Dir(name)
	for ; c.nodes[dir] == nil; dir = path.Dir(dir) {
		missing = append(missing, dir)
	}
	above := c.nodes[dir]
	for _, dir := range slices.Backward(missing) {
		c.nodes[dir] = &node{name: dir, typ: tar.TypeDir, mode: 0o755, uid: above.uid, gid: above.gid, mtime: c.epoch}
	}
	if n.uid == byRule {
		n.uid, n.gid = 0, 0
		c.ruled[name] = true
	}
	n.name, n.mtime = name, c.epoch
	return c.put(n)
}

// layable refuses the names that are kimg's own, and those that no guest would see.
func layable(name string) error {
	if err := custom.CheckSeen("/" + name); err != nil {
		return err
	}
	if kimgsOwn(name) {
		return fmt.Errorf("/%s is kimg's own, by which it speaks to the guest: choose another name", name)
	}
	return nil
}

// kimgsOwn says whether a name is one of those by which kimg speaks to the guest.
func kimgsOwn(name string) bool {
	return within("/"+name, path.Dir(guest.Agent)) || autologinName(name) ||
		slices.ContainsFunc(slices.Concat(guest.Files(), guest.SSHFiles()),
			func(g guest.File) bool { return "/"+name == g.Path })
}

// autologinName says whether a name is that of the drop-in which logs root in, on whichever console.
func autologinName(name string) bool {
	before, after, _ := strings.Cut(strings.TrimPrefix(autologinPath, "/"), "%s")
	return strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

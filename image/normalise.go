package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Normalisation is what Normalise needs beside the tar.
type Normalisation struct {
	Epoch time.Time // the latest time that a file may carry; whole seconds
	Spool string    // directory for the temporary copy of the contents; empty: os.TempDir

	// Files returns what is laid over the tree, with Epoch as its time. has reports
	// whether the tree has a name ("usr/sbin/sshd").
	Files func(has func(name string) bool) []File
}

// Normalise reads the raw tar of a bootstrapped tree and writes the tar that two bootstraps of the same packages
// have in common: sorted, owners as numbers, times clamped to the epoch, and without what a build host, its clock
// or chance left behind. File capabilities, device numbers and hard links are kept.
//
// The raw tar is not trusted; see readTar for what is refused.
func Normalise(r io.Reader, w io.Writer, o Normalisation) error {
	t, err := readTar(r, o.Spool)
	if err != nil {
		return err
	}
	defer t.close()
	var files []File
	if o.Files != nil {
		files = o.Files(func(name string) bool { return t.nodes[name] != nil })
	}
	if err := t.normalise(o.Epoch, files); err != nil {
		return fmt.Errorf("normalise the tree: %w", err)
	}
	return t.write(w)
}

func (t *tree) normalise(epoch time.Time, files []File) error {
	all := func(string) bool { return true }
	if err := errors.Join(t.scrub(epoch, all), t.rewriteAccounts(epoch, true)); err != nil {
		return err
	}
	epoch = epoch.UTC().Truncate(time.Second)
	for _, f := range files {
		n, err := f.node(epoch)
		if err != nil {
			return err
		}
		if err := t.put(n); err != nil {
			return err
		}
	}
	t.clamp(epoch)
	return nil
}

// clamp has no file younger than the epoch, and none with attributes of the machine that made it.
func (t *tree) clamp(epoch time.Time) {
	for _, n := range t.nodes {
		if n.mtime = n.mtime.UTC().Truncate(time.Second); n.mtime.After(epoch) || n.mtime.Before(time.Unix(0, 0)) {
			n.mtime = epoch
		}
		n.xattr = keptXattrs(n.xattr)
	}
}

// keptXattrs keeps file capabilities, the only attributes that packages set. Security labels and overlay
// bookkeeping belong to the host that the bootstrap ran on, and mke2fs takes nothing but capabilities out of a tar.
func keptXattrs(x map[string]string) map[string]string {
	maps.DeleteFunc(x, func(k, _ string) bool { return k != xattrPrefix+"security.capability" })
	return x
}

// treatment is what a rule does to the names that it matches.
type treatment int

const (
	drop      treatment = iota // the name goes
	dropFiles                  // the name goes unless it is a directory
	empty                      // a file keeps its name, owner and mode and loses its bytes
	database                   // a Berkeley DB loses times and inode numbers
)

// rule treats the names that match pattern: a pattern of path.Match; or one that ends in /** for everything below a
// directory; or one that begins with **/ for a last element anywhere.
type rule struct {
	pattern string
	do      treatment
	why     string
}

// rules hold what differs between two bootstraps of the same packages, or tells
// of the host or of the day. The first that matches counts.
var rules = []rule{
	// What a boot mounts or makes anew.
	{"dev/**", drop, "devtmpfs at boot; deviceFiles puts the few nodes in that a mount needs before it"},
	{"proc/**", drop, "mounted at boot"},
	{"sys/**", drop, "mounted at boot"},
	{"run/**", drop, "a tmpfs at boot"},
	{"tmp/**", drop, "the bootstrap's"},
	{"var/tmp/**", drop, "the bootstrap's"},

	// What identifies one machine.
	{"var/lib/dbus/machine-id", drop, "random; a link to /etc/machine-id comes back at boot"},
	{"etc/ssh/ssh_host_*", drop, "random keys; sshd's drop-in makes the guest's own at boot"},
	{"etc/ssl/private/ssl-cert-snakeoil.key", drop, "a random key"},
	{"etc/ssl/certs/ssl-cert-snakeoil.pem", drop, "a random key's certificate"},
	{"var/lib/systemd/random-seed", drop, "random"},
	{"var/lib/systemd/credential.secret", drop, "random"},
	{"var/lib/urandom/random-seed", drop, "random"},

	// Logs.
	{"var/log/journal", drop, "without it the journal stays in memory, which is also faster"},
	{"var/log/journal/**", drop, "the build's journal"},
	{"var/log/alternatives.log", drop, "times of the build"},
	{"var/log/bootstrap.log", drop, "times of the build"},
	{"var/log/dpkg.log", drop, "times of the build"},
	{"var/log/fontconfig.log", drop, "times of the build"},
	{"var/log/apt/**", dropFiles, "times of the build"},
	{"var/log/**", empty, "packages make these with owners and modes that daemons need; their content is the build's"},

	// Caches, made anew when they are missed.
	{"etc/aliases.db", database, "postfix's: the time it was made at, twice"},
	{"var/cache/ldconfig/aux-cache", drop, "inode numbers and times"},
	{"var/cache/apt/**", dropFiles, "the packages themselves"},
	{"var/cache/man/**", dropFiles, "times of the build"},
	{"var/cache/fontconfig/**", dropFiles, "times of the build"},
	{"var/lib/apt/lists/**", dropFiles, "the mirror's name and day"},
	{"var/lib/systemd/catalog/database", drop, "not the same twice on Ubuntu; only journalctl -x reads it"},
	{"**/__pycache__", drop, "byte code with times of the build"},
	{"**/*.pyc", drop, "byte code with times of the build"},

	// dpkg's, debconf's and debootstrap's own left-overs.
	{"debootstrap", drop, "debootstrap's own files"},
	{"debootstrap/**", drop, "debootstrap's own files"},
	{"etc/unsupported-skip-usrmerge-conversion", drop, "debootstrap's mark where /usr is not merged, as it never is " +
		"in bionic"},
	{unsafeIO, drop, "for the bootstrap only"},
	{"var/lib/dpkg/*-old", drop, "a backup"},
	{"var/lib/dpkg/available", empty, "the bootstrap's package list"},
	{"var/lib/dpkg/lock*", drop, "a lock"},
	{"var/lib/dpkg/triggers/Lock", drop, "a lock"},
	{"var/cache/debconf/*-old", drop, "a backup"},
	{"var/backups/**", drop, "backups"},
	{"etc/passwd-", drop, "a backup"},
	{"etc/group-", drop, "a backup"},
	{"etc/shadow-", drop, "a backup"},
	{"etc/gshadow-", drop, "a backup"},
	{"etc/subuid-", drop, "a backup"},
	{"etc/subgid-", drop, "a backup"},
	{"etc/.pwd.lock", drop, "a lock"},
}

// unsafeIO is dpkg's configuration for the time of the bootstrap.
const unsafeIO = "etc/dpkg/dpkg.cfg.d/kimg-unsafe-io"

// find returns the rule for a name, or nil.
func find(name string) *rule {
	for i := range rules {
		if rules[i].matches(name) {
			return &rules[i]
		}
	}
	return nil
}

func (r *rule) matches(name string) bool {
	if dir, ok := strings.CutSuffix(r.pattern, "/**"); ok {
		return strings.HasPrefix(name, dir+"/")
	}
	if base, ok := strings.CutPrefix(r.pattern, "**/"); ok {
		ok, _ := path.Match(base, path.Base(name)) // patterns are constants; a test matches each of them
		return ok
	}
	ok, _ := path.Match(r.pattern, name)
	return ok
}

// scrub applies the rules to the names for which they are. Deepest names come first, so that a dropped directory is
// empty by then.
func (t *tree) scrub(epoch time.Time, are func(name string) bool) error {
	names := slices.Sorted(maps.Keys(t.nodes))
	slices.Reverse(names)
	gone := map[string]bool{}
	for _, name := range names {
		r := find(name)
		if r == nil || !are(name) {
			continue
		}
		n := t.nodes[name]
		switch {
		case r.do == drop, r.do == dropFiles && n.typ != tar.TypeDir:
			t.remove(name)
			gone[name] = n.typ == tar.TypeDir
		case r.do == empty && n.typ == tar.TypeReg:
			n.setContent(nil)
		case r.do == database && n.typ == tar.TypeReg:
			b, err := t.content(n)
			if err != nil {
				return err
			}
			n.setContent(scrubDB(name, b, epoch))
		}
	}
	// A dropped directory takes along what no rule named.
	if len(gone) > 0 {
		for _, name := range names {
			for p := path.Dir(name); p != "."; p = path.Dir(p) {
				if gone[p] {
					t.remove(name)
					break
				}
			}
		}
	}
	return nil
}

// rewriteAccounts sets every password's day of last change to the epoch's and, with open, takes root's password away:
// the console logs root in without one, and so does a person at any other terminal of the guest.
func (t *tree) rewriteAccounts(epoch time.Time, open bool) error {
	n := t.nodes["etc/shadow"]
	if n == nil {
		return errors.New("etc/shadow is missing: this is not a bootstrapped tree")
	}
	b, err := t.content(n)
	if err != nil {
		return err
	}
	if b, err = shadow(b, epoch, open); err != nil {
		return err
	}
	n.setContent(b)
	return nil
}

// shadow rewrites a shadow(5) file.
func shadow(b []byte, epoch time.Time, open bool) ([]byte, error) {
	const (
		password   = 1
		lastChange = 2 // days since 1970
		fields     = 9
	)
	days := strconv.FormatInt(epoch.Unix()/(24*60*60), 10)
	var out bytes.Buffer
	root := false
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != fields {
			return nil, fmt.Errorf("etc/shadow: %d fields in the line of %q, want %d", len(f), f[0], fields)
		}
		if f[lastChange] != "" {
			f[lastChange] = days
		}
		if f[0] == "root" {
			root = true
			if open {
				f[password] = ""
			}
		}
		out.WriteString(strings.Join(f, ":") + "\n")
	}
	if !root {
		return nil, errors.New("etc/shadow: no root")
	}
	return out.Bytes(), nil
}

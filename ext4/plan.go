package ext4

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// planner turns edits into debugfs commands. It knows what the image holds, and what the edits before have changed.
type planner struct {
	tree     fs.ReadLinkFS
	made     map[string]fs.FileMode // by path without a leading /: the type; gone for what was removed
	links    map[string]string      // of the symbolic links in made: where they lead
	lines    []string
	payloads [][]byte
	latest   time.Time
}

// gone marks a removed path in planner.made.
const gone = fs.ModeIrregular

// Limits of debugfs: it reads a command into 8 KiB and ext4 keeps 255 bytes of a name.
const (
	maxPath = 2048
	maxName = 255
)

func payloadName(i int) string { return "payload." + strconv.Itoa(i) }

func (p *planner) script() string { return strings.Join(p.lines, "\n") + "\n" }

func (p *planner) add(args ...string) {
	for i, a := range args[1:] {
		args[i+1] = quote(a)
	}
	p.lines = append(p.lines, strings.Join(args, " "))
}

// at runs a command on a name in its directory: debugfs looks for "/name" in its working directory.
func (p *planner) at(name, command string, args ...string) {
	p.add("cd", path.Join("/", path.Dir(name)))
	p.add(append([]string{command}, args...)...)
}

// quote writes an argument for debugfs's parser (libss's ss_parse), where a quote inside quotes is doubled.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// clean checks a path and finds its real place: parents resolved, its end not.
func (p *planner) clean(name string) (string, error) {
	switch {
	case !path.IsAbs(name) || path.Clean(name) != name || name == "/":
		return "", fmt.Errorf("edit %q: not a clean absolute path below /", name)
	case len(name) > maxPath:
		return "", fmt.Errorf("edit %q: the path is longer than %d bytes", name[:40]+"...", maxPath)
	}
	for _, c := range name {
		if c < ' ' || c == 0x7F {
			return "", fmt.Errorf("edit %q: control characters in a path cannot be handed to debugfs", name)
		}
	}
	for elem := range strings.SplitSeq(name[1:], "/") {
		if len(elem) > maxName {
			return "", fmt.Errorf("edit %q: a name is longer than %d bytes", name, maxName)
		}
	}
	return p.resolve(name[1:], maxSymlinks)
}

func (p *planner) resolve(name string, budget int) (string, error) {
	here, todo := ".", strings.Split(name, "/")
	for i, elem := range todo {
		next := path.Join(here, elem)
		if i == len(todo)-1 {
			return next, nil
		}
		t, err := p.typ(next)
		if errors.Is(err, fs.ErrNotExist) {
			return path.Join(next, path.Join(todo[i+1:]...)), nil
		}
		if err != nil {
			return "", err
		}
		if t != fs.ModeSymlink {
			here = next
			continue
		}
		if budget--; budget < 0 {
			return "", fmt.Errorf("edit /%s: too many symbolic links", name)
		}
		to, ok := p.links[next]
		if !ok {
			if to, err = p.tree.ReadLink(next); err != nil {
				return "", err
			}
		}
		if !path.IsAbs(to) {
			to = path.Join("/", here, to)
		}
		return p.resolve(path.Join(path.Clean(to), path.Join(todo[i+1:]...))[1:], budget)
	}
	return here, nil
}

func newPlanner(tree fs.ReadLinkFS) *planner {
	return &planner{tree: tree, made: map[string]fs.FileMode{}, links: map[string]string{}}
}

func (p *planner) typ(name string) (fs.FileMode, error) {
	if t, ok := p.made[name]; ok {
		if t == gone {
			return 0, fs.ErrNotExist
		}
		return t, nil
	}
	st, err := p.tree.Lstat(name)
	if err != nil {
		return 0, err
	}
	return st.Mode().Type(), nil
}

// parents makes what is missing above name.
func (p *planner) parents(name string, t time.Time) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	typ, err := p.typ(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := p.parents(dir, t); err != nil {
			return err
		}
		p.mkdir(dir, 0o755, 0, 0, t)
		return nil
	}
	if err == nil && typ != fs.ModeDir {
		err = fmt.Errorf("edit /%s: /%s is not a directory", name, dir)
	}
	return err
}

// clear removes what is in the place of a new file or link.
func (p *planner) clear(name string) error {
	typ, err := p.typ(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case typ == fs.ModeDir:
		return fmt.Errorf("edit /%s: a directory is in its place", name)
	}
	p.at(name, "rm", path.Base(name))
	return nil
}

// set writes an inode's fields. debugfs gives a new inode the umask's mode, its own user and the clock.
func (p *planner) set(name string, mode uint32, uid, gid uint32, t time.Time) {
	if t.After(p.latest) {
		p.latest = t
	}
	clock := "@" + strconv.FormatInt(t.Unix(), 10)
	for _, f := range [][2]string{
		{"mode", "0" + strconv.FormatUint(uint64(mode), 8)},
		{"uid", strconv.FormatUint(uint64(uid), 10)}, {"gid", strconv.FormatUint(uint64(gid), 10)},
		{"atime", clock}, {"ctime", clock}, {"mtime", clock}, {"crtime", clock},
	} {
		p.add("set_inode_field", "/"+name, f[0], f[1])
	}
}

// Type bits of i_mode.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

func (p *planner) mkdir(name string, perm fs.FileMode, uid, gid uint32, t time.Time) {
	p.at(name, "mkdir", path.Base(name))
	p.set(name, modeDir|uint32(perm.Perm()), uid, gid, t)
	p.made[name] = fs.ModeDir
}

func (e WriteFile) plan(p *planner) error {
	name, err := p.clean(e.Path)
	if err != nil {
		return err
	}
	if err := errors.Join(p.parents(name, e.Time), p.clear(name)); err != nil {
		return err
	}
	p.at(name, "write", payloadName(len(p.payloads)), path.Base(name))
	p.payloads = append(p.payloads, e.Data)
	p.set(name, modeFile|uint32(e.Mode.Perm()), e.UID, e.GID, e.Time)
	p.made[name] = 0
	return nil
}

// signedHash is EXT2_FLAGS_SIGNED_HASH in s_flags, whose other bits a new file system has not.
const signedHash = 1

func (e SignedHash) plan(p *planner) error {
	p.add("set_super_value", "flags", strconv.Itoa(signedHash))
	return nil
}

func (e MakeDir) plan(p *planner) error {
	name, err := p.clean(e.Path)
	if err != nil {
		return err
	}
	typ, err := p.typ(name)
	if err == nil && typ == fs.ModeDir {
		return nil
	} else if err == nil {
		return fmt.Errorf("edit %s: it is there and not a directory", e.Path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.parents(name, e.Time); err != nil {
		return err
	}
	p.mkdir(name, e.Mode, e.UID, e.GID, e.Time)
	return nil
}

func (e Symlink) plan(p *planner) error {
	name, err := p.clean(e.Path)
	if err != nil {
		return err
	}
	if e.Target == "" || len(e.Target) > maxPath || strings.ContainsAny(e.Target, "\x00\n\r\t") {
		return fmt.Errorf("edit %s: a link to %q cannot be handed to debugfs", e.Path, e.Target)
	}
	if err := errors.Join(p.parents(name, e.Time), p.clear(name)); err != nil {
		return err
	}
	p.at(name, "symlink", path.Base(name), e.Target)
	p.set(name, modeLink|0o777, 0, 0, e.Time)
	p.made[name], p.links[name] = fs.ModeSymlink, e.Target
	return nil
}

func (e Remove) plan(p *planner) error {
	name, err := p.clean(e.Path)
	if err != nil {
		return err
	}
	typ, err := p.typ(name)
	if err != nil {
		return fmt.Errorf("remove %s: %w", e.Path, err)
	}
	if typ == fs.ModeDir {
		p.at(name, "rmdir", path.Base(name))
	} else {
		p.at(name, "rm", path.Base(name))
	}
	p.made[name] = gone
	return nil
}

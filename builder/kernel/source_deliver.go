package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/tree"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

// CcacheVolume keeps compiled objects, unless a Job says otherwise. All builds share it: ccache has locks.
const CcacheVolume = "kimg-ccache"

// A source volume holds a tree and, written last, the mark that says which; without it it is never used.
const (
	sourceMark = tree.OwnNames + "source"
	newMark    = sourceMark + ".new"
)

// identity is a digest of what a source's volumes and lock are for: a directory by its
// path, whatever it holds now, an archive by its content. This machine's name and its
// cache directory are in it, because that is where the lock is.
func (j Job) identity() string {
	host, _ := os.Hostname() // "" will do
	what := string(j.Tree.SHA256)
	if j.Tree.Kind == Directory {
		what = j.Tree.Path
	}
	if j.copied {
		what += "\ncopy"
	}
	return string(units.DigestOf([]byte(host + "\n" + j.CacheDir + "\n" + string(j.Tree.Kind) + "\n" + what)))
}

// SourceVolume is where the source is kept.
func (j Job) SourceVolume() string { return "kimg-src-" + j.identity() }

// ObjectVolume is where objects are kept. Another compiler's objects are of no use.
func (j Job) ObjectVolume() string {
	return "kimg-obj-" + string(units.DigestOf([]byte(j.identity()+j.ImageID+j.Era.CC)))
}

// besides has a job take volumes of its own where the source's are another kimg's at the moment.
func (j Job) besides(task *progress.Task) Job {
	f, err := filelock.Try(filepath.Join(j.CacheDir, "locks", "kernel-"+j.identity()), os.O_RDWR)
	if err == nil {
		f.Close()
	}
	if j.copied = errors.Is(err, filelock.ErrHeld); j.copied {
		task.Say("another kimg compiles this source: a copy of it is asked")
	}
	return j
}

func lockTree(ctx context.Context, j Job, task *progress.Task) (unlock func(), err error) {
	name := "kernel-" + j.identity()
	unlock, err = filelock.Take(ctx, filepath.Join(j.CacheDir, "locks", name), func() {
		task.Say("another kimg compiles this source: waiting for it")
	})
	if err != nil {
		return nil, fmt.Errorf("lock the kernel's source: %w", err)
	}
	if !j.Temporary {
		cache.Stamp(j.CacheDir, j.SourceVolume(), name)
		cache.Stamp(j.CacheDir, j.ObjectVolume(), name)
		cache.Stamp(j.CacheDir, j.ccache(), "")
	}
	return unlock, nil
}

// deliver makes the source's volume hold the source with the job's patches, or removes
// it, and returns its name. A volume that it did not write to stays as it was.
func deliver(ctx context.Context, eng container.Engine, j Job, task *progress.Task) (name string, err error) {
	volume := j.SourceVolume()
	d := &delivery{tree: j.Tree}
	var made []string
	defer func() {
		if err == nil {
			return
		}
		if d.half { // half a tree is of no use, and neither are its objects
			made = []string{volume, j.ObjectVolume()}
		}
		for _, v := range made {
			err = errors.Join(err, eng.RemoveVolume(ctx, v))
		}
	}()
	for _, v := range []string{volume, j.ObjectVolume()} {
		there, err := eng.VolumeExists(ctx, v)
		if err != nil {
			return "", err
		}
		if !there {
			made = append(made, v)
		}
		if err := eng.EnsureVolume(ctx, v, !j.Temporary); err != nil {
			return "", err
		}
	}
	// A new volume gets its owner from the image's directory, so the object volume is first seen there.
	d.worker, err = newWorker(ctx, eng, j, task, nil,
		container.Mount{Volume: volume, Target: srcDir},
		container.Mount{Volume: j.ObjectVolume(), Target: DebugGenerated})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Remove(ctx)) }()
	if err := d.look(ctx); err != nil {
		return "", err
	}
	bring := d.archive
	if j.Tree.Kind == Directory {
		bring = d.directory
	}
	if err := bring(ctx); err != nil {
		return "", err
	}
	return volume, d.patch(ctx, j.Patches)
}

type delivery struct {
	*worker
	tree    *Tree
	mark    []byte  // nil: the volume holds no whole tree
	patched patched // what has been applied to it
	half    bool    // this run began to write to the volume and did not finish
	running bool
}

func (d *delivery) start(ctx context.Context) error {
	if d.running {
		return nil
	}
	d.running = true
	return d.Start(ctx)
}

func (d *delivery) look(ctx context.Context) (err error) {
	if d.mark, err = readFile(ctx, d, srcDir+"/"+sourceMark); err != nil || d.mark == nil {
		return err
	}
	text, err := readFile(ctx, d, srcDir+"/"+patchState)
	if err != nil || text == nil {
		return err
	}
	if json.Unmarshal(text, &d.patched) != nil {
		d.mark = nil // what is in the tree is not known any more
	}
	return nil
}

// readFile reads a file of a container, which need not run; nil: there is none.
func readFile(ctx context.Context, c container.Container, name string) ([]byte, error) {
	r, err := c.CopyOut(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	if _, err := tr.Next(); err != nil {
		return nil, fmt.Errorf("read %s of the source volume: %w", path.Base(name), err)
	}
	text, err := io.ReadAll(io.LimitReader(tr, tree.MaxPacked))
	if err != nil {
		return nil, fmt.Errorf("read %s of the source volume: %w", path.Base(name), err)
	}
	return text, nil
}

// tarRefuses are GNU tar's messages about a member that would have landed elsewhere.
var tarRefuses = []string{"Removing leading", "contains '..'", "Cannot create symlink",
	"Cannot open: Not a directory"}

// noDevice is GNU tar's message about a device, which nobody but root can make, and its last one.
var noDevice = regexp.MustCompile(
	`^tar: (?:(.*): Cannot mknod: .*|Exiting with failure status due to previous errors)$`)

// maxTree bounds an unpacked tarball, in bytes: 6.12 has 1.5 GiB. A test lowers it.
var maxTree int64 = 8 << 30

// unpackScript unpacks what $1 makes of its input, less $2 leading directories, $3 bytes at most, or only $4 of it.
// Files get the time at which they arrive: objects of other versions of them may be there. Members whose names match
// $5 are listed, where it is not empty.
const unpackScript = `set -o pipefail; umask 022; cd ` + srcDir + `
find . -mindepth 1 -delete
plain() {
	eval "$1" |
	{ head -c "$3"; test -z "$(head -c 1 | tr '\0' x)" || { echo "kimg: more than $3 bytes" >&2; exit 3; }; }
}
unpack() { tar -x -m --no-same-owner --no-same-permissions --strip-components="$2" ${4:+-- "$4"}; }
if [ -z "$5" ]; then
	plain "$@" | unpack "$@"
	exit
fi
mkfifo "$HOME/kimg.tar"
{ tar -t 2>/dev/null; cat >/dev/null; } <"$HOME/kimg.tar" | grep -E "$5" &
plain "$@" | tee "$HOME/kimg.tar" | unpack "$@"
status=$?; wait; exit $status`

// topNames are the names of topFiles, as deep in a tar as findTree looks for them.
const topNames = `^(\./)*([^/]+/){0,2}(Makefile|Kconfig|Kbuild)$`

// wholeTops are the directories of a list of names that have all of topFiles, in the order in which they are whole.
func wholeTops(names string) (all []string) {
	has := map[string]map[string]bool{}
	for name := range strings.Lines(names) {
		name = path.Clean(strings.TrimSpace(name))
		at := path.Dir(name)
		if strings.Count(at, "/") > 0 {
			continue
		}
		if has[at] == nil {
			has[at] = map[string]bool{}
		}
		if has[at][path.Base(name)] = true; len(has[at]) == len(topFiles) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// debScript takes the tarball out of a source package: xz in Debian's, bzip2 in Ubuntu's. dpkg-deb wants a file.
const debScript = `cat > .kimg.deb && dpkg-deb --fsys-tarfile .kimg.deb | tar -x -C "$HOME" --wildcards \
--to-command='case "$TAR_FILENAME" in *.xz) xz -T0 -dc;; *.bz2) bzip2 -dc;; *.gz) gzip -dc;; *.zst) zstd -dc;; esac' \
'./usr/src/*linux-source-*.tar.*' && rm .kimg.deb`

// archive unpacks a tarball or a source package, inside of the container, where it can reach nothing.
func (d *delivery) archive(ctx context.Context) error {
	mark := []byte("archive 2 " + string(d.tree.SHA256) + "\n")
	if d.tree.first && d.tree.only != "" { // older versions of kimg unpacked all there was
		mark = []byte("archive 3 " + string(d.tree.SHA256) + "\n")
	}
	if bytes.Equal(mark, d.mark) {
		return nil
	}
	in, err := os.Open(d.tree.Path)
	if err != nil {
		return fmt.Errorf("read kernel source: %w", err)
	}
	defer in.Close()
	script := debScript
	if d.tree.Kind != Suite {
		_, script, _ = compression(d.tree.name)
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.task.Log(), "unpack %s\n", d.tree.Path)
	d.half, d.patched = true, patched{}
	var errs, names bytes.Buffer
	list := ""
	if d.tree.first {
		list = topNames
	}
	err = d.exec(ctx, in, limitWriter(&names, 1<<20), limitWriter(&errs, 1<<20), "bash", "-c", unpackScript, "bash",
		script, fmt.Sprint(d.tree.strip), fmt.Sprint(maxTree), d.tree.only, list)
	skipped, messages := devices(errs.String())
	if skipped != nil && messages == "" && code(err) == 2 { // tar's "fatal error": it went on, to the end
		err = nil
	}
	if err := unpackError(d.tree.Path, messages, err); err != nil {
		return err
	}
	if dirs := wholeTops(names.String()); len(dirs) > 1 {
		return sourceError("unpack", d.tree.Path, &manyTrees{dirs: dirs})
	}
	special, err := d.check(ctx)
	if err != nil {
		return sourceError("unpack", d.tree.Path, err)
	}
	if skipped = append(skipped, special...); len(skipped) > 0 {
		slices.Sort(skipped)
		d.task.Warn(SkippedWarning(d.tree.Path, skipped))
	}
	if err := d.run(ctx, nil, nil, "mkdir", objDir); err != nil {
		return fmt.Errorf("make the directory for objects: %w", err)
	}
	err = d.write(ctx, srcDir+"/"+sourceMark, mark)
	d.half = err != nil
	return err
}

// devices are those that tar could not make, and the other messages.
func devices(messages string) (names []string, rest string) {
	if !strings.Contains(messages, "Cannot mknod") {
		return nil, messages
	}
	for line := range strings.Lines(messages) {
		m := noDevice.FindStringSubmatch(strings.TrimSpace(line))
		switch {
		case m == nil:
			rest += line
		case m[1] != "":
			names = append(names, m[1])
		}
	}
	return names, rest
}

// unpackError is what unpackScript's messages and status say about a tarball; nil: all is well.
func unpackError(tarball, messages string, err error) error {
	for line := range strings.Lines(messages) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "No space left on device") { // which is not the tarball's fault
			return fmt.Errorf("unpack %s: %w: %s", tarball, container.ErrNoSpace, line)
		}
		if slices.ContainsFunc(tarRefuses, func(word string) bool { return strings.Contains(line, word) }) {
			err := fmt.Errorf("refused: a member points out of the tree, or is a device: %s", line)
			return sourceError("unpack", tarball, err)
		}
	}
	if status := code(err); status != 0 && status < 128 { // it was not killed
		return sourceError("unpack", tarball, fmt.Errorf("it is cut short or damaged: %s", firstLine(messages)))
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", tarball, err)
	}
	return nil
}

// check checks that an unpacked tree is the kernel that it was taken for, and that nothing in it leads out of it. What
// is neither a file nor a link is removed, and returned.
func (d *delivery) check(ctx context.Context) (special []string, _ error) {
	makefile, err := d.read(ctx, srcDir+"/Makefile")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoTree
	}
	if err != nil {
		return nil, err
	}
	version, err := ParseMakefile(bytes.NewReader(makefile))
	if err != nil {
		return nil, err
	}
	if want := d.tree.Version; version.Major != want.Major || version.Minor != want.Minor {
		return nil, fmt.Errorf("it holds Linux %s, not %s", version, want)
	}
	out, err := d.output(ctx, nil, 16<<20, "find", srcDir,
		"-path", srcDir+"/"+tree.OwnNames+"*", "-printf", `k%P\0`, "-prune",
		"-o", "-type", "l", "-printf", `l%P\t%l\0`,
		"-o", "!", "-type", "f", "!", "-type", "d", "-printf", `s%P\0`)
	if err != nil {
		return nil, fmt.Errorf("list the tree: %w", err)
	}
	for item := range strings.SplitSeq(out, "\x00") {
		if item == "" {
			continue
		}
		name, target, _ := strings.Cut(item[1:], "\t")
		if item[0] == 'k' {
			return nil, fmt.Errorf("refused: %q is a name that kimg keeps for itself", name)
		}
		if item[0] == 's' {
			special = append(special, name)
			continue
		}
		if escapes(name, target) {
			return nil, fmt.Errorf("refused: link %q leads out of the tree, to %q", name, target)
		}
	}
	if len(special) > 0 {
		list := strings.NewReader(strings.Join(special, "\x00"))
		if err := d.run(ctx, list, nil, "sh", "-c", `cd "$1" && exec xargs -0 rm -f --`, "sh", srcDir); err != nil {
			return nil, fmt.Errorf("remove what is no source: %w", err)
		}
	}
	return special, nil
}

// escapes reports whether a link points, or could point, outside the tree: where ".." comes after a name that may
// be a link itself, only a walk could tell. No kernel has such links.
func escapes(name, target string) bool {
	if strings.HasPrefix(target, "/") {
		return true
	}
	down := target
	for strings.HasPrefix(down, "../") || strings.HasPrefix(down, "./") {
		_, down, _ = strings.Cut(down, "/")
	}
	if down != ".." && slices.Contains(strings.Split(down, "/"), "..") {
		return true
	}
	at := path.Join(path.Dir(name), target)
	return at == ".." || strings.HasPrefix(at, "../")
}

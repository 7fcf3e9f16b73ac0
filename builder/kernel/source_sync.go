package kernel

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kimg/kimg/builder/kernel/tree"
	"github.com/kimg/kimg/internal/reading"
)

// syncScript applies a delta to a source volume: from its input it takes $1 bytes of names of files to remove, $2
// of directories, then a tar. "wipe" as $3 empties the volume first. Files get the time at which they arrive, by
// the engine's own clock, which is the one that make compares. The mark goes first and comes last.
const syncScript = `set -eu; umask 022; cd ` + srcDir + `
rm -f ` + sourceMark + ` ` + patchState + `
if test "$3" = wipe; then find . -mindepth 1 -delete; fi
head -c "$1" | xargs -0r rm -f --
head -c "$2" | xargs -0r rmdir --ignore-fail-on-non-empty -- 2>/dev/null || true
tar -x -m --no-same-owner --no-same-permissions
mkdir -p ` + objName + `
mv ` + newMark + ` ` + sourceMark

// directory makes the volume hold what the directory held when it was pinned.
func (d *delivery) directory(ctx context.Context) error {
	want := d.tree.files
	have, err := tree.Unpack(d.mark)
	how := "keep"
	changes := tree.Diff(have, want)
	if err != nil || d.patched.clash(changes) {
		changes, how = tree.Diff(nil, want), "wipe"
	}
	if how == "keep" && len(changes.Send) == 0 && len(changes.Remove) == 0 {
		return nil
	}
	if how == "wipe" {
		d.patched = patched{}
	}
	d.patched = d.patched.without(changes)
	if err := d.start(ctx); err != nil {
		return err
	}
	d.half = true
	fmt.Fprintf(d.task.Log(), "send %d changed files of %d, remove %d\n",
		len(changes.Send), len(want), len(changes.Remove))
	files, dirs := zeroed(changes.Remove), zeroed(changes.Rmdir)
	err = reading.Pipe(func(w io.Writer) error {
		return d.send(ctx, w, files+dirs, changes.Send)
	}, func(r io.Reader) error {
		return d.run(ctx, r, nil,
			"bash", "-c", syncScript, "bash", strconv.Itoa(len(files)), strconv.Itoa(len(dirs)), how)
	})
	if err != nil {
		return fmt.Errorf("send kernel tree: %w", err)
	}
	d.half = false
	return nil
}

func zeroed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return strings.Join(names, "\x00") + "\x00"
}

func (d *delivery) send(ctx context.Context, w io.Writer, head string, files tree.Files) error {
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	mark, err := d.tree.files.Pack()
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, e := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.sendFile(tw, e); err != nil {
			return err
		}
	}
	own := map[string][]byte{newMark: mark}
	if len(d.patched.Files) > 0 {
		if own[patchState], err = json.Marshal(d.patched); err != nil {
			return err
		}
	}
	for name, text := range own {
		if err := putFile(tw, name, 0o644, string(text)); err != nil {
			return err
		}
	}
	return tw.Close()
}

// sendFile sends one file, and makes sure that it still is what was pinned.
func (d *delivery) sendFile(tw *tar.Writer, e tree.File) error {
	h := &tar.Header{Name: e.Path, Typeflag: tar.TypeReg, Mode: 0o644, Size: e.Size}
	switch e.Kind {
	case 'l':
		h.Typeflag, h.Linkname, h.Size, h.Mode = tar.TypeSymlink, e.Sum, 0, 0o777
		return tw.WriteHeader(h)
	case 'x':
		h.Mode = 0o755
	}
	f, err := os.Open(filepath.Join(d.tree.Path, e.Path))
	if err != nil {
		return tree.Vanished(err)
	}
	defer f.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(tw, io.TeeReader(io.LimitReader(f, e.Size), sum))
	if err != nil {
		return err
	}
	if n != e.Size || hex.EncodeToString(sum.Sum(nil)) != e.Sum {
		return fmt.Errorf("%s changed during the build: build again", f.Name())
	}
	return nil
}

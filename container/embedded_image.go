package container

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sandbox"
	"github.com/kimg/kimg/internal/units"
)

func (e *embedded) imagePath(id units.Digest) string { return filepath.Join(e.dir, images, string(id)) }

// refPath is the file of an image's name, which is that of its latest version where it names none.
func (e *embedded) refPath(ref string) string {
	if !strings.Contains(ref[strings.LastIndexByte(ref, '/')+1:], ":") {
		ref += ":latest"
	}
	return filepath.Join(e.dir, refs, url.PathEscape(ref))
}

// resolve finds the image that ref, a name or an id, names. There is none: fs.ErrNotExist.
func (e *embedded) resolve(ref string) (units.Digest, error) {
	id, err := units.ParseDigest(ref)
	if err != nil {
		if id, err = readRef(e.refPath(ref)); err != nil {
			return "", err
		}
	}
	_, err = os.Lstat(e.imagePath(id))
	return id, err
}

func readRef(file string) (units.Digest, error) {
	b, err := reading.Small(file, 1<<10)
	if err != nil {
		return "", err
	}
	return units.ParseDigest(string(b))
}

// useImage shares the image that ref names.
func (e *embedded) useImage(ctx context.Context, ref string) (units.Digest, *claim, error) {
	id, err := e.resolve(ref)
	if err == nil {
		var c *claim
		if c, err = e.use(ctx, e.imagePath(id)); err == nil {
			return id, c, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("no such image: %s", ref)
	}
	return "", nil, err
}

func (e *embedded) ImageID(ctx context.Context, ref string) (id string, ok bool, err error) {
	digest, err := e.resolve(ref)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fault(ctx, "look for image "+ref, err)
	}
	return "sha256:" + string(digest), true, nil
}

func (e *embedded) Import(ctx context.Context, ref string, tar io.Reader) error {
	body := acquire(tar)
	defer body.release()
	err := e.importTar(ctx, ref, body)
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad
	}
	return fault(ctx, "import image "+ref, err)
}

func (e *embedded) importTar(ctx context.Context, ref string, tar io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := e.claim(images)
	if err != nil {
		return err
	}
	sum := sha256.New()
	tar = io.TeeReader(reading.Until(ctx, tar), sum)
	err = sandbox.Unpack(ctx, e.ids, filepath.Join(c.path, rootDir), tar)
	if err == nil {
		_, err = io.Copy(io.Discard, tar) // what comes after the tar's end counts, too
	}
	if err != nil {
		return errors.Join(err, e.drop(ctx, c))
	}
	return e.keepImage(ctx, c, units.DigestSum(sum), ref, nil)
}

// keepImage makes an entry the image id, with the name ref.
func (e *embedded) keepImage(
	ctx context.Context, c *claim, id units.Digest, ref string, labels map[string]string,
) error {
	size, err := sandbox.Size(ctx, e.ids, c.path)
	if err == nil {
		err = c.writeMeta(meta{Size: size, Labels: labels})
	}
	if err == nil {
		err = sandbox.Sync(c.path) // a name on the disk is one of a whole tree
	}
	if err == nil {
		_, err = e.place(ctx, c, e.imagePath(id))
	}
	if err != nil {
		return errors.Join(err, e.drop(ctx, c))
	}
	defer c.release()
	return e.write(e.refPath(ref), []byte(id))
}

func (e *embedded) RemoveImage(ctx context.Context, ref string) error {
	work, cancel := patient(ctx)
	defer cancel()
	return fault(work, "remove image "+ref, e.removeImage(work, ref))
}

func (e *embedded) removeImage(ctx context.Context, ref string) error {
	id, err := e.resolve(ref)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := e.alone(e.imagePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := e.names()
	if err != nil {
		c.release()
		return err
	}
	left := 0
	for _, name := range names[id] {
		if _, err := units.ParseDigest(ref); err != nil && e.refPath(name) != e.refPath(ref) {
			left++
		} else if err := os.Remove(e.refPath(name)); err != nil {
			c.release()
			return err
		}
	}
	if left > 0 {
		c.release()
		return nil
	}
	return e.remove(ctx, c)
}

// names are the names of the images.
func (e *embedded) names() (map[units.Digest][]string, error) {
	entries, err := os.ReadDir(filepath.Join(e.dir, refs))
	names := map[units.Digest][]string{}
	for _, entry := range entries {
		name, bad := url.PathUnescape(entry.Name())
		id, unread := readRef(filepath.Join(e.dir, refs, entry.Name()))
		if bad == nil && unread == nil { // else it has just been removed, or is none of this engine's
			names[id] = append(names[id], name)
		}
	}
	return names, err
}

func (e *embedded) Kept(ctx context.Context) ([]Kept, error) {
	list, err := e.kept(ctx)
	return list, fault(ctx, "look for the volumes and images that are kept", err)
}

func (e *embedded) kept(ctx context.Context) (list []Kept, err error) {
	names, err := e.names()
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{volumes, images} {
		entries, err := os.ReadDir(filepath.Join(e.dir, kind))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			path := filepath.Join(e.dir, kind, entry.Name())
			m, err := readMeta(path)
			if err != nil || strings.HasPrefix(entry.Name(), ".") || kind == volumes && !m.Durable {
				continue // it is going, or not there yet
			}
			k := Kept{Image: kind == images, Name: entry.Name(), Size: m.Size, Created: m.Created, InUse: inUse(path)}
			if !k.Image {
				k.Size, err = sandbox.Size(ctx, e.ids, path)
				if err == nil {
					list = append(list, k)
				} else if !errors.Is(err, fs.ErrNotExist) {
					return nil, err
				}
				continue
			}
			all := names[units.Digest(k.Name)]
			if len(all) == 0 {
				all = []string{"sha256:" + k.Name}
			}
			for _, k.Name = range all {
				list = append(list, k)
			}
		}
	}
	return list, nil
}

// inUse reports whether a container, or another that makes something of it, has the entry at path.
func inUse(path string) bool {
	lock, err := filelock.Try(filepath.Join(path, filelock.DirLock), os.O_RDWR)
	if err == nil {
		_ = lock.Close()
	}
	return errors.Is(err, filelock.ErrHeld)
}

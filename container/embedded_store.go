package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sandbox"
)

// The directories of an embedded engine. Each entry of the first three is a directory with a lock: whoever uses it
// shares the lock, whoever removes it has it alone, and a process that was killed has none. What is not whole yet, or
// no more, has a name that begins with a dot.
const (
	images     = "images"     // a sha256: root and its meta
	volumes    = "volumes"    // a name: data and its meta
	containers = "containers" // a container's layer
	refs       = "refs"       // an image's name, escaped: a file with the image's sha256
	locks      = "locks"      // an image's sha256: locked by who builds it
)

// Names within an entry.
const (
	rootDir  = "root"
	dataDir  = "data"
	layerDir = "layer"
	metaFile = "meta.json"
)

// meta is what is known of an image or a volume.
type meta struct {
	Created time.Time
	Durable bool              `json:",omitempty"` // a volume that stays until it is removed
	Size    int64             `json:",omitempty"` // an image's, in bytes
	Labels  map[string]string `json:",omitempty"`
}

var errInUse = errors.New("a container uses it")

// claim is an entry that nobody removes while lock is open.
type claim struct {
	path string
	lock *os.File
}

// claim makes an entry under a name of its own. The end of the process leaves it to Sweep.
func (e *embedded) claim(kind string) (*claim, error) {
	for tries := 1; ; tries++ {
		path, err := os.MkdirTemp(filepath.Join(e.dir, kind), ".new-")
		if err != nil {
			return nil, err
		}
		lock, err := filelock.Share(filepath.Join(path, filelock.DirLock), os.O_RDWR|os.O_CREATE)
		if err == nil {
			return &claim{path, lock}, nil
		}
		// A Sweep may have come in between.
		if swept := errors.Is(err, filelock.ErrHeld) || errors.Is(err, fs.ErrNotExist); !swept || tries == 10 {
			return nil, errors.Join(err, os.RemoveAll(path))
		}
	}
}

// place gives an entry its name. Where another has that already the claim is on that one afterwards.
func (e *embedded) place(ctx context.Context, c *claim, path string) (first bool, err error) {
	if err = os.Rename(c.path, path); err == nil {
		c.path = path
		return true, nil
	}
	if _, there := os.Lstat(path); there != nil {
		return false, err
	}
	other, err := e.use(ctx, path)
	if err == nil {
		err = e.drop(ctx, c)
		*c = *other
	}
	return false, err
}

// use shares the entry at path. There is none: fs.ErrNotExist.
func (e *embedded) use(ctx context.Context, path string) (*claim, error) {
	for {
		lock, err := filelock.Share(filepath.Join(path, filelock.DirLock), os.O_RDWR)
		if err == nil {
			return &claim{path, lock}, nil
		}
		if !errors.Is(err, filelock.ErrHeld) {
			return nil, err
		}
		// It is being removed, and loses its name at once; or Kept looks at it.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// release ends the use of an entry.
func (c *claim) release() { _ = c.lock.Close() }

// drop removes an entry that this process alone knows, even after the end of ctx.
func (e *embedded) drop(ctx context.Context, c *claim) error {
	work, cancel := patient(ctx)
	defer cancel()
	defer c.release()
	return e.erase(work, c.path)
}

// alone has the entry at path for this process alone, or gives errInUse. There is none: fs.ErrNotExist.
func (e *embedded) alone(path string) (*claim, error) {
	for tries := 1; ; tries++ {
		lock, err := filelock.Try(filepath.Join(path, filelock.DirLock), os.O_RDWR|os.O_CREATE)
		if err == nil {
			return &claim{path, lock}, nil
		}
		if !errors.Is(err, filelock.ErrHeld) {
			return nil, err
		}
		if tries == 10 {
			return nil, errInUse
		}
		// Another looks at it or removes it; or a process of this one's has been forked and has yet to close its files.
		time.Sleep(time.Duration(tries) * 5 * time.Millisecond)
	}
}

// remove removes an entry that this process has alone. It loses its name first: no half of it is ever found.
func (e *embedded) remove(ctx context.Context, c *claim) error {
	defer c.release()
	if !strings.HasPrefix(filepath.Base(c.path), ".") {
		gone := filepath.Join(filepath.Dir(c.path), ".gone-"+newName())
		if err := os.Rename(c.path, gone); err != nil {
			return err
		}
		c.path = gone
	}
	return e.erase(ctx, c.path)
}

// erase removes a directory and what other ids own in it.
func (e *embedded) erase(ctx context.Context, path string) error {
	// The attempt takes a tenth of the time that a namespace does, and is enough for most layers.
	if os.RemoveAll(path) == nil {
		return nil
	}
	return sandbox.Remove(ctx, e.ids, path)
}

// write puts a file in its place at once.
func (e *embedded) write(path string, text []byte) error {
	c, err := e.claim(containers)
	if err != nil {
		return err
	}
	file := filepath.Join(c.path, "file")
	err = os.WriteFile(file, text, 0o600)
	if err == nil {
		err = os.Rename(file, path)
	}
	return errors.Join(err, e.drop(context.Background(), c))
}

func (c *claim) writeMeta(m meta) error {
	m.Created = time.Now().UTC()
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.path, metaFile), b, 0o600)
}

func readMeta(path string) (m meta, err error) {
	b, err := reading.Small(filepath.Join(path, metaFile), 1<<20)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

// own are the temporary volumes of this process, by their directories.
var own = struct {
	sync.Mutex
	volumes map[string]*claim
}{volumes: map[string]*claim{}}

// volumeName is what Docker allows, too.
var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func (e *embedded) volumePath(name string) (string, error) {
	if !volumeName.MatchString(name) {
		return "", fmt.Errorf("%q is no name of a volume", name)
	}
	return filepath.Join(e.dir, volumes, name), nil
}

func (e *embedded) EnsureVolume(ctx context.Context, name string, durable bool) error {
	err := e.ensureVolume(ctx, name, durable)
	return fault(ctx, "create volume "+name, err)
}

func (e *embedded) ensureVolume(ctx context.Context, name string, durable bool) error {
	path, err := e.volumePath(name)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	c, err := e.claim(volumes)
	if err != nil {
		return err
	}
	first := false
	err = errors.Join(os.Mkdir(filepath.Join(c.path, dataDir), 0o755), c.writeMeta(meta{Durable: durable}))
	if err == nil {
		first, err = e.place(ctx, c, path)
	}
	switch {
	case err != nil:
		return errors.Join(err, e.drop(ctx, c))
	case durable || !first:
		c.release()
	default:
		own.Lock()
		own.volumes[path] = c
		own.Unlock()
	}
	return nil
}

func (e *embedded) VolumeExists(ctx context.Context, name string) (bool, error) {
	path, err := e.volumePath(name)
	if err == nil {
		_, err = os.Lstat(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, fault(ctx, "look for volume "+name, err)
}

func (e *embedded) RemoveVolume(ctx context.Context, name string) error {
	work, cancel := patient(ctx)
	defer cancel()
	return fault(work, "remove volume "+name, e.removeVolume(work, name))
}

func (e *embedded) removeVolume(ctx context.Context, name string) error {
	path, err := e.volumePath(name)
	if err != nil {
		return err
	}
	own.Lock()
	mine := own.volumes[path]
	delete(own.volumes, path)
	own.Unlock()
	if mine != nil {
		mine.release()
	}
	c, err := e.alone(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		return e.remove(ctx, c)
	}
	if mine != nil { // it still is this process's to remove
		if mine, bad := e.use(ctx, path); bad == nil {
			own.Lock()
			own.volumes[path] = mine
			own.Unlock()
		}
	}
	return err
}

// Sweep removes what processes that have ended left: containers, temporary volumes and what is not whole.
func (e *embedded) Sweep(ctx context.Context) error {
	var errs []error
	for _, kind := range []string{containers, volumes, images} {
		entries, err := os.ReadDir(filepath.Join(e.dir, kind))
		errs = append(errs, err)
		for _, entry := range entries {
			path := filepath.Join(e.dir, kind, entry.Name())
			whole := !strings.HasPrefix(entry.Name(), ".")
			if whole && kind == volumes {
				m, err := readMeta(path)
				whole = err != nil || m.Durable
			}
			if whole {
				continue
			}
			// Not asked twice: who uses it will remove it, or leave it to the next Sweep.
			lock, err := filelock.Try(filepath.Join(path, filelock.DirLock), os.O_RDWR|os.O_CREATE)
			if errors.Is(err, filelock.ErrHeld) || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = e.remove(ctx, &claim{path, lock})
			}
			errs = append(errs, err)
		}
	}
	return fault(ctx, "remove what an earlier process left", errors.Join(errs...))
}

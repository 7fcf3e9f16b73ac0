package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

// Sink takes the events of what is being done; nil is silence.
type Sink = progress.Sink

// Event is one thing that happened.
type Event = progress.Event

// Env is what a build stands on besides its Spec. The zero value is the machine as it is, and silence.
type Env struct {
	Cache string // directory of all that kimg keeps; empty: CacheDir
	Sink  Sink   // is given what happens
	Host  string // root of the host's own configuration; empty: "/"

	Engine container.Choice // its directory, where empty, is in Cache

	// Emulation is how programs of another architecture than the engine's are run; empty: the first way that works.
	Emulation image.Emulation

	Ccache string // the engine's volume of compiled objects; empty: kernel.CcacheVolume
	Store  string // directory of the store; empty: in Cache
	Logs   string // directory of the steps' logs; empty: in Cache

	// Temporary has sources, objects and compiled objects go into volumes that are
	// removed at the end: nothing that was compiled before is used, or kept.
	Temporary bool

	Now func() time.Time // judges signatures; nil: time.Now

	// Ask asks somebody a question that yes or no answers, before a long compile that may not be what was meant; nil:
	// nobody can answer, and the build goes on.
	Ask func(ctx context.Context, question string) (bool, error)

	Sign *attest.Key // signs the provenance; nil: it is not signed
}

// CacheDir is where kimg keeps what it downloaded and made: KIMG_CACHE, else kimg in the user's cache directory.
func CacheDir() (string, error) {
	if d := os.Getenv("KIMG_CACHE"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return filepath.Join(d, "kimg"), nil
}

// EngineDir is where the embedded engine of a cache directory keeps images and volumes.
func EngineDir(cache string) string { return filepath.Join(cache, "engine") }

// whole fills in what the zero value stands for.
func (e Env) whole() (Env, error) {
	e.Host = cmp.Or(e.Host, "/")
	if e.Cache == "" {
		dir, err := CacheDir()
		if err != nil {
			return e, err
		}
		e.Cache = dir
	}
	e.Engine.Dir = cmp.Or(e.Engine.Dir, EngineDir(e.Cache))
	e.Store = cmp.Or(e.Store, filepath.Join(e.Cache, "store"))
	e.Logs = cmp.Or(e.Logs, filepath.Join(e.Cache, "logs"))
	return e, nil
}

// tools is what kimg works with: the store, what there is outside, and the engine.
// It knows nothing of what is wanted.
type tools struct {
	*Sources
	leave func() // has prunes of the cache take again what this run needs

	connect sync.Mutex
	eng     container.Engine

	mu      sync.Mutex
	volumes map[string]bool // to be removed at the end
}

// openTools opens the tools for things from these sources, as NewSources does.
func openTools(env Env, from spec.Sources, suite string) (*tools, error) {
	s, err := NewSources(env, from, suite)
	if err != nil {
		return nil, err
	}
	return &tools{Sources: s, leave: cache.Enter(s.env.Cache), volumes: map[string]bool{}}, nil
}

// openFor opens the tools for what was built in a directory.
func openFor(env Env) (*tools, error) { return openTools(env, spec.Sources{}, spec.Default().Suite) }

// openLocked opens the tools and has an out directory for itself until done.
func openLocked(
	ctx context.Context, env Env, from spec.Sources, suite, dir string,
) (t *tools, done func() error, err error) {
	t, err = openTools(env, from, suite)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := t.lockOut(ctx, dir)
	if err != nil {
		return nil, nil, errors.Join(err, t.close())
	}
	return t, func() error {
		defer unlock()
		return t.close()
	}, nil
}

// engine connects at the first call: a build that runs nothing needs none.
func (t *tools) engine(ctx context.Context) (container.Engine, error) {
	t.connect.Lock()
	defer t.connect.Unlock()
	if t.eng != nil {
		return t.eng, nil
	}
	eng, err := t.env.Engine.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range eng.Info().Warnings {
		progress.Warn(t.env.Sink, w)
	}
	if err := eng.Sweep(ctx); err != nil {
		progress.Warn(t.env.Sink, "cannot remove what an earlier kimg left behind: "+err.Error())
	}
	t.eng = eng
	return eng, nil
}

func (t *tools) close() error {
	t.Sources.Close()
	defer t.leave()
	if t.eng == nil {
		return nil
	}
	var errs []error
	for name := range t.volumes {
		errs = append(errs, t.eng.RemoveVolume(context.Background(), name))
	}
	return errors.Join(append(errs, t.eng.Close())...)
}

// removeLater has a job's volumes removed when the tools are closed.
func (t *tools) removeLater(j kernel.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range j.Volumes() {
		t.volumes[name] = true
	}
}

// image returns the engine and the id of a toolchain image that is there.
func (t *tools) image(ctx context.Context, l spec.ToolchainLock) (eng container.Engine, id string, err error) {
	if eng, err = t.engine(ctx); err != nil {
		return nil, "", err
	}
	lock, err := on(eng, l)
	if err != nil {
		return nil, "", err
	}
	id, ok, err := eng.ImageID(ctx, lock.Ref())
	if err != nil {
		return nil, "", err
	}
	if !ok {
		return nil, "", fmt.Errorf("image %s is gone", lock.Ref())
	}
	return eng, id, nil
}

// on is the lock of a toolchain's image for the engine.
func on(eng container.Engine, l spec.ToolchainLock) (*toolchain.Lock, error) {
	name := eng.Info().Arch
	i := slices.IndexFunc(arch.Engines, func(a spec.Arch) bool { return name == "" || a.OCI == name })
	if i < 0 {
		return nil, fmt.Errorf("the container engine's machine is %s, and kimg has images for %v", name, arch.Engines)
	}
	return l.On(arch.Engines[i])
}

// locks is the directory of lock files.
func (t *tools) locks() string { return filepath.Join(t.env.Cache, "locks") }

func (t *tools) outDir(dir string) (*outdir.Dir, error) {
	return outdir.Open(dir, filepath.Join(t.env.Cache, "outs"))
}

// lockOut keeps two builds from writing one out directory at once.
func (t *tools) lockOut(ctx context.Context, dir string) (func(), error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lock out directory: %w", err)
	}
	real, err := filepath.EvalSymlinks(abs) // two names of one directory are one lock
	if err != nil {
		real = abs // it is not there yet
	}
	file := filepath.Join(t.locks(), "out-"+string(units.DigestOf([]byte(real))))
	cache.Stamp(t.env.Cache, filepath.Base(file), abs) // keep knows by it what the directory needs
	unlock, err := filelock.Take(ctx, file, func() {
		progress.Say(t.env.Sink, "another kimg builds into "+dir+": waiting for it to end")
	})
	if err != nil {
		return nil, fmt.Errorf("lock out directory: %w", err)
	}
	return unlock, nil
}

// lockIn reads the lock of an out directory; nil when there is none.
func lockIn(dir string) (*spec.Lock, error) {
	l, err := spec.ReadLock(filepath.Join(dir, artifact.Lock))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return l, err
}

package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/store"
)

// Env is what a build stands on besides its Spec.
type Env struct {
	Cache string        // directory of all that kimg keeps; see CacheDir
	Sink  progress.Sink // told what happens
	Host  string        // root of the host's own configuration: "/"

	Ccache string // the engine's volume of compiled objects; empty: kernel.CcacheVolume
	Store  string // directory of the store; empty: in Cache
	Logs   string // directory of the steps' logs; empty: in Cache

	// Temporary has sources, objects and compiled objects go into volumes that are
	// removed at the end: nothing that was compiled before is used, or kept.
	Temporary bool

	Now func() time.Time // judges signatures; nil: time.Now

	Sign *attest.Key // signs what a build says of itself; nil: nobody does
}

// CacheDir is where kimg keeps what it downloaded and made: KIMG_CACHE, else
// kimg in the user's cache directory.
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

func (e Env) logs() string { return cmp.Or(e.Logs, filepath.Join(e.Cache, "logs")) }

// session is one run of kimg on one Spec.
type session struct {
	Env
	spec  Spec
	store *store.Store

	connect sync.Mutex
	eng     container.Engine

	indices map[string]indexed // by the suite's name
	tree    *kernel.Tree       // a kernel source of the person's own

	git     chan *kernel.GitState // of the source, one value; nil: it is no directory
	stopGit context.CancelFunc

	mu      sync.Mutex
	volumes map[string]bool // to be removed at the end
	mirror  string          // of the suite's archive, once one was looked for: steps that run side by side do
}

func open(env Env, spec Spec) (*session, error) {
	st, err := store.Open(cmp.Or(env.Store, filepath.Join(env.Cache, "store")))
	if err != nil {
		return nil, err
	}
	return &session{Env: env, spec: spec, store: st, indices: map[string]indexed{}, volumes: map[string]bool{}}, nil
}

// openLocked opens a session that has its out directory for itself until done.
func openLocked(ctx context.Context, env Env, spec Spec) (s *session, done func() error, err error) {
	s, err = open(env, spec)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := s.lockOut(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	return s, func() error {
		defer unlock()
		return s.close()
	}, nil
}

// engine connects at the first call: a build that runs nothing needs none.
func (s *session) engine(ctx context.Context) (container.Engine, error) {
	s.connect.Lock()
	defer s.connect.Unlock()
	if s.eng != nil {
		return s.eng, nil
	}
	eng, err := container.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range eng.Info().Warnings {
		progress.Warn(s.Sink, w)
	}
	if err := eng.Sweep(ctx); err != nil {
		progress.Warn(s.Sink, "cannot remove what an earlier kimg left behind: "+err.Error())
	}
	s.eng = eng
	return eng, nil
}

func (s *session) close() error {
	if s.git != nil {
		s.stopGit()
		<-s.git
	}
	if s.eng == nil {
		return nil
	}
	var errs []error
	for name := range s.volumes {
		errs = append(errs, s.eng.RemoveVolume(context.Background(), name))
	}
	return errors.Join(append(errs, s.eng.Close())...)
}

// askGit has git asked about the source meanwhile.
func (s *session) askGit(ctx context.Context) {
	ctx, s.stopGit = context.WithCancel(ctx)
	git := make(chan *kernel.GitState, 1)
	s.git = git
	go func() { git <- kernel.ReadGit(ctx, s.tree.Path, s.tree.SHA256, s.Cache) }()
}

// gitState is what git said.
func (s *session) gitState() *kernel.GitState {
	if s.git == nil {
		return nil
	}
	state := <-s.git
	s.git <- state
	return state
}

// toRemove has a job's volumes removed at the session's end.
func (s *session) toRemove(j kernel.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range j.Volumes() {
		s.volumes[name] = true
	}
}

// archive returns a client of the suite's archive. flag is --mirror and is
// meant for the suite of the root filesystem; at is the lock's date for the
// snapshot service, or zero.
func (s *session) archive(suite archive.Suite, at time.Time) (*archive.Client, error) {
	flag := s.spec.Mirror
	if asked, err := archive.ParseSuite(s.spec.Suite); err == nil && asked.Family != suite.Family {
		flag = "" // --mirror names an archive of the other family
	}
	m, err := archive.MirrorQuery{Root: s.Host, Family: suite.Family, Arch: arch.Default, Flag: flag, At: at}.Resolve()
	if err != nil {
		return nil, err
	}
	snapshot, err := archive.SnapshotBase(suite.Family)
	if err != nil {
		return nil, err
	}
	if suite.Name == s.spec.Suite {
		s.mu.Lock()
		s.mirror = m.URL
		s.mu.Unlock()
	}
	return &archive.Client{
		Store: s.store, HTTP: &fetch.Client{HTTP: fetch.NewHTTP(m.ProxyFunc())}, Mirror: m, Arch: arch.Default, Snapshot: snapshot,
		Cache: filepath.Join(s.Cache, "indices"), Now: s.Now,
		Warn: func(t string) { progress.Warn(s.Sink, t) },
	}, nil
}

func (s *session) runner() *steps.Runner {
	return &steps.Runner{
		Cache: &steps.Cache{Dir: filepath.Join(s.Cache, "actions"), Store: s.store},
		Sink:  s.Sink, Logs: s.logs(),
	}
}

// locks is the directory of lock files.
func (s *session) locks() string { return filepath.Join(s.Cache, "locks") }

func (s *session) outDir() (*outDir, error) {
	return openOutDir(s.spec.Out, filepath.Join(s.Cache, "outs"))
}

// isMissing reports whether packages can no longer be had, which a lock that is
// resolved anew mends.
func isMissing(err error) bool {
	var m *archive.MissingError
	return errors.As(err, &m)
}

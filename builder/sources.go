package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
)

// Sources is what there is outside of a build, asked once in a run: archives, kernel.org, the user's own trees.
type Sources struct {
	env   Env
	from  spec.Sources
	suite string // of the root filesystem
	store *store.Store

	indices  map[string]indexed // by the suite's name, the architecture and components that are not the family's
	releases map[string]*archive.Release

	local *kernel.Tree // the user's own kernel source, once it was looked at
	path  string       // that it was asked for by

	git     chan *kernel.GitState // of the source, one value; nil: it is no directory
	stopGit context.CancelFunc
}

// NewSources opens the sources of a Spec. suite is that of the root filesystem, whose archive a mirror is of.
func NewSources(env Env, from spec.Sources, of string) (*Sources, error) {
	env, err := env.whole()
	if err != nil {
		return nil, err
	}
	st, err := store.Open(env.Store)
	if err != nil {
		return nil, err
	}
	return &Sources{env: env, from: from, suite: of, store: st, indices: map[string]indexed{},
		releases: map[string]*archive.Release{}}, nil
}

// Close ends what the sources still ask.
func (s *Sources) Close() {
	if s.git != nil {
		s.stopGit()
		<-s.git
	}
}

// archive returns a client of the suite's archive, for packages of an architecture. at is the lock's date for the
// snapshot service, or zero.
func (s *Sources) archive(of suite.Suite, a spec.Arch, at time.Time) (*archive.Client, error) {
	m, err := s.mirror(of, a, at)
	if err != nil {
		return nil, err
	}
	snapshot, err := archive.SnapshotBase(of.Family)
	if err != nil {
		return nil, err
	}
	ac := s.client(m, a)
	ac.Snapshot = snapshot
	return ac, nil
}

// client is of an archive at a mirror.
func (s *Sources) client(m archive.Mirror, a spec.Arch) *archive.Client {
	return &archive.Client{
		Store: s.store, HTTP: &fetch.Client{HTTP: fetch.NewHTTP(m.ProxyFunc())}, Mirror: m, Arch: a,
		Cache: filepath.Join(s.env.Cache, "indices"), Now: s.env.Now,
		Warn: func(text string) { progress.Warn(s.env.Sink, text) },
	}
}

// mirror is where a suite's archive is had from. --mirror names one of the family of the root filesystem's suite.
func (s *Sources) mirror(of suite.Suite, a spec.Arch, at time.Time) (archive.Mirror, error) {
	flag := s.from.Mirror
	if own, err := suite.Parse(s.suite); err == nil && own.Family != of.Family {
		flag = ""
	}
	return archive.MirrorQuery{Root: s.env.Host, Family: of.Family, Arch: a, Flag: flag, At: at}.Resolve()
}

type indexed struct {
	release *archive.Release
	index   *archive.Index
}

// index reads the suite's index, of the components (nil: the family's own).
func (s *Sources) index(ctx context.Context, of suite.Suite, a spec.Arch, components []string) (
	*archive.Release, *archive.Index, error) {
	from := of.Name + " " + a.Name
	key := strings.Join(append([]string{from}, components...), " ")
	if i, ok := s.indices[key]; ok {
		return i.release, i.index, nil
	}
	ac, err := s.archive(of, a, time.Time{})
	if err != nil {
		return nil, nil, err
	}
	title := "read the index of " + of.Name
	if len(components) > 0 {
		title += ", " + strings.Join(components, ", ")
	}
	task := progress.Start(s.env.Sink, "index-"+of.Name+"-"+a.Name, title, progress.Why(ac.Mirror.URL))
	rel, index, err := s.readIndex(ctx, ac, of, from, components)
	task.End(false, err)
	if err != nil {
		return nil, nil, err
	}
	s.indices[key] = indexed{rel, index}
	return rel, index, nil
}

// readIndex reads it in the release that was read before, if one was: a run sees one state of an archive.
func (s *Sources) readIndex(ctx context.Context, ac *archive.Client, of suite.Suite, from string,
	components []string) (*archive.Release, *archive.Index, error) {

	rel := s.releases[from]
	if rel == nil {
		var err error
		if rel, err = ac.Release(ctx, of); err != nil {
			return nil, nil, err
		}
		s.releases[from] = rel
	}
	index, err := ac.Index(ctx, rel, components)
	return rel, index, err
}

func (s *Sources) fetch(ctx context.Context, from spec.ArchiveLock, list []archive.Locked,
	progress func(n, total int64)) error {

	of, err := suite.Parse(from.Suite)
	if err != nil {
		return err
	}
	// Which architecture's packages they are is in their names.
	ac, err := s.archive(of, arch.Default, from.Date)
	if err != nil {
		return err
	}
	return ac.Fetch(ctx, of, list, from.Date, progress)
}

// bytesOf shows a download's progress.
func bytesOf(task *progress.Task) func(n, total int64) {
	return func(n, total int64) { task.Add(n, total, "bytes") }
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

func (s *Sources) haveAll(list []archive.Locked) bool {
	return !slices.ContainsFunc(list, func(p archive.Locked) bool { return !s.store.Has(p.SHA256) })
}

// localTree pins the user's own kernel source, and has git asked about a directory meanwhile.
func (s *Sources) localTree(ctx context.Context, src kernel.Source) (*kernel.Tree, error) {
	if s.local != nil && s.path == src.Path {
		return s.local, nil
	}
	tree, err := kernel.Pin(ctx, src, s.env.Cache)
	if err != nil {
		return nil, err
	}
	s.local, s.path = tree, src.Path
	if len(tree.Skipped) > 0 {
		progress.Warn(s.env.Sink, kernel.SkippedWarning(tree.Path, tree.Skipped))
	}
	if src.Kind == kernel.Directory {
		ctx, s.stopGit = context.WithCancel(ctx)
		git := make(chan *kernel.GitState, 1)
		s.git = git
		go func() { git <- kernel.ReadGit(ctx, tree.Path, tree.SHA256, s.env.Cache) }()
	}
	return tree, nil
}

// gitState is what git said of the user's own source; nil: there is none.
func (s *Sources) gitState() *kernel.GitState {
	if s.git == nil {
		return nil
	}
	state := <-s.git
	s.git <- state
	return state
}

// tree is the source of a lock's kernel, on this machine. request says where the user's own is.
func (s *Sources) tree(ctx context.Context, l spec.KernelLock, request string) (*kernel.Tree, error) {
	switch {
	case l.Package != nil:
		if err := s.store.Verify(l.SHA256); err != nil {
			return nil, err
		}
		return kernel.PinPackage(*l.Package, s.store.Path(l.SHA256))
	case l.Download != nil:
		tree, err := kernel.PinDownload(ctx, kernel.Kind(l.Source), l.Download.URL, s.store.Path(l.SHA256), s.env.Cache)
		if err == nil && tree.SHA256 != l.SHA256 { // damaged since: the store's own check removes it
			err = fmt.Errorf("read kernel source %s: it is damaged in the store: run the command again", l.Request)
			err = errors.Join(s.store.Verify(l.SHA256), err)
		}
		return tree, err
	}
	src, err := kernel.ParseSource(request)
	if err != nil {
		return nil, &spec.InputError{Field: "kernel", Err: err}
	}
	tree, err := s.localTree(ctx, src)
	if err != nil {
		return nil, err
	}
	switch {
	case string(src.Kind) != l.Source:
		return nil, fmt.Errorf("the kernel source %s is not a %s", request, l.Source)
	case tree.SHA256 != l.SHA256:
		return nil, fmt.Errorf("the kernel source %s is not the locked one: its digest is %s, the lock's %s",
			request, tree.SHA256, l.SHA256)
	}
	return tree, nil
}

// kernelOrg is a client of kernel.org, or of the mirror that the Spec or KIMG_KERNEL_MIRROR names.
func (s *Sources) kernelOrg(progress func(int64)) (*kernelorg.Client, error) {
	keys, err := kernelorg.ShippedKeys()
	if err != nil {
		return nil, err
	}
	if keys, err = keys.Add(s.from.KernelKeyrings...); err != nil {
		return nil, &spec.InputError{Field: "--kernel-keyring", Err: err}
	}
	base := cmp.Or(s.from.KernelMirror, os.Getenv("KIMG_KERNEL_MIRROR"))
	return &kernelorg.Client{
		Store: s.store, HTTP: &fetch.Client{}, Keys: keys, Base: base,
		VerifyTar: s.from.VerifyTar, AllowUnsigned: s.from.AllowUnsigned, Now: s.env.Now, Progress: progress,
	}, nil
}

// download brings the kernel into the store: by the digest that the lock pins, else by who signed it.
func (s *Sources) download(ctx context.Context, src kernel.Source, l spec.KernelLock) (kernelorg.Verified, error) {
	task := progress.Start(s.env.Sink, "source", "fetch Linux "+l.Request)
	got, err := func() (kernelorg.Verified, error) {
		client, err := s.kernelOrg(func(n int64) { task.Add(n, 0, "bytes") })
		switch {
		case err != nil:
			return kernelorg.Verified{}, err
		case l.Download != nil:
			return client.FetchURL(ctx, l.Download.URL, l.Download.SHA256)
		case src.Kind == kernel.URL:
			return client.FetchURL(ctx, src.URL, "")
		}
		version := src.Version
		if src.Series {
			if version, err = client.Newest(ctx, version); err != nil {
				return kernelorg.Verified{}, err
			}
			task.Say(fmt.Sprintf("the newest Linux %s is %s", l.Request, version))
		}
		return client.Fetch(ctx, version)
	}()
	task.End(false, err)
	if err == nil && got.Unsigned {
		text := "no known key signed the kernel %s: %s (--allow-unsigned)"
		progress.Warn(s.env.Sink, fmt.Sprintf(text, l.Request, got.Why))
	}
	return got, err
}

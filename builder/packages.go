package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/deb"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// DebError is a .deb file that a lock pins and that is not to be had.
type DebError struct{ Name string }

func (e *DebError) Error() string {
	return fmt.Sprintf("include %s: it is not in the store, where the build put it", e.Name)
}

// Hint says who has it.
func (e *DebError) Hint() string {
	return "a lock has the digest of a .deb file alone: kimg build with --lock and --include FILE puts it there, " +
		"all of them where there are more"
}

// rootfs pins the packages of the root filesystem.
func (r *resolver) rootfs(ctx context.Context) (spec.RootfsLock, error) {
	if err := r.pinDebs(ctx); err != nil {
		return spec.RootfsLock{}, err
	}
	if r.old.Rootfs.Asks(r.q) {
		return r.old.Rootfs, nil
	}
	if r.from.Frozen {
		return spec.RootfsLock{}, &spec.FrozenError{What: "the packages of " + r.q.Suite}
	}
	of, err := suite.Parse(r.q.Suite)
	if err != nil {
		return spec.RootfsLock{}, err
	}
	files, err := r.debFiles()
	if err != nil {
		return spec.RootfsLock{}, err
	}
	rel, index, err := r.index(ctx, of, r.q.Arch, r.q.Components)
	if err != nil {
		return spec.RootfsLock{}, err
	}
	l := spec.RootfsLock{
		Suite: of.Name, Variant: r.q.Variant, Include: r.q.Include, Components: r.q.Components,
		Epoch: rel.Date.Unix(), Archive: archiveLock(rel),
	}
	var more []*archive.Index
	for _, a := range r.q.Archives {
		pinned, other, err := r.other(ctx, a)
		if err != nil {
			return l, err
		}
		l.Archives, more = append(l.Archives, pinned), append(more, other)
	}
	set, err := r.choose(ctx, of, rel, index, files, more)
	if err != nil {
		return l, err
	}
	l.Required, l.Base = locked(set.Required), locked(set.Base)
	return l, nil
}

// choose chooses the packages, from all there are.
func (r *resolver) choose(ctx context.Context, of suite.Suite, rel *archive.Release, own *archive.Index,
	files []archive.File, more []*archive.Index) (archive.Bootstrap, error) {

	all, err := archive.Join(own, files, more...)
	if err != nil {
		return archive.Bootstrap{}, err
	}
	include := slices.Concat(image.Includes(r.q.Variant), r.q.Include)
	include = append(include, debPackages(files)...)
	set, err := all.Closure(archive.ClosureSpec{Suite: of, Variant: r.q.Variant, Include: include})
	var unknown *archive.UnknownError
	if errors.As(err, &unknown) {
		ac, aerr := r.archive(of, r.q.Arch, time.Time{})
		if aerr != nil {
			return set, aerr
		}
		unknown.Found(own, ac.Elsewhere(ctx, rel, own, unknown.Names))
	}
	var clash *archive.ClashError
	if errors.As(err, &clash) {
		clash.Found(slices.Concat(r.q.Include, debPackages(files)), image.Includes(r.q.Variant))
	}
	if err != nil {
		return set, fmt.Errorf("choose packages of %s: %w", of, err)
	}
	r.tellReplaced(own, set)
	return set, nil
}

func debPackages(files []archive.File) (names []string) {
	for _, f := range files {
		names = append(names, f.Name)
	}
	return names
}

// tellReplaced says which of the suite's packages another archive has newer ones of: nobody asked for them by name.
func (r *resolver) tellReplaced(own *archive.Index, set archive.Bootstrap) {
	by := map[string][]string{}
	for _, p := range slices.Concat(set.Required, set.Base) {
		if p.From == "" || p.From == archive.Local || r.q.Includes(p.Name) {
			continue
		}
		if q, ok := own.Lookup(p.Name); ok {
			by[p.From] = append(by[p.From], fmt.Sprintf("%s (%s, not %s)", p.Name, p.Version, q.Version))
		}
	}
	const most = 5
	for _, a := range r.q.Archives {
		if names := by[a.Line().Name()]; len(names) > 0 {
			progress.Warn(r.env.Sink, fmt.Sprintf("newer than the suite's, and so taken from the archive %s: %s%s",
				a.Line().Name(), strings.Join(names[:min(most, len(names))], ", "), more(len(names)-most)))
		}
	}
}

// other reads an archive besides the suite's own.
func (r *resolver) other(ctx context.Context, a spec.OtherArchive) (l spec.OtherLock, _ *archive.Index, _ error) {
	ac, err := r.otherClient(a, r.q.Arch)
	if err != nil {
		return l, nil, err
	}
	name := a.Line().Name()
	task := progress.Start(r.env.Sink, "index-"+name, "read the index of "+name)
	rel, index, err := ac.More(ctx, a.Line())
	task.End(false, err)
	if err != nil {
		return l, nil, err
	}
	return spec.OtherLock{OtherArchive: a, Origin: rel.Origin, Date: rel.Date.UTC(), InRelease: rel.InRelease,
		SignedBy: rel.SignedBy}, index, nil
}

func (s *Sources) otherClient(a spec.OtherArchive, of spec.Arch) (*archive.Client, error) {
	keys, err := archive.Keys([]byte(a.Key.Text))
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", a.Line().Name(), err)
	}
	ac := s.client(archive.MirrorAt(s.env.Host, a.URL, "--archive"), of)
	ac.Keyring = keys
	return ac, nil
}

// pinDebs copies the .deb files of the request into the store, and notes their digests.
func (r *resolver) pinDebs(ctx context.Context) error {
	r.q.Debs = slices.Clone(r.q.Debs)
	pinned := r.old.Request().Debs
	for i := range r.q.Debs {
		d := &r.q.Debs[i]
		if d.From == "" {
			if !r.store.Has(d.SHA256) {
				return &DebError{d.Name}
			}
			continue
		}
		sum, err := r.keepDeb(ctx, d.From)
		if err != nil {
			return &archive.FileError{File: d.From, Err: err}
		}
		is := func(p spec.Deb) bool { return p.SHA256 == sum }
		if d.SHA256 = sum; r.from.Frozen && !slices.ContainsFunc(pinned, is) {
			return &archive.FileError{File: d.From, Err: fmt.Errorf("its content (%s) is not what the lock pins",
				sum.Short())}
		}
	}
	return nil
}

// maxDeb bounds a .deb file of the user's own, in bytes: it is unpacked in memory.
const maxDeb = 1 << 30

func (r *resolver) keepDeb(ctx context.Context, file string) (spec.Digest, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w, err := r.store.Create()
	if err != nil {
		return "", err
	}
	defer w.Abort()
	n, err := io.Copy(w, io.LimitReader(f, maxDeb+1))
	switch {
	case err != nil:
		return "", err
	case n > maxDeb:
		return "", fmt.Errorf("it has more than %d bytes", maxDeb)
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	}
	sum, _, err := w.Commit()
	return sum, err
}

// debFiles reads the .deb files of the request, which are in the store.
func (r *resolver) debFiles() (all []archive.File, _ error) {
	for _, d := range r.q.Debs {
		p, err := r.debFile(d.SHA256)
		if err != nil {
			return nil, &archive.FileError{File: d.Shown(), Err: err}
		}
		all = append(all, archive.File{Package: p, Path: d.Shown()})
	}
	return all, nil
}

func (r *resolver) debFile(sum units.Digest) (p archive.Package, _ error) {
	f, err := r.store.Open(sum)
	if err != nil {
		return p, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return p, err
	}
	u, err := deb.Check(b)
	if err != nil {
		return p, err
	}
	return archive.FromControl(u.Stanza, int64(len(b)), sum)
}

// fetchRootfs brings the packages of the root filesystem into the store, each from where the lock has it from.
func (s *Sources) fetchRootfs(ctx context.Context, l spec.RootfsLock, task *progress.Task) error {
	from := map[string][]archive.Locked{}
	var total int64
	for _, p := range l.Packages() {
		from[p.From], total = append(from[p.From], p), total+p.Size
	}
	told := func(n, _ int64) { task.Add(n, total, "bytes") }
	for _, p := range from[archive.Local] {
		if !s.store.Has(p.SHA256) {
			return &DebError{p.Filename}
		}
		told(p.Size, 0)
	}
	err := s.fetch(ctx, l.Archive, from[""], told)
	gone := isMissing(err)
	if err != nil && !gone {
		return err
	}
	errs := []error{err}
	for _, o := range l.Archives {
		// Which architecture's packages they are is in their names.
		ac, err := s.otherClient(o.OtherArchive, spec.Arch{})
		if err == nil {
			err = ac.FetchFrom(ctx, o.Line(), from[o.Line().Name()], o.Date, told)
		}
		errs = append(errs, err)
	}
	if gone && errors.Join(errs[1:]...) == nil {
		return err
	}
	return errors.Join(errs...)
}

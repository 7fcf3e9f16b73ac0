package builder

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/builder/compare"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/store"
)

// RebuildRequest asks to build again what is in a directory, and to compare.
type RebuildRequest struct {
	Dir    string // the out directory
	Kernel string // where the user's own locked source is now; empty: where it was
	Keep   string // where the second build is kept; empty: it is removed
	Jobs   int    // as Spec.Jobs

	// Privileged is as Spec's: the user's choice. The manifest's Run, which no digest
	// and no signature protects, cannot make it.
	Privileged bool
}

// Rebuild builds what the lock in a directory pins once more, with nothing that was made or compiled before, and
// compares the two builds. Downloads are taken from the store, by their digests, and toolchain images by theirs;
// steps, sources, objects and compiled objects are all made anew, and removed at the end.
func Rebuild(ctx context.Context, env Env, req RebuildRequest) (_ *compare.Report, err error) {
	m, err := outdir.Read(req.Dir)
	if err != nil {
		return nil, err
	}
	env, err = env.whole()
	if err != nil {
		return nil, err
	}
	st, err := store.Open(env.Store)
	if err != nil {
		return nil, err
	}
	temp, remove, err := st.TempDir()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	sp := req.spec(m, temp)
	if m.Run.Privileged && !req.Privileged {
		progress.Warn(env.Sink, "the manifest says that the file system was made in a privileged container; "+
			"here it is not, unless you ask for it with --privileged")
	}
	progress.Say(env.Sink, "build again what "+sp.Lock+" pins, with nothing that was made before")
	again := env // its logs stay: what failed is read after the end
	again.Cache = filepath.Join(temp, "cache")
	again.Temporary, again.Ccache = true, "kimg-"+strings.ToLower(rand.Text()[:12])
	if _, err := Build(ctx, again, sp); err != nil {
		return nil, fmt.Errorf("build again: %w", err)
	}
	r, err := compare.Dirs(ctx, req.Dir, sp.Out)
	if err != nil {
		return nil, err
	}
	if req.Keep == "" {
		r.B = "the build made again"
	}
	return r, nil
}

// spec is the Spec of the second build. Of the manifest it takes only where the source is.
func (r RebuildRequest) spec(m *outdir.Manifest, temp string) spec.Spec {
	sp := spec.Default()
	sp.Lock, sp.Jobs, sp.Privileged = filepath.Join(r.Dir, artifact.Lock), r.Jobs, r.Privileged
	sp.Out = cmp.Or(r.Keep, filepath.Join(temp, "again"))
	if sp.Kernel = cmp.Or(r.Kernel, m.Run.Source); sp.Kernel != "" {
		sp.Given = []string{"kernel"}
	}
	return sp
}

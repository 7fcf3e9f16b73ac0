package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image/export"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/vm"
)

// ExportRequest asks for the artifacts in a form for another tool.
type ExportRequest struct {
	Format  *export.Kind
	Options export.Options
	Out     string   // directory of the artifacts
	File    string   // where to; empty with Stream
	Force   bool     // replace File
	Stream  *os.File // where to, when there is no file
}

// ExistsError is a file that is there and may not be replaced without Force.
type ExistsError struct{ File string }

func (e *ExistsError) Error() string { return fmt.Sprintf("write %s: it is there already", e.File) }

// Hint says how to go on.
func (e *ExistsError) Hint() string { return "choose another name, or replace it with --force" }

// InUseError is a disk image that a guest may be writing to.
type InUseError struct{ File string }

func (e *InUseError) Error() string {
	return fmt.Sprintf("read %s: a running guest has it open for writing", e.File)
}

// Hint says how to go on.
func (e *InUseError) Hint() string { return "end the guest that was started with --write first" }

// FormError is a root filesystem in a form that an export does not take.
type FormError struct {
	Format string
	Form   export.Form
}

func (e *FormError) Error() string {
	if !e.Form.OnDisk() {
		return fmt.Sprintf("export %s: this build has an initramfs, and no disk", e.Format)
	}
	return fmt.Sprintf("export %s: it is read from ext4, and rootfs.img is %s", e.Format, e.Form)
}

// Hint says what does.
func (e *FormError) Hint() string {
	return "bundle, qemu, libvirt and firecracker take every form; kimg build --fs ext4 makes a disk of ext4"
}

// Export hands the artifacts of the build in an out directory on. The file is written beside its place and renamed
// into it: an export that ends early leaves what was there. No build changes the artifacts meanwhile.
func Export(ctx context.Context, env Env, req ExportRequest) (err error) {
	_, done, err := openLocked(ctx, env, spec.Sources{}, spec.Default().Suite, req.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	b, err := exported(req.Out, req.Format.With(req.Options))
	if err != nil {
		return err
	}
	var eng container.Engine
	defer func() {
		if eng != nil {
			err = errors.Join(err, eng.Close())
		}
	}()
	b.Imaging = func(ctx context.Context) (_ container.Engine, image string, err error) {
		eng, image, err = Imaging(ctx, env, req.Out)
		return eng, image, err
	}
	b.Loader = func(ctx context.Context) ([]byte, error) { return loader(ctx, env, req.Out) }
	to := req.File
	if req.Stream != nil {
		to = "standard output"
	}
	if err := b.clear(req); err != nil {
		return err
	}
	if !req.Format.Text { // the descriptions only name it
		image := filepath.Join(b.Dir, artifact.Disk)
		if busy, err := outdir.InUse(image); err != nil {
			return fmt.Errorf("export %s: %w", req.Format.Name, err)
		} else if busy {
			return &InUseError{image}
		}
	}
	task := progress.Start(env.Sink, "export", "export "+req.Format.Name+" to "+to)
	defer func() { task.End(false, err) }()
	b.Log, b.Warn = task.Log(), task.Warn
	if req.Stream != nil {
		return b.write(ctx, req, req.Stream, task)
	}
	mode := cmp.Or(req.Format.Mode, 0o644)
	f, err := filelock.Replace(req.File, renameio.WithPermissions(mode))
	if err != nil {
		return fmt.Errorf("write %s: %w", req.File, err)
	}
	defer func() {
		if bad := f.Cleanup(); bad != nil && err == nil { // nothing to do after the rename
			err = bad
		}
	}()
	if err := b.write(ctx, req, f.File, task); err != nil {
		return err
	}
	if err := b.clear(req); err != nil { // it may have come meanwhile
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", req.File, err)
	}
	return nil
}

type artifacts struct{ export.Build }

func exported(out string, kind *export.Kind) (*artifacts, error) {
	dir, err := filepath.Abs(out)
	if err != nil {
		return nil, fmt.Errorf("find artifacts: %w", err)
	}
	m, err := outdir.Read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &vm.MissingArtifactError{Dir: out, File: artifact.Manifest}
	case err != nil:
		return nil, err
	}
	if err := m.CheckVersion(); err != nil {
		return nil, err
	}
	a := arch.Default
	if m.Build.Arch != "" {
		if a, err = arch.Parse(m.Build.Arch); err != nil {
			return nil, fmt.Errorf("read %s: %w", artifact.Manifest, err)
		}
	}
	as, err := form.Of(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look at the root filesystem: %w", err)
	}
	if !kind.Takes(as) {
		return nil, &FormError{kind.Name, as}
	}
	for _, name := range kind.Artifacts(a, as) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, &vm.MissingArtifactError{Dir: out, File: name}
		}
	}
	epoch := time.Unix(m.Build.Epoch, 0).UTC()
	b := &artifacts{export.Build{Arch: a, Dir: dir, Kernel: m.Build.Kernel, Suite: m.Build.Suite, Epoch: epoch}}
	for _, a := range m.Build.Artifacts {
		b.Files = append(b.Files, export.File{Path: a.Path, Mode: a.Mode, SHA256: string(a.SHA256)})
	}
	b.Files = append(b.Files, export.File{Path: artifact.Lock, Mode: 0o644})
	m.Run = outdir.RunFacts{} // where and when this one build ran is not what is handed on
	text, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	b.Files = append(b.Files, export.File{Path: artifact.Manifest, Mode: 0o644, Data: text})
	for _, d := range m.Documents {
		b.Files = append(b.Files, export.File{Path: d.Path, Mode: 0o644, SHA256: string(d.SHA256)})
	}
	if st, err := os.Lstat(filepath.Join(dir, attest.SignatureFile)); err == nil && st.Mode().IsRegular() {
		b.Files = append(b.Files, export.File{Path: attest.SignatureFile, Mode: 0o644})
	}
	if !kind.Guest {
		return b, nil
	}
	p, config, err := vm.Describe(out)
	if err != nil {
		return nil, err
	}
	b.Guest = export.Guest{
		Argv: p.Argv(), Append: p.Kernel.String(), Form: as, Disk: string(p.Bus), Net: p.CardModel(),
		Memory: int64(p.Memory) >> 20, CPUs: p.CPUs, Options: config,
	}
	return b, nil
}

// clear refuses a place for the file that something else has: a rename would put it away whatever it is.
func (b *artifacts) clear(req ExportRequest) error {
	if req.Stream != nil {
		return nil
	}
	st, err := os.Lstat(req.File)
	if errors.Is(err, os.ErrNotExist) {
		return reading.CheckPlace(req.File)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", req.File, err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("write %s: it is there, and is no regular file", req.File)
	}
	for _, f := range b.Files {
		if own, err := os.Lstat(filepath.Join(b.Dir, filepath.FromSlash(f.Path))); err == nil && os.SameFile(st, own) {
			return fmt.Errorf("write %s: it is an artifact of the build itself", req.File)
		}
	}
	if !req.Force {
		return &ExistsError{req.File}
	}
	return nil
}

func (b *artifacts) write(ctx context.Context, req ExportRequest, f *os.File, task *progress.Task) error {
	doing := func(err error) error {
		if err != nil {
			err = fmt.Errorf("export %s: %w", req.Format.Name, err)
		}
		return err
	}
	format := req.Format.New(req.Options)
	if req.Format.Holes && req.Stream == nil { // who opened standard output may have it append, whatever the offset
		return doing(format.Export(ctx, &b.Build, f))
	}
	w, err := req.Format.Pack(req.File, &counted{ctx, f, task})
	if err != nil {
		return err
	}
	if err := format.Export(ctx, &b.Build, w); err != nil {
		return doing(err)
	}
	return doing(w.Close())
}

// counted tells how far a file is, until ctx ends. The context is that of the one call that writes it.
type counted struct {
	ctx  context.Context
	w    io.Writer
	task *progress.Task
}

func (c *counted) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.w.Write(p)
	c.task.Add(int64(n), 0, "bytes")
	return n, err
}

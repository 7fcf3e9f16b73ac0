package builder

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
)

// Imaging returns an engine and, in it, the imaging image that made the artifacts in dir: QEMU and gdb are in it
// too. It is made where it is missing. A directory without a lock gets the image that ships with kimg. The caller
// closes the engine.
func Imaging(ctx context.Context, env Env, dir string) (_ container.Engine, id string, err error) {
	return imagingWith(ctx, env, dir, "")
}

// loaderFile is systemd-boot in the image with the tools of forms, of Debian's package systemd-boot-efi.
const loaderFile = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"

// loader is what a bootable disk's firmware runs, out of the image that the lock in dir, or kimg, pins.
func loader(ctx context.Context, env Env, dir string) (_ []byte, err error) {
	eng, image, err := imagingWith(ctx, env, dir, toolchain.ImagingForms)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, eng.Close()) }()
	var out, said bytes.Buffer
	cmd := &container.Cmd{Image: image, Args: []string{"cat", loaderFile}, User: "1000:1000",
		Stdout: &out, Stderr: &said}
	if err := container.Run(ctx, eng, cmd); err != nil {
		return nil, fmt.Errorf("read the loader: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return out.Bytes(), nil
}

// imagingWith is Imaging with a target of its own; empty: the one that the lock in dir has, or the usual one.
func imagingWith(
	ctx context.Context, env Env, dir string, target toolchain.Target,
) (_ container.Engine, id string, err error) {
	t, err := openFor(env)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			_ = t.close() // err says what is wrong
		}
	}()
	old, err := lockIn(dir)
	if err != nil {
		return nil, "", err
	}
	if old == nil {
		old = &spec.Lock{Arch: artifact.ArchOf(dir)}
	}
	target = cmp.Or(target, old.Imaging.Target, toolchain.ImagingFor(old.Arch))
	l, err := shippedToolchain(target, old.Imaging)
	if err != nil {
		return nil, "", err
	}
	if err := t.ensureToolchain(ctx, &l); err != nil {
		return nil, "", err
	}
	return t.image(ctx, l)
}

// imagingOf is the imaging image that makes what is asked for: nobody else gets one with more in it.
func imagingOf(q spec.Request) (toolchain.Target, error) {
	if !image.NeedsForms(q.Form) {
		return toolchain.ImagingFor(q.Arch), nil
	}
	if q.Arch.Or() != arch.Default {
		return "", &spec.InputError{Field: "--fs", Err: fmt.Errorf("%s is made for %s alone yet, and not for %s",
			q.Form, arch.Default, q.Arch)}
	}
	return toolchain.ImagingForms, nil
}

// Relock resolves the locks of the targets (none named: of all) anew from the signed archive and writes them into
// kimg's own source, which is the current directory. A target is for engines of all architectures ("trixie"), or of one
// ("trixie@arm64").
func Relock(ctx context.Context, env Env, targets []string) error {
	tools, err := openFor(env)
	if err != nil {
		return err
	}
	defer tools.close()
	list := targets
	if len(list) == 0 {
		for _, t := range toolchain.Targets() {
			list = append(list, string(t))
		}
	}
	for _, name := range list {
		name, engine, one := strings.Cut(name, "@")
		t, err := toolchain.ParseTarget(name)
		if err != nil {
			return &spec.InputError{Field: "relock", Err: err}
		}
		engines := t.Engines()
		if one {
			engines = slices.DeleteFunc(engines, func(a arch.Arch) bool { return a.Name != engine })
		}
		if len(engines) == 0 {
			return &spec.InputError{Field: "relock", Err: fmt.Errorf("%s is not for engines of %q", name, engine)}
		}
		for _, engine := range engines {
			if err := tools.relock(ctx, t, engine); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Sources) relock(ctx context.Context, t toolchain.Target, engine arch.Arch) error {
	file := toolchain.LockPath(t, engine)
	if _, err := os.Stat(filepath.Dir(file)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("relock %s: %s is not here: run it in a clone of kimg", t, filepath.Dir(file))
	}
	fresh, err := s.resolveToolchain(ctx, t, engine)
	if err != nil {
		return err
	}
	b, err := fresh.Encode()
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("relock %s: %w", t, err)
	}
	return nil
}

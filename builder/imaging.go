package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
)

// Imaging returns an engine and, in it, the imaging image that made the
// artifacts in dir: QEMU and gdb are in it too. It is made where it is missing.
// A directory without a lock gets the image that ships with kimg. The caller
// closes the engine.
func Imaging(ctx context.Context, env Env, dir string) (_ container.Engine, id string, err error) {
	spec := Default()
	spec.Out = dir
	s, err := open(env, spec)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			_ = s.close() // err says what is wrong
		}
	}()
	old, err := s.oldLock()
	if err != nil {
		return nil, "", err
	}
	if old == nil {
		old = &Lock{}
	}
	t, err := shippedToolchain(toolchain.Imaging, old.Imaging)
	if err != nil {
		return nil, "", err
	}
	_, err = s.runner().Get(ctx, s.toolchainStep(&t))
	if isMissing(err) {
		if err = s.renew(ctx, &t); err == nil {
			_, err = s.runner().Get(ctx, s.toolchainStep(&t))
		}
	}
	if err != nil {
		return nil, "", err
	}
	return s.image(ctx, t)
}

// Relock resolves the locks of the targets (none named: of all) anew from the
// signed archive and writes them into kimg's own source, which is the current
// directory.
func Relock(ctx context.Context, env Env, targets []string) error {
	s, err := open(env, Default())
	if err != nil {
		return err
	}
	defer s.close()
	list := toolchain.Targets()
	if len(targets) > 0 {
		list = nil
	}
	for _, name := range targets {
		t, err := toolchain.ParseTarget(name)
		if err != nil {
			return &SpecError{Field: "relock", Err: err}
		}
		list = append(list, t)
	}
	for _, t := range list {
		if err := s.relock(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) relock(ctx context.Context, t toolchain.Target) error {
	file := toolchain.LockPath(t)
	if _, err := os.Stat(filepath.Dir(file)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("relock %s: %s is not here: run it in a clone of kimg's own repository", t, filepath.Dir(file))
	}
	fresh, err := s.resolveAnew(ctx, t)
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

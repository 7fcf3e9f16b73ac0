package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
)

// What the out directory holds for the tools of this machine, beside the
// artifacts. Paths of this machine are in them, so they are no artifacts: they
// are not in the manifest, and two machines' are not alike.
const (
	SourceDir       = "source"    // the kernel's tree as compiled
	GeneratedDir    = "generated" // headers and sources that the build made
	CommandsFile    = "compile_commands.json"
	GDBFile         = "kimg.gdb"
	exportStateFile = ".kimg-export" // in GeneratedDir: what was exported
)

// sourceExport is what an export was made of.
type sourceExport struct {
	Kernel steps.ActionID `json:"kernel"`
	Source string         `json:"source"`
}

// forTools writes what clangd and gdb want of this build. Without --export-source
// that is kimg.gdb alone, and only for a directory of the person's own: it needs
// no more than its path.
func (s *session) forTools(ctx context.Context, p *Plan, out *outDir) error {
	is := sourceExport{Kernel: p.Kernel.ActionID(), Source: out.path(SourceDir)}
	directory, patched := p.Lock.Kernel.Source == string(kernel.Directory), len(p.Lock.Kernel.Patches)+len(p.Lock.Kernel.Fixes) > 0
	own := directory && !patched // a patched tree is nowhere but in its volume
	if own {
		is.Source = s.tree.Path
	}
	was, err := readExported(out)
	if err != nil {
		return err
	}
	generated := out.path(GeneratedDir)
	if !s.spec.ExportSource {
		switch {
		case was != nil && *was != is:
			progress.Say(s.Sink, "the exported source and "+CommandsFile+" are those of an earlier build: --export-source renews them")
		case was == nil && own:
			return out.write(GDBFile, kernel.GDBScript(is.Source, ""))
		case was == nil && directory:
			// That of a build without the patches names lines of another source.
			if err := os.Remove(out.path(GDBFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove %s: %w", GDBFile, err)
			}
		}
		return nil
	}
	if was != nil && *was == is {
		return nil
	}
	if was == nil {
		for _, name := range []string{SourceDir, GeneratedDir, CommandsFile} {
			if _, err := os.Lstat(out.path(name)); err == nil {
				return &ForeignError{out.path(name)}
			}
		}
	}
	config, err := s.config(p.Lock.Config)
	if err != nil {
		return err
	}
	eng, job, err := s.job(ctx, p.Lock, config)
	if err != nil {
		return err
	}
	task := progress.Start(s.Sink, "export-source", "export the source for tools", progress.Why(is.Source))
	commands, err := kernel.ExportSource(ctx, eng, job, kernel.SourceExport{Source: is.Source, Have: own, Generated: generated}, task)
	task.End(false, err)
	if err != nil {
		return err
	}
	if err := errors.Join(out.write(CommandsFile, commands), out.write(GDBFile, kernel.GDBScript(is.Source, generated))); err != nil {
		return err
	}
	state, err := json.Marshal(is)
	if err != nil {
		return err
	}
	return out.write(filepath.Join(GeneratedDir, exportStateFile), state)
}

// readExported reads what the last export was made of; nil: there was none.
func readExported(out *outDir) (*sourceExport, error) {
	b, err := os.ReadFile(filepath.Join(out.path(GeneratedDir), exportStateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last export: %w", err)
	}
	var e sourceExport
	if json.Unmarshal(b, &e) != nil {
		return &sourceExport{}, nil
	}
	return &e, nil
}

package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/reading"
)

// Config is a kernel's configuration: symbols without CONFIG_ to their values.
type Config map[string]string

// ReadConfig reads a kernel's .config. A missing file is fs.ErrNotExist.
func ReadConfig(name string) (Config, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := Config{}
	for line, err := range reading.Lines(f, 1<<20) {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if symbol, value, ok := strings.Cut(strings.TrimPrefix(line, "CONFIG_"), "="); ok {
			c[symbol] = value
		}
	}
	return c, nil
}

func (c Config) get(symbol string) string { return c[symbol] }

// need is an error that names what the kernel lacks for the first of the needs that it does not meet, or nil.
func (c Config) need(list ...needs.Need) error {
	if lacks := needs.Lacks(c.get, list...); len(lacks) > 0 {
		return &MissingConfigError{lacks[0]}
	}
	return nil
}

// buses are those of the sets of needs.Disk, the fastest first.
var buses = []qemu.Bus{qemu.VirtioBus, qemu.IDEBus, qemu.AHCIBus}

// bus is the fastest disk that the kernel can have its root on.
func (c Config) bus() (qemu.Bus, error) {
	i := needs.Disk.Met(c.get)
	if i < 0 {
		return "", c.need(needs.Disk)
	}
	return buses[i], nil
}

// agent is an error when the guest's agent cannot be reached in this kernel.
func (c Config) agent() error { return c.need(needs.Agent) }

// MissingConfigError says that the kernel lacks something built in, or has what it must not.
type MissingConfigError struct{ needs.Lack }

func (e *MissingConfigError) Error() string {
	return fmt.Sprintf("this kernel cannot %s: it was built %s", e.What, e.Why())
}

func (e *MissingConfigError) Hint() string { return "build it with " + needs.Way(e.Lack) }

// errNoDebugInfo says that vmlinux has none, whatever its configuration says: gdb would know nothing but addresses.
var errNoDebugInfo = &MissingConfigError{*needs.Debug.Lack(Config(nil).get)}

// MissingArtifactError says that an out directory lacks a file.
type MissingArtifactError struct{ Dir, File string }

func (e *MissingArtifactError) Error() string {
	return fmt.Sprintf("find %s in %s: there is none", e.File, e.Dir)
}

func (e *MissingArtifactError) Hint() string {
	return "run kimg build first, or name its directory with --out"
}

// symbols are those of an out directory's kernel, and where its modules are.
func symbols(dir string) (*gdb.Symbols, error) {
	kernel, err := gdb.ReadSymbols(filepath.Join(dir, artifact.Vmlinux))
	if err == nil {
		kernel.Modules = filepath.Join(dir, artifact.ModulesDir)
	}
	return kernel, err
}

func artifacts(dir string, files ...string) (Config, error) {
	for _, name := range append([]string{artifact.Config}, files...) {
		info, err := os.Stat(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, &MissingArtifactError{Dir: dir, File: name}
		case err != nil:
			return nil, fmt.Errorf("find %s: %w", name, err)
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("use %s: it is not a file", filepath.Join(dir, name))
		}
	}
	return ReadConfig(filepath.Join(dir, artifact.Config))
}

package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/artifact"
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

// builtIn says whether all of the symbols are built in: there is no initramfs for modules.
func (c Config) builtIn(symbols ...string) bool { return c.need("", symbols...) == nil }

// need is an error that names the symbols that are not built in, or nil. what completes "this kernel cannot".
func (c Config) need(what string, symbols ...string) error {
	lacking := slices.DeleteFunc(slices.Clone(symbols), func(s string) bool { return c[s] == "y" })
	if len(lacking) == 0 {
		return nil
	}
	return &MissingConfigError{For: what, Symbols: lacking}
}

// bus is the fastest disk that the kernel can have its root on.
func (c Config) bus() (qemu.Bus, error) {
	switch {
	case c.builtIn("VIRTIO_PCI", "VIRTIO_BLK"):
		return qemu.VirtioBus, nil
	case c.builtIn("ATA_PIIX", "BLK_DEV_SD"):
		return qemu.IDEBus, nil
	case c.builtIn("SATA_AHCI", "BLK_DEV_SD"):
		return qemu.AHCIBus, nil
	}
	return "", c.need("find its root disk", "VIRTIO_PCI", "VIRTIO_BLK")
}

// agent is an error when the guest's agent cannot be reached in this kernel.
func (c Config) agent() error {
	return c.need("run a command for the host", "VIRTIO_PCI", "VIRTIO_CONSOLE")
}

// MissingConfigError says that the kernel lacks something built in.
type MissingConfigError struct {
	For     string // what the kernel cannot do without them
	Symbols []string
}

func (e *MissingConfigError) Error() string {
	return fmt.Sprintf("this kernel cannot %s: it was built without %s", e.For, strings.Join(e.Symbols, ", "))
}

func (e *MissingConfigError) Hint() string {
	return "build it with --set " + strings.Join(e.Symbols, "=y --set ") + "=y"
}

// errNoDebugInfo says that gdb would know nothing but addresses.
var errNoDebugInfo = &MissingConfigError{For: "be debugged", Symbols: []string{"DEBUG_INFO"}}

// MissingArtifactError says that an out directory lacks a file.
type MissingArtifactError struct{ Dir, File string }

func (e *MissingArtifactError) Error() string {
	return fmt.Sprintf("find %s in %s: there is none", e.File, e.Dir)
}

func (e *MissingArtifactError) Hint() string {
	return "run kimg build first, or name its directory with --out"
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

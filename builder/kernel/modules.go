package kernel

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/artifact"
)

// ModulesTar is the artifact that holds what modules_install installed, as lib/modules/VERSION, with depmod's
// indices: what belongs into a root filesystem. Its modules carry no debug information; those below ModulesDir do,
// for a debugger to load (lx-symbols finds them by their names).
const (
	ModulesTar = artifact.Modules
	ModulesDir = artifact.ModulesDir
)

// Modules reports whether the configuration asks for loadable modules. It is
// known before anything has run, because no other symbol turns MODULES on.
func (c Config) Modules() bool {
	on := c.Base != VM && c.Base != Defconfig && kconfig.ParseConfig(c.File).Get("MODULES") == "y"
	for _, r := range c.Requests {
		if r.Symbol == "MODULES" {
			on = r.Value == "y"
		}
	}
	return on
}

const modulesRoot = workDir + "/" + ModulesDir

// modulesScript makes the tar $2 of what was installed below $1, the same from the same modules, with times of $3
// (seconds since 1970). build and source are links to directories that no guest has.
const modulesScript = `cd "$1" && find lib -type d -exec chmod 755 {} + && exec tar -cf "$2" \
--format=gnu --sort=name --mtime="@$3" --owner=0 --group=0 --numeric-owner \
--exclude='lib/modules/*/build' --exclude='lib/modules/*/source' lib/modules`

// maxList bounds the list of a kernel's modules, in bytes.
const maxList = 64 << 20

func (w *worker) modules(ctx context.Context, j Job, put Put) error {
	if err := w.make(ctx, "INSTALL_MOD_PATH="+modulesRoot, "INSTALL_MOD_STRIP=1", "modules_install"); err != nil {
		return fmt.Errorf("install the modules: %w", err)
	}
	err := w.run(ctx, nil, nil,
		"sh", "-c", modulesScript, "sh", modulesRoot, workDir+"/"+ModulesTar, fmt.Sprint(j.Epoch.Unix()))
	if err != nil {
		return fmt.Errorf("install the modules: %w", err)
	}
	if err := w.give(ctx, workDir, map[string]string{ModulesTar: ModulesTar}, nil, put); err != nil {
		return err
	}
	list, err := w.output(ctx, nil, maxList, "find", objDir, "-name", "*.ko", "-printf", `%P\n`)
	if err != nil {
		return fmt.Errorf("list the modules: %w", err)
	}
	names := map[string]string{}
	for name := range strings.Lines(list) {
		name = strings.TrimSuffix(name, "\n")
		names[name] = path.Join(ModulesDir, name)
	}
	if len(names) == 0 {
		return nil
	}
	return w.give(ctx, objDir, names, nil, func(name string, _ fs.FileMode, size int64, r io.Reader) error {
		return put(name, 0o644, size, r)
	})
}

package toolbox

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
)

// Imaging returns an engine, and the image in it that has QEMU, gdb and socat. It is
// called only when a container is needed.
type Imaging func(context.Context) (eng Engine, image string, err error)

// Choose picks the toolbox: this machine when it has both QEMU for the architecture and gdb, else the container.
// tools, from KIMG_TOOLS, is "host" or "container" to have one of them, or empty. Both programs come from one
// place, so that gdb and QEMU agree on sockets and paths. Where gdb is not wanted, a machine whose processor can run
// the guests does without it: a Mac has no gdb, and its container no accelerator.
func Choose(ctx context.Context, a arch.Arch, tools string, gdb bool, imaging Imaging) (Toolbox, error) {
	switch tools {
	case "", "host", "container":
	default:
		return nil, fmt.Errorf("use KIMG_TOOLS=%s: want host or container", tools)
	}
	if tools != "container" {
		_, noQEMU := exec.LookPath(a.QEMU)
		_, noGDB := exec.LookPath(a.GDBOn(runtime.GOARCH))
		if !gdb && (tools == "host" || noQEMU == nil && qemu.ProbeOwn(a) == nil) {
			noGDB = nil
		}
		missing := errors.Join(noQEMU, noGDB)
		if missing == nil {
			return Host{Arch: a}, nil
		}
		if tools == "host" {
			return nil, fmt.Errorf("use KIMG_TOOLS=host: %w", missing)
		}
	}
	eng, image, err := imaging(ctx)
	if err != nil {
		return nil, err
	}
	return Container{Arch: a, Engine: eng, Image: image}, nil
}

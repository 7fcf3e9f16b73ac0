package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
)

// headSocket is where QEMU's gdb stub listens first, for kimg. It listens for gdb at another one after that.
const headSocket = "head"

// headLimit is how long the firmware and the kernel's unpacking may take. After that gdb
// gets the guest wherever it is.
func headLimit(a qemu.Accel) time.Duration {
	if a == qemu.TCG {
		return 30 * time.Second
	}
	return 5 * time.Second
}

// stubOf is the stub of a guest that is to stop in breaks, and the address that it may run
// to before gdb attaches: 0 where it stays halted, or runs at once.
func stubOf(
	kernel *gdb.Symbols, tools *toolbox.Tools, breaks []string, running bool,
) (stub qemu.GDBStub, entry uint64) {
	if !running {
		entry = kernel.FirstStop(breaks)
	}
	if entry != 0 {
		return qemu.GDBStub{Socket: tools.Socket(headSocket)}, entry
	}
	return qemu.GDBStub{Socket: tools.Socket(gdbSocket), Running: running}, 0
}

// awaitGDB lets the halted guest run to entry, unless that is 0, and has gdb's socket
// listen. gdb reads the symbols meanwhile, as long as the firmware takes and longer.
func (vm *instance) awaitGDB(ctx context.Context, entry uint64) error {
	if entry == 0 {
		_, err := vm.order(ctx, "query-status", nil) // that QEMU is there
		return err
	}
	head, cancel := context.WithTimeout(ctx, headLimit(vm.tools.Accel))
	defer cancel()
	// gdb gets a guest that does not come that far too.
	_ = vm.runTo(head, entry)
	if ctx.Err() != nil || vm.ended() {
		return nil // that is reported elsewhere
	}
	return vm.moveStub(ctx)
}

func (vm *instance) runTo(ctx context.Context, address uint64) error {
	conn, err := vm.connect(ctx, headSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return gdb.RunStub(conn, address)
}

// moveStub has QEMU's gdb stub listen at gdb's socket, and nowhere else.
func (vm *instance) moveStub(ctx context.Context) error {
	type named = map[string]any
	_, err := vm.order(ctx, "chardev-add", named{"id": "debugger", "backend": named{"type": "socket", "data": named{
		"addr":   named{"type": "unix", "data": named{"path": vm.tools.Socket(gdbSocket)}},
		"server": true, "wait": false,
	}}})
	if err != nil {
		return err
	}
	// QMP itself has no command for it.
	said, err := vm.order(ctx, "human-monitor-command", named{"command-line": "gdbserver chardev:debugger"})
	var answer string
	if err == nil && json.Unmarshal(said, &answer) == nil && strings.Contains(answer, "ould not") {
		err = fmt.Errorf("have QEMU wait for gdb: %s", strings.TrimSpace(answer))
	}
	return err
}

// gdbFiles are what a gdb of the tools reads.
func gdbFiles(tools *toolbox.Tools) gdb.Files {
	return gdb.Files{
		Vmlinux: tools.Path(artifact.Vmlinux), Index: tools.Index,
		Scripts: []string{tools.Path(artifact.GDBLoader), tools.Path(artifact.GDBScripts)},
	}
}

// startGDB starts a gdb of the tools. The end of ctx ends it.
func startGDB(ctx context.Context, tools *toolbox.Tools) (*gdb.Debugger, error) {
	return gdb.Start(func(in io.Reader, out, errs io.Writer) (func() error, error) {
		return tools.Start(ctx, toolbox.Program{Args: gdb.Args(gdbFiles(tools)), Stdin: in, Stdout: out, Stderr: errs})
	})
}

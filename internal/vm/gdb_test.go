package vm

import (
	"testing"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/toolbox"
)

func TestStubOf(t *testing.T) {
	kernel := &gdb.Symbols{Entry: 0x1000000}
	tools := &toolbox.Tools{Sockets: "/r"}
	at := []string{"vfs_read"}
	if stub, entry := stubOf(kernel, tools, nil, false); stub.Socket != tools.Socket(gdbSocket) || stub.Running ||
		entry != 0 {
		t.Errorf("halted: %+v, %#x", stub, entry)
	}
	if stub, entry := stubOf(kernel, tools, at, true); stub.Socket != tools.Socket(gdbSocket) || !stub.Running ||
		entry != 0 {
		t.Errorf("running: %+v, %#x", stub, entry)
	}
	if stub, entry := stubOf(kernel, tools, at, false); stub.Socket == tools.Socket(gdbSocket) || stub.Running ||
		entry != kernel.Entry {
		t.Errorf("gdb would come before the guest has run to its entry: %+v, %#x", stub, entry)
	}
}

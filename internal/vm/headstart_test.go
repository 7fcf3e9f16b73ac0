package vm

import (
	"testing"

	"github.com/kimg/kimg/internal/gdb"
)

func TestStubOf(t *testing.T) {
	kernel := &gdb.Symbols{Entry: 0x1000000}
	site := &Site{Run: "/r"}
	at := []string{"vfs_read"}
	if stub, entry := stubOf(kernel, site, nil, false); stub.Socket != site.Socket(gdbSocket) || stub.Running || entry != 0 {
		t.Errorf("halted: %+v, %#x", stub, entry)
	}
	if stub, entry := stubOf(kernel, site, at, true); stub.Socket != site.Socket(gdbSocket) || !stub.Running || entry != 0 {
		t.Errorf("running: %+v, %#x", stub, entry)
	}
	if stub, entry := stubOf(kernel, site, at, false); stub.Socket == site.Socket(gdbSocket) || stub.Running || entry != kernel.Entry {
		t.Errorf("gdb would come before the guest has run to its entry: %+v, %#x", stub, entry)
	}
}

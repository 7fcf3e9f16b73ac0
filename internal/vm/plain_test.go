package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/qemu"
)

func TestDescribe(t *testing.T) {
	dir := t.TempDir()
	var missing *MissingArtifactError
	if _, err := Describe(dir); !errors.As(err, &missing) {
		t.Errorf("an empty directory: %v", err)
	}
	for name, text := range map[string]string{
		artifact.Config: "CONFIG_ATA_PIIX=y\nCONFIG_BLK_DEV_SD=y\nCONFIG_E1000=y\n", artifact.KernelImage(arch.Default): "", artifact.Disk: "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p.Bus != qemu.IDEBus || p.Net != "e1000" || p.Memory != 1<<30 || p.CPUs != 1 || p.Append != "root=/dev/sda rw console=ttyS0 panic=-1 nokaslr no_timer_check" {
		t.Errorf("%+v", p)
	}
	argv := strings.Join(p.Argv, " ")
	for _, want := range []string{
		"qemu-system-x86_64 -M pc", "-accel kvm -accel tcg", "-kernel ./bzImage -append root=/dev/sda",
		"file=./rootfs.img,snapshot=on", "-device e1000",
	} {
		if !strings.Contains(argv, want) {
			t.Errorf("no %q in %s", want, argv)
		}
	}
	if strings.Contains(argv, dir) || strings.Contains(argv, "path=") {
		t.Errorf("a path or a socket of kimg's own in %s", argv)
	}
}

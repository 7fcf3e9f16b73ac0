package export

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/internal/artifact"
)

// ovmf boots disk $1 of the format $2 as firmware does: nothing is told of a kernel.
const ovmf = `set -e
tar --extract --file=` + workTar + `
cp /usr/share/OVMF/OVMF_VARS_4M.fd vars.fd
exec qemu-system-x86_64 -M q35 -cpu max,la57=off -m 1G -no-user-config -nodefaults -display none -no-reboot \
	-drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
	-drive if=pflash,format=raw,file=vars.fd \
	-drive if=none,id=disk,format="$1",snapshot=on,file=` + artifact.Disk + ` -device virtio-blk-pci,drive=disk \
	-device virtio-rng-pci -serial stdio
`

// TestDiskBootsInOVMF boots the bootable disk KIMG_TEST_DISK, of KIMG_TEST_FORMAT, to root's prompt, with the firmware
// and the QEMU of the image KIMG_TEST_IMAGING. All three come from a build.
func TestDiskBootsInOVMF(t *testing.T) {
	disk := os.Getenv("KIMG_TEST_DISK")
	if disk == "" {
		t.Skip("KIMG_TEST_DISK names no bootable disk of a build")
	}
	dir := t.TempDir()
	if err := os.Symlink(disk, filepath.Join(dir, artifact.Disk)); err != nil {
		t.Fatal(err)
	}
	eng := containertest.Engine(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	screen := &screen{until: []byte("root@kimg:~#"), seen: cancel}
	c, err := eng.Create(ctx, &container.Cmd{
		Image: os.Getenv("KIMG_TEST_IMAGING"), Args: []string{"sh", "-c", ovmf, "sh", os.Getenv("KIMG_TEST_FORMAT")},
		User: "1000:1000", Dir: workDir, Init: true, Stdout: screen, Stderr: screen,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Remove(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	if err := sendDisk(ctx, &Build{Dir: dir}, false, c); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case <-ctx.Done():
		err = context.Cause(ctx)
	case err = <-ended:
	}
	text, prompt := screen.text()
	if !prompt {
		t.Fatalf("%v, and no prompt on\n%s", err, text)
	}
	if !bytes.Contains(text, []byte("efi: EFI v")) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v\n%s", err, text)
	}
}

// screen is a serial console that tells once a text is on it.
type screen struct {
	until []byte
	seen  func()

	mu  sync.Mutex
	all []byte
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p...)
	if bytes.Contains(s.all, s.until) {
		s.seen()
	}
	return len(p), nil
}

func (s *screen) text() (all []byte, seen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.all), bytes.Contains(s.all, s.until)
}

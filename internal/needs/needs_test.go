package needs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// config is one of words such as EXT4_FS=y.
func config(words string) Config {
	values := map[string]string{}
	for w := range strings.FieldsSeq(words) {
		name, value, _ := strings.Cut(w, "=")
		values[name] = value
	}
	return func(s string) string { return values[s] }
}

func TestLack(t *testing.T) {
	for _, c := range []struct {
		need      Need
		has       string
		met       int
		why, sets string
	}{
		{Disk, "VIRTIO_PCI=y VIRTIO_BLK=y ATA_PIIX=y BLK_DEV_SD=y", 0, "", ""},
		{Disk, "VIRTIO_BLK=y ATA_PIIX=y BLK_DEV_SD=y", 1, "", ""},
		{Disk, "VIRTIO_BLK=y SATA_AHCI=y", -1, "without VIRTIO_PCI", "--set VIRTIO_PCI=y"},
		{Disk, "ATA_PIIX=y", -1, "without BLK_DEV_SD", "--set BLK_DEV_SD=y"},
		{Disk, "", -1, "without VIRTIO_PCI, VIRTIO_BLK", "--set VIRTIO_PCI=y --set VIRTIO_BLK=y"},
		{Disk, "VIRTIO_PCI=y VIRTIO_BLK=m BLK_DEV_SD=m", -1,
			"without VIRTIO_BLK (what is a module cannot be loaded: there is no initramfs)", "--set VIRTIO_BLK=y"},
		{Root, "EXT4_FS=y", 0, "", ""},
		{Debug, "DEBUG_INFO=y", 0, "", ""},
		{Debug, "DEBUG_INFO=y DEBUG_INFO_SPLIT=n", 0, "", ""},
		{Debug, "DEBUG_INFO=y DEBUG_INFO_SPLIT=y", -1, "with DEBUG_INFO_SPLIT", "--set DEBUG_INFO_SPLIT=n"},
		{Debug, "DEBUG_INFO=n", -1, "without DEBUG_INFO", "--set DEBUG_INFO=y"},
		{Variables, "", 0, "", ""},
		{Variables, "DEBUG_INFO_REDUCED=y", -1, "with DEBUG_INFO_REDUCED", "--set DEBUG_INFO_REDUCED=n"},
	} {
		got := c.need.Lack(config(c.has))
		why, sets := "", ""
		if got != nil {
			why, sets = got.Why(), Way(*got)
		}
		if d := cmp.Diff([]any{c.met, c.why, c.sets}, []any{c.need.Met(config(c.has)), why, sets}); d != "" {
			t.Errorf("%s with %q:\n%s", c.need.What, c.has, d)
		}
	}
}

func TestLacks(t *testing.T) {
	lacks := Lacks(config("VIRTIO_PCI=y VIRTIO_BLK=y BINFMT_ELF=y"), Disk, Root, Agent, Programs)
	var what []string
	for _, l := range lacks {
		what = append(what, l.What)
	}
	if d := cmp.Diff([]string{"mount its root file system", "run a command for the host"}, what); d != "" {
		t.Error(d)
	}
	if got, want := Way(lacks...), "--set EXT4_FS=y --set VIRTIO_CONSOLE=y"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := Way(Lacks(config(""), Agent, Share)...); strings.Count(got, "VIRTIO_PCI") != 1 {
		t.Errorf("the same twice: %s", got)
	}
}

func TestOn(t *testing.T) {
	has := config("SERIAL_AMBA_PL011_CONSOLE=y")
	list := []Need{Root, Console}
	if got := Lacks(has, On("SERIAL_AMBA_PL011_CONSOLE", list)...); len(got) != 1 || got[0].What != Root.What {
		t.Errorf("the console of another architecture: %v", got)
	}
	if got := Lacks(has, list...); len(got) != 2 {
		t.Errorf("the list itself changed: %v", got)
	}
}

//go:build linux

package e2e

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestForms makes the root filesystem in each of its forms, boots it, and hands it on. It compiles a kernel of its own,
// which has all the file systems, and so it runs where KIMG_TEST_FORMS asks for it: all, or some, apart by commas.
func TestForms(t *testing.T) {
	asked := os.Getenv("KIMG_TEST_FORMS")
	if asked == "" {
		t.Skip("KIMG_TEST_FORMS asks for it: all, or some of ext4,squashfs,erofs,initramfs,...")
	}
	k := newKimg(t)
	eng := findEngine(t, k)
	fragment, err := filepath.Abs("testdata/forms.config")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name  string
		flags []string
		root  string // its line in /proc/mounts has this
		keeps bool   // what is written to it can be kept
	}{
		{"ext4", []string{"--size", "min"}, "/dev/root / ext4 rw", true},
		{"initramfs", []string{"--initramfs"}, " / rootfs rw", false},
		{"squashfs", []string{"--fs", "squashfs"}, "overlay / overlay rw", false},
		{"erofs", []string{"--fs", "erofs"}, "overlay / overlay rw", false},
		{"btrfs", []string{"--fs", "btrfs", "--size", "min"}, " / btrfs rw", true},
		{"xfs", []string{"--fs", "xfs", "--size", "min"}, "/dev/root / xfs rw", true},
		{"f2fs", []string{"--fs", "f2fs", "--size", "min"}, "/dev/root / f2fs rw", true},
	} {
		if asked != "all" && !strings.Contains(","+asked+",", ","+f.name+",") {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			out := filepath.Join(k.dir, f.name)
			build := append([]string{"build", "--config", "vm", "--fragment", fragment,
				"--include", "openssh-server", "--out", out, "--progress", "plain"}, f.flags...)
			k.run(t, "", build...).want(t, 0)
			verify(t, out)

			// It is what it should be, can be written to, and nothing in it has failed.
			const look = `grep " / " /proc/mounts; touch /etc/written && echo written
				systemctl is-system-running --wait
				systemctl --failed --no-legend; modprobe e1000 && grep -c ^e1000 /proc/modules`
			r := k.run(t, "", "run", "--out", out, "--", "sh", "-c", look).want(t, 0)
			if !strings.Contains(r.stdout, f.root) || !strings.HasSuffix(r.stdout, "\nwritten\nrunning\n1\n") {
				t.Errorf("in the guest:\n%s", r.stdout)
			}
			const direct = "cat /proc/1/comm; echo of $$"
			r = k.run(t, "", "run", "--out", out, "--init", "sh", "--", "sh", "-c", direct).want(t, 0)
			if !strings.HasPrefix(r.stdout, "agent\nof ") {
				t.Errorf("without systemd:\n%s", r.stdout)
			}
			r = k.run(t, "", "ssh", "--out", out, "--", "cat", "/etc/hostname").want(t, 0)
			if r.stdout != "kimg\n" {
				t.Errorf("by ssh: %q", r.stdout)
			}
			check := k.run(t, "", "check", "--out", out, "--break", "do_sys_openat2").want(t, 0)
			if !strings.Contains(check.stdout+check.stderr, "do_sys_openat2") {
				t.Errorf("stopped:\n%s", check.stdout)
			}
			if f.keeps {
				r = k.run(t, "", "run", "--out", out, "--progress", "plain", "--write", "--", "touch", "/root/kept").
					want(t, 0)
				checked := strings.Contains(r.stderr, "is sound")
				if f.name != "ext4" { // whose fsck may not be here
					checked = checked || strings.Contains(r.stderr, "was not checked")
				}
				if !checked {
					t.Errorf("after writing:\n%s", r.stderr)
				}
				k.run(t, "", "run", "--out", out, "--", "test", "-e", "/root/kept").want(t, 0)
			} else {
				r = k.run(t, "", "run", "--out", out, "--write", "--", "true").want(t, 125)
				if !strings.Contains(r.stderr, "keep what the guest writes") {
					t.Errorf("--write:\n%s", r.stderr)
				}
			}
			handOnBootable(t, k, eng, out)
			if left := eng.leftovers(t, k); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// handOnBootable exports a disk that firmware boots, twice, and has it booted by a firmware and a QEMU that know
// nothing else.
func handOnBootable(t *testing.T, k kimg, eng engine, out string) {
	dir := t.TempDir()
	disk, again := filepath.Join(dir, "disk"), filepath.Join(dir, "again")
	for _, file := range []string{disk, again} {
		k.run(t, "", "export", "--out", out, "--to", "vmdk", "--bootable", file).want(t, 0)
	}
	if said, err := exec.Command("cmp", disk, again).CombinedOutput(); err != nil {
		t.Errorf("two exports differ: %s", said)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-timeout=20m", "-run=^TestDiskBootsInOVMF$",
		"github.com/kimg/kimg/image/export")
	cmd.Env = k.env
	cmd.Env = append(cmd.Environ(), "KIMG_TEST_DISK="+disk, "KIMG_TEST_FORMAT=vmdk",
		"KIMG_TEST_IMAGING="+eng.newest(t, "kimg-toolchain:imaging-forms-*"))
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}

// newest is the youngest image with a name like this.
func (e engine) newest(t *testing.T, like string) string {
	t.Helper()
	if e.http == nil {
		files, err := filepath.Glob(filepath.Join(e.dir, "*", "refs", like))
		if err != nil || len(files) == 0 {
			t.Fatalf("no image %s in %s: %v", like, e.dir, err)
		}
		return filepath.Base(slices.MaxFunc(files, func(a, b string) int {
			return modified(t, a).Compare(modified(t, b))
		}))
	}
	resp, err := e.http.Get("http://engine/images/json?filters=" + url.QueryEscape(`{"reference":["`+like+`"]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list []struct {
		Created  int64
		RepoTags []string
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil || len(list) == 0 {
		t.Fatalf("no image %s: %v", like, err)
	}
	young := list[0]
	for _, i := range list {
		if i.Created > young.Created {
			young = i
		}
	}
	return young.RepoTags[0]
}

func modified(t *testing.T, file string) time.Time {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.ModTime()
}

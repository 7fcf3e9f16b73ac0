//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// handOn exports the artifacts in out and reads back what came out, with readers
// that share no code with the writers.
func handOn(t *testing.T, k kimg, out string) {
	dir := t.TempDir()
	export := func(format, name string, more ...string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		r := k.run(t, "", append([]string{"export", "--to", format, "--out", out, file}, more...)...).want(t, 0)
		if r.stdout != file+"\n" {
			t.Errorf("stdout is %q, want the file's name", r.stdout)
		}
		return file
	}
	sameAsQcow2(t, filepath.Join(out, "rootfs.img"), export("qcow2", "disk.qcow2"))

	// What a bundle unpacks to is what was built.
	bundle := export("bundle", "lab.tar.gz")
	if said, err := exec.Command("tar", "-xzf", bundle, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, said)
	}
	verify(t, filepath.Join(dir, "kimg-out"))

	list, err := exec.Command("tar", "--numeric-owner", "-tvf", export("tar", "rootfs.tar")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" ./etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf\n",
		" ./bin -> usr/bin\n", "crw-rw-rw- 0/0"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("the tar's listing lacks %q", want)
		}
	}
	k.run(t, "", "export", "--to", "tar", "--out", out, filepath.Join(dir, "rootfs.tar")).want(t, 2) // it is there
}

// sameAsQcow2 compares a raw image with a qcow2 one that has no compressed
// clusters (QEMU's docs/interop/qcow2.rst).
func sameAsQcow2(t *testing.T, raw, qcow2 string) {
	t.Helper()
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	q, err := os.ReadFile(qcow2)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	const offset = 0x00fffffffffffe00
	if len(q) < 104 || string(q[:4]) != "QFI\xfb" || be.Uint32(q[4:]) != 3 || be.Uint64(q[8:]) != 0 {
		t.Fatalf("no qcow2 image of version 3 without a backing file: %x", q[:min(len(q), 16)])
	}
	cluster, size := 1<<be.Uint32(q[20:]), int64(be.Uint64(q[24:]))
	l1 := q[be.Uint64(q[40:]):]
	want, zeros := make([]byte, cluster), make([]byte, cluster)
	for at := int64(0); ; at += int64(cluster) {
		n, err := io.ReadFull(f, want)
		if errors.Is(err, io.EOF) {
			if at != size {
				t.Errorf("it says %d bytes, want %d", size, at)
			}
			return
		}
		got, i := zeros, at/int64(cluster)
		if table := be.Uint64(l1[8*(i/int64(cluster/8)):]) & offset; table != 0 {
			entry := be.Uint64(q[table+8*uint64(i%int64(cluster/8)):])
			if entry&(1<<62) != 0 {
				t.Fatalf("cluster %d is compressed", i)
			}
			if entry&1 == 0 && entry&offset != 0 {
				got = q[entry&offset:][:cluster]
			}
		}
		if !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("cluster %d differs", i)
		}
	}
}

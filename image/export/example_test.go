package export_test

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/kimg/kimg/image/export"
)

// The files of a disk image, as a tar.
func ExampleTar() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	image, err := filepath.Abs("../../ext4/testdata/small.img")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Symlink(image, filepath.Join(dir, "rootfs.img")); err != nil {
		log.Fatal(err)
	}
	b := &export.Build{Dir: dir, Suite: "trixie", Epoch: time.Unix(1_700_000_000, 0)}
	r, w := io.Pipe()
	go func() { w.CloseWithError(export.Tar{}.Export(context.Background(), b, w)) }()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v %d %s %q\n", h.FileInfo().Mode(), h.Uid, h.Name, h.Linkname)
	}
	// Output:
	// drwxr-xr-x 0 ./ ""
	// drwxr-xr-x 0 ./etc/ ""
	// -rw-r--r-- 33 ./etc/hosts ""
	// -rw-r--r-- 33 ./etc/hosts.bak "./etc/hosts"
	// drwxr-xr-x 0 ./usr/ ""
	// Lrwxrwxrwx 0 ./usr/hosts "../etc/hosts"
	// drwxr-xr-x 0 ./usr/share/ ""
	// drwxr-xr-x 0 ./usr/share/doc/ ""
	// -rw-r--r-- 0 ./usr/share/doc/README ""
	// -rw-r--r-- 0 ./usr/sparse ""
}

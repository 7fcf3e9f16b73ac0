package ext4_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/kimg/kimg/ext4"
)

// Change is all or nothing: on an error, or when e2fsck or the reader finds a fault, the image is as it was.
func ExampleChange() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "disk.img")
	if b, err := os.ReadFile("testdata/small.img"); err != nil {
		log.Fatal(err)
	} else if err := os.WriteFile(image, b, 0o644); err != nil {
		log.Fatal(err)
	}

	worker, err := ext4.NewHostWorker("") // this machine's debugfs and e2fsck
	if err != nil {
		log.Fatal(err)
	}
	defer worker.Close()
	epoch := time.Unix(1_700_000_000, 0)
	err = ext4.Change(context.Background(), worker, image, []ext4.Edit{
		ext4.WriteFile{Path: "/etc/motd", Data: []byte("Welcome.\n"), Mode: 0o644, Time: epoch},
		ext4.MakeDir{Path: "/srv", Mode: 0o755, UID: 1000, GID: 1000, Time: epoch},
		ext4.Symlink{Path: "/srv/motd", Target: "../etc/motd", Time: epoch},
		ext4.Remove{Path: "/etc/hosts.bak"},
	})
	if err != nil {
		log.Fatal(err)
	}

	img, err := ext4.Open(image)
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	text, err := img.ReadFile("srv/motd")
	fmt.Printf("%s%v\n", text, err)
	_, err = img.Stat("etc/hosts.bak")
	fmt.Println(err)
	// Output:
	// Welcome.
	// <nil>
	// stat etc/hosts.bak: file does not exist
}

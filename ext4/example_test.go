package ext4_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"

	"github.com/kimg/kimg/ext4"
)

// An Image is a file system of io/fs: what takes one of these takes an Image.
func Example() {
	img, err := ext4.Open("testdata/small.img")
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	err = fs.WalkDir(img, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			fmt.Println(d.Type(), name)
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	hosts, err := img.ReadFile("usr/hosts") // a symbolic link
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", hosts)
	// Output:
	// d--------- .
	// d--------- etc
	// ---------- etc/hosts
	// ---------- etc/hosts.bak
	// d--------- lost+found
	// d--------- usr
	// L--------- usr/hosts
	// d--------- usr/share
	// d--------- usr/share/doc
	// ---------- usr/share/doc/README
	// ---------- usr/sparse
	// 127.0.0.1 localhost
}

// An image may come from anywhere: a section of a disk, a snapshot, memory.
func ExampleNew() {
	b, err := os.ReadFile("testdata/small.img")
	if err != nil {
		log.Fatal(err)
	}
	img, err := ext4.New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		log.Fatal(err)
	}
	sb := img.Superblock()
	fmt.Printf("%q: %d blocks of %d bytes, %d free\n", sb.Label, sb.Blocks, sb.BlockSize, sb.FreeBlocks)
	// Output: "small": 64 blocks of 1024 bytes, 31 free
}

func ExampleImage_ReadLink() {
	img, err := ext4.Open("testdata/small.img")
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	to, err := img.ReadLink("usr/hosts")
	fmt.Println(to, err)
	// Output: ../etc/hosts <nil>
}

func ExampleImage_Xattrs() {
	img, err := ext4.Open("testdata/small.img")
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	attrs, err := img.Xattrs("etc/hosts")
	if err != nil {
		log.Fatal(err)
	}
	for name, value := range attrs {
		fmt.Printf("%s = %q\n", name, value)
	}
	// Output: user.origin = "a test"
}

// Owners, inode numbers and the like are behind Sys.
func ExampleStat() {
	img, err := ext4.Open("testdata/small.img")
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	info, err := img.Stat("etc/hosts")
	if err != nil {
		log.Fatal(err)
	}
	st := info.Sys().(*ext4.Stat)
	fmt.Println(info.Mode(), st.UID, st.GID, st.Links, info.ModTime().UTC())
	// Output: -rw-r--r-- 33 0 2 2023-11-14 22:13:20 +0000 UTC
}

// A Walk goes in the order of the disk, and its nodes know where their blocks are: what no extent covers is a hole.
func ExampleImage_Walk() {
	img, err := ext4.Open("testdata/small.img")
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	block := img.Superblock().BlockSize
	err = img.Walk(context.Background(), func(n ext4.Node) error {
		if n.Path != "usr/sparse" {
			return nil
		}
		extents, err := n.Extents()
		if err != nil {
			return err
		}
		fmt.Println(n.Path, "has", n.Info().Size(), "bytes")
		for _, e := range extents {
			fmt.Printf("%d bytes of data at %d\n", e.Blocks*block, e.Logical*block)
		}
		r, _, err := n.Content()
		if err != nil {
			return err
		}
		middle, err := io.ReadAll(io.NewSectionReader(r, 32767, 5))
		fmt.Printf("%q\n", middle)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// usr/sparse has 65536 bytes
	// 1024 bytes of data at 32768
	// "\x00end\x00"
}

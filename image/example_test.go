package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
)

// The same tree and the same spec give the same bytes, on any machine.
func ExampleMaker_MakeDisk() {
	ctx := context.Background()
	eng, err := container.Connect(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	suite, err := image.ParseSuite("trixie")
	if err != nil {
		log.Fatal(err)
	}
	m := image.Maker{Engine: eng, Imaging: "an image with e2fsprogs", Log: os.Stderr}
	spec := image.DiskSpec{
		Size:     1 << 30,
		UUID:     uuid.MustParse("6b696d67-0000-4000-8000-000000000001"),
		HashSeed: uuid.MustParse("6b696d67-0000-4000-8000-000000000002"),
		Epoch:    time.Unix(1_700_000_000, 0),
		Features: image.Features(suite, image.KernelVersion{Major: 6, Minor: 12}),
	}
	tree := func() (io.ReadCloser, error) { return os.Open("rootfs.tar") }
	if err := m.MakeDisk(ctx, spec, tree, "rootfs.img"); err != nil {
		log.Fatal(err)
	}
}

// What a build host, its clock or chance left in a tree is gone.
func ExampleNormalise() {
	const shadow = "root:*:19999:0:99999:7:::\n"
	late := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var raw, normal bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./var/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./var/log/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./var/log/bootstrap.log", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755, Uname: "ann"},
		{Name: "./etc/shadow", Typeflag: tar.TypeReg, Mode: 0o640, Gid: 42, Size: int64(len(shadow)), ModTime: late},
	} {
		if err := w.WriteHeader(&h); err != nil {
			log.Fatal(err)
		}
	}
	io.WriteString(w, shadow)
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	epoch := time.Date(2025, 8, 9, 0, 0, 0, 0, time.UTC)
	if err := image.Normalise(&raw, &normal, image.Normalisation{Epoch: epoch}); err != nil {
		log.Fatal(err)
	}
	for r := tar.NewReader(&normal); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %q %s\n", h.ModTime.UTC().Format(time.DateOnly), h.Uname, h.Name)
	}
	// Output:
	// 1970-01-01 "" ./
	// 1970-01-01 "" ./etc/
	// 2025-08-09 "" ./etc/shadow
	// 1970-01-01 "" ./var/
	// 1970-01-01 "" ./var/log/
}

func ExampleSize() {
	var s image.Size
	if err := s.UnmarshalText([]byte("512M")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(int64(s), s*4)
	// Output: 536870912 2G
}

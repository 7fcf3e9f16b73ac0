// Package ext_test is another module: what it uses of kimg is what anybody can.
package ext_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/image"
)

func Example() {
	for _, use := range []func() error{useExt4, useContainer, useImage, useBuilder} {
		if err := use(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// 4 files in small
	// true
	// this engine makes no containers
	// trixie true
	// true
	// true
	// bootstrap trixie: unknown variant "huge"
	// true
}

// useExt4 reads the image that the environment names.
func useExt4() error {
	img, err := ext4.Open(os.Getenv("IMAGE"))
	if err != nil {
		return err
	}
	defer img.Close()
	files := 0
	err = fs.WalkDir(img, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files++
		}
		return err
	})
	fmt.Println(files, "files in", img.Superblock().Label)
	return err
}

// engine has the interface that an engine of one's own would need.
type engine struct{ container.Engine }

func (engine) Create(context.Context, *container.Cmd) (container.Container, error) {
	return nil, errors.New("this engine makes no containers")
}

func useContainer() error {
	_, err := container.Connect(context.Background())
	fmt.Println(errors.Is(err, container.ErrNoEngine))
	err = container.Run(context.Background(), engine{}, &container.Cmd{Image: "x", Args: []string{"true"}})
	fmt.Println(err)
	return nil
}

// packages has none.
type packages struct{}

func (packages) Open(d image.Digest) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

func useImage() error {
	suite, err := image.ParseSuite("trixie")
	if err != nil {
		return err
	}
	epoch := time.Unix(1_700_000_000, 0)
	fmt.Println(suite, len(image.Features(suite, image.KernelVersion{Major: 6, Minor: 12})) > 10)

	const shadow = "root:*:19999:0:99999:7:::\n"
	var tree, normal bytes.Buffer
	w := tar.NewWriter(&tree)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: epoch.AddDate(1, 0, 0)},
		{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755, Uname: "ann"},
		{Name: "./etc/shadow", Typeflag: tar.TypeReg, Mode: 0o640, Gid: 42, Size: int64(len(shadow))},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, shadow); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := image.Normalise(&tree, &normal, image.Normalisation{Epoch: epoch}); err != nil {
		return err
	}
	fmt.Println(normal.Len()%512 == 0)

	m := image.Maker{Engine: engine{}, Imaging: "x"}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(normal.Bytes())), nil }
	err = m.MakeDisk(context.Background(), image.DiskSpec{Size: 1 << 20}, open, "none.img")
	var small *image.SizeError
	fmt.Println(errors.As(err, &small))
	rootfs := image.RootfsSpec{Suite: suite, Variant: "huge"}
	fmt.Println(m.Bootstrap(context.Background(), rootfs, packages{}, io.Discard))
	return nil
}

// useBuilder asks what a build would do, silently.
func useBuilder() error {
	dir, err := os.MkdirTemp("", "ext-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sp := spec.Default()
	sp.Kernel, sp.Out = "no such version", dir+"/out"
	_, err = builder.Build(context.Background(), builder.Env{Cache: dir + "/cache"}, sp)
	fmt.Println(err != nil)
	return nil
}

package toolbox

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/reading"
)

// copyIn copies the needed files to a directory in the container. It compresses them: most
// of an image is zeros, and the engine may be far away.
func copyIn(ctx context.Context, sandbox container.Container, to string, m Mounts) error {
	return reading.Pipe(func(w io.Writer) error {
		zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		return errors.Join(writeTar(zw, to, m), zw.Close())
	}, func(r io.Reader) error { return sandbox.CopyIn(ctx, "/", r) })
}

func writeTar(w io.Writer, to string, m Mounts) error {
	tw := tar.NewWriter(w)
	dir := strings.TrimPrefix(to, "/")
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
		return err
	}
	for _, name := range m.Files {
		if err := addFile(tw, filepath.Join(m.Dir, name), dir+"/"+name); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
	}
	return tw.Close()
}

func addFile(tw *tar.Writer, from, name string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return addDir(tw, f, from, name)
	}
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

func addDir(tw *tar.Writer, f *os.File, from, name string) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		if err := addFile(tw, filepath.Join(from, e.Name()), name+"/"+e.Name()); err != nil {
			return err
		}
	}
	return nil
}

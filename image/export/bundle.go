package export

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"

	"github.com/kimg/kimg/internal/sparse"
)

// Bundle is every artifact in one tar, for who gets them without building: it unpacks to a directory of kimg's
// usual name, so that kimg run finds it, and holds a script that boots it with no more than QEMU. Owners and times
// are the same for everybody.
type Bundle struct{}

// bundleDir is the directory in the tar.
const bundleDir = "kimg-out"

// scriptFile is the script's name in a bundle.
const scriptFile = "run-qemu"

// worthHoles is how many bytes of zeros make a file one to be stored with holes:
// every program that reads tars reads the others.
const worthHoles = 16 << 20

// Export implements Format.
func (Bundle) Export(ctx context.Context, b *Build, w io.Writer) error {
	t := newTarStream(w)
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: bundleDir + "/", Mode: 0o755,
		ModTime: b.Epoch}); err != nil {
		return err
	}
	run := File{Path: scriptFile, Mode: 0o755, Data: []byte(scriptText(&b.Guest, scriptHere))}
	for _, f := range append(b.Files[:len(b.Files):len(b.Files)], run) {
		if err := putFile(ctx, b, t, f); err != nil {
			return fmt.Errorf("put %s into the bundle: %w", f.Path, err)
		}
	}
	return t.Close()
}

func putFile(ctx context.Context, b *Build, t *tarStream, f File) error {
	h := tar.Header{Typeflag: tar.TypeReg, Name: path.Join(bundleDir, f.Path), Mode: int64(f.Mode.Perm()),
		ModTime: b.Epoch}
	if f.Data != nil {
		h.Size = int64(len(f.Data))
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		_, err := t.Write(f.Data)
		return err
	}
	src, err := b.open(ctx, f.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	sum := sha256.New()
	extents, size, err := sparse.Map(io.TeeReader(src, sum))
	if err != nil {
		return err
	}
	if f.SHA256 != "" && f.SHA256 != hex.EncodeToString(sum.Sum(nil)) {
		b.warn(f.Path + " is not as the build made it: the manifest in the bundle describes the original")
	}
	h.Size = size
	data := int64(0)
	for _, e := range extents {
		data += e.Length
	}
	if size-data < worthHoles {
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		_, err := io.Copy(t, io.NewSectionReader(src.At, 0, size))
		return err
	}
	return t.writeSparse(h, extents, src.At)
}

package export

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	oci "github.com/opencontainers/image-spec/specs-go/v1"
)

// OCI is the root filesystem as a container image: an OCI image layout in a tar, with docker save's manifest.json
// beside its index. Every docker load reads the one, and everything newer the other. The layer is not compressed
// inside; a file's name may have the whole compressed.
//
// The device nodes in /dev are left out: a container gets its own, and an engine without root could not make them.
type OCI struct{}

// dockerArchive is an element of docker save's manifest.json.
type dockerArchive struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Export implements Format. The tree is read twice: its digest and size come
// before it in the tar, and keeping it meanwhile would take a disk's room.
func (OCI) Export(ctx context.Context, b *Build, w io.Writer) error {
	layer := func(w io.Writer) error {
		return exportTree(ctx, b, w, func(name string, st fs.FileInfo) bool {
			return !strings.HasPrefix(name, "dev/") || st.Mode()&fs.ModeDevice == 0
		})
	}
	sum := &summer{Digester: digest.SHA256.Digester()}
	if err := layer(sum); err != nil {
		return err
	}
	quiet := *b
	quiet.Warn = func(string) {} // it has been said
	b = &quiet

	created, ref := b.Epoch.UTC(), "kimg-rootfs:"+b.Suite
	platform := oci.Platform{Architecture: b.arch().OCI, OS: "linux"}
	diff := oci.Descriptor{MediaType: oci.MediaTypeImageLayer, Digest: sum.Digest(), Size: sum.n}
	config, configAt, err := blob(oci.MediaTypeImageConfig, oci.Image{
		Created:  &created,
		Platform: platform,
		Config: oci.ImageConfig{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"bash"}, WorkingDir: "/",
		},
		RootFS:  oci.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff.Digest}},
		History: []oci.History{{Created: &created, CreatedBy: "kimg export --to oci"}},
	})
	if err != nil {
		return err
	}
	manifest, manifestAt, err := blob(oci.MediaTypeImageManifest, oci.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageManifest, Config: configAt,
		Layers: []oci.Descriptor{diff},
	})
	if err != nil {
		return err
	}
	manifestAt.Platform = &platform
	manifestAt.Annotations = map[string]string{oci.AnnotationRefName: "docker.io/library/" + ref,
		"io.containerd.image.name": "docker.io/library/" + ref}
	_, index, err := document(oci.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageIndex,
		Manifests: []oci.Descriptor{manifestAt},
	})
	if err != nil {
		return err
	}
	_, docker, err := document([]dockerArchive{{Config: blobPath(configAt), RepoTags: []string{ref},
		Layers: []string{blobPath(diff)}}})
	if err != nil {
		return err
	}
	_, layout, err := document(oci.ImageLayout{Version: oci.ImageLayoutVersion})
	if err != nil {
		return err
	}

	tw := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		data []byte // nil: the layer
	}{
		{oci.ImageLayoutFile, layout}, {oci.ImageIndexFile, index}, {"manifest.json", docker},
		{blobPath(configAt), config}, {blobPath(manifestAt), manifest}, {blobPath(diff), nil},
	} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, ModTime: created, Size: int64(len(f.data))}
		if f.data == nil {
			h.Size = diff.Size
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		if f.data == nil {
			again := &summer{Digester: digest.SHA256.Digester()}
			if err = layer(io.MultiWriter(tw, again)); err == nil && again.Digest() != diff.Digest {
				err = errors.New("the disk image was written to meanwhile")
			}
		} else {
			_, err = tw.Write(f.data)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return tw.Close()
}

// blobPath is where a layout keeps a blob.
func blobPath(d oci.Descriptor) string {
	return "blobs/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}

func document(v any) (digest.Digest, []byte, error) {
	b, err := json.Marshal(v)
	return digest.FromBytes(b), b, err
}

func blob(mediaType string, v any) ([]byte, oci.Descriptor, error) {
	d, b, err := document(v)
	return b, oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, err
}

// summer digests and counts what is written to it.
type summer struct {
	digest.Digester
	n int64
}

func (s *summer) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.Hash().Write(p)
}

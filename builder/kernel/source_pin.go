package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/builder/kernel/tree"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// Tree is a kernel's source, pinned.
type Tree struct {
	Kind    Kind
	Path    string              // of the directory, the tarball, or the downloaded package
	Version units.KernelVersion // as its Makefile says; of a package, as its own version says
	SHA256  units.Digest        // of the tarball or package; of the names and contents of a directory

	name  string     // of a tarball: its ending says the compression
	strip int        // leading directories in a tarball
	files tree.Files // of a directory
}

// Pin reads a directory or a tarball and pins it. cacheDir keeps what was learned, so
// that the next call reads only what changed.
func Pin(ctx context.Context, src Source, cacheDir string) (*Tree, error) {
	switch src.Kind {
	case Directory:
		return pinDirectory(ctx, src.Path, cacheDir)
	case Tarball:
		return pinTarball(ctx, Tarball, src.Path, src.Path, cacheDir)
	}
	return nil, fmt.Errorf("pin kernel source %s: it is not on this machine", src)
}

// PinDownload pins a tarball that was downloaded from a URL and verified, and is in path.
func PinDownload(ctx context.Context, kind Kind, from, path, cacheDir string) (*Tree, error) {
	u, err := url.Parse(from)
	if err != nil {
		return nil, fmt.Errorf("read kernel source: %w", err)
	}
	// The compression is that of the name: what follows the path in a URL is no part of it.
	return pinTarball(ctx, kind, u.Path, path, cacheDir)
}

// Packages is the part of a package list that finding a source package takes.
type Packages interface {
	Lookup(name string) (archive.Package, bool)
}

// FindPackage finds the source package of a suite: the one asked for, or the
// newest, which is the one that "linux-source" depends on.
func FindPackage(list Packages, src Source) (archive.Package, error) {
	name := src.Package
	if name == "" {
		meta, ok := list.Lookup("linux-source")
		if !ok {
			return archive.Package{}, errors.New("find the suite's kernel: its archive has no package linux-source")
		}
		for dep := range strings.SplitSeq(meta.Depends, ",") {
			if first, _, _ := strings.Cut(strings.TrimSpace(dep), " "); packageRE.MatchString(first) {
				name = first
			}
		}
	}
	p, ok := list.Lookup(name)
	if !ok {
		return archive.Package{}, fmt.Errorf("find the suite's kernel: its archive has no package %s", name)
	}
	return p, nil
}

// PackageVersion is the kernel version that a source package holds, by its own version: 6.12.107-1 is 6.12.107.
// Ubuntu does not count the last number; the tree's Makefile does.
func PackageVersion(p archive.Locked) (units.KernelVersion, error) {
	version := p.Version
	if _, v, ok := strings.Cut(version, ":"); ok {
		version = v
	}
	version, _, _ = strings.Cut(version, "-")
	version, rc, _ := strings.Cut(version, "~")
	if strings.HasPrefix(rc, "rc") {
		version += "-" + rc
	}
	v, err := units.ParseKernelVersion(version)
	if err != nil {
		return v, fmt.Errorf("read the version of package %s %s: %w", p.Name, p.Version, err)
	}
	return v, nil
}

// PinPackage pins a source package whose verified file is at path.
func PinPackage(p archive.Locked, path string) (*Tree, error) {
	version, err := PackageVersion(p)
	if err != nil {
		return nil, err
	}
	return &Tree{Kind: Suite, Path: path, Version: version, SHA256: p.SHA256, strip: 1}, nil
}

func pinDirectory(ctx context.Context, dir, cacheDir string) (*Tree, error) {
	makefile, err := reading.Small(filepath.Join(dir, "Makefile"), maxMakefile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sourceError("read kernel source", dir, errNoTree)
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel source: %w", err)
	}
	version, err := ParseMakefile(bytes.NewReader(makefile))
	if err != nil {
		return nil, sourceError("read kernel source", dir, err)
	}
	cache, err := cacheFile(cacheDir, "tree", dir)
	if err != nil {
		return nil, err
	}
	known := tree.Load(cache)
	files, err := tree.Scan(ctx, dir, known)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(known, files) {
		if err := files.Store(cache); err != nil {
			return nil, err
		}
	}
	return &Tree{Kind: Directory, Path: dir, Version: version, SHA256: files.Digest(), files: files}, nil
}

// cacheFile is where what was learned of a path is kept. Its directory is made.
func cacheFile(cacheDir, kind, path string) (string, error) {
	dir := filepath.Join(cacheDir, "kernel")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	return filepath.Join(dir, kind+"-"+string(units.DigestOf([]byte(path)))), nil
}

type learned struct {
	tree.Stat
	SHA256  units.Digest
	Version units.KernelVersion
	Strip   int
}

func pinTarball(ctx context.Context, kind Kind, name, path, cacheDir string) (*Tree, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read kernel source: %w", err)
	}
	stat := tree.StatOf(fi)
	cache, err := cacheFile(cacheDir, "tarball", path)
	if err != nil {
		return nil, err
	}
	var l learned
	text, err := os.ReadFile(cache)
	if err == nil && json.Unmarshal(text, &l) == nil && l.Stat == stat {
		return l.tree(kind, name, path), nil
	}
	in, sum, err := lookInto(ctx, name, path)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, sourceError("read kernel source", name, err)
	}
	l = learned{stat, sum, in.version, in.strip}
	if text, err = json.Marshal(l); err == nil {
		err = renameio.WriteFile(cache, text, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("remember the digest of %s: %w", path, err)
	}
	return l.tree(kind, name, path), nil
}

func (l learned) tree(kind Kind, name, path string) *Tree {
	return &Tree{Kind: kind, Path: path, name: name, Version: l.Version, SHA256: l.SHA256, strip: l.Strip}
}

func lookInto(ctx context.Context, name, path string) (treeInTar, units.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return treeInTar{}, "", err
	}
	defer f.Close()
	h, r := sha256.New(), reading.Until(ctx, f)
	in, err := findIn(name, io.TeeReader(r, h))
	if err != nil {
		return treeInTar{}, "", err
	}
	if _, err := io.Copy(h, r); err != nil {
		return treeInTar{}, "", err
	}
	return in, units.DigestSum(h), nil
}

// findIn decompresses by the file's name, which may be wrong: that is noticed here.
func findIn(name string, r io.Reader) (treeInTar, error) {
	suffix, _, ok := compression(name)
	if !ok {
		return treeInTar{}, fmt.Errorf("%s: not the name of a tarball", name)
	}
	plain, err := decompress.NewReader(r, suffix)
	if err != nil {
		return treeInTar{}, truncated(err)
	}
	defer plain.Close()
	return findTree(reading.Bounded(plain, maxTree, fmt.Errorf("it unpacks to more than %s", units.Size(maxTree))))
}

package image

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// treeSize is what a tree takes in an ext4 file system.
type treeSize struct {
	inodes int64
	blocks int64 // of files, directories, long links and attributes
}

// survey is what one reading of a normalised tar yields: what the tree takes, and
// which names are in it. It serves as the tree that edits are planned against.
type survey struct {
	size  treeSize
	names map[string]*tar.Header
}

var _ fs.ReadLinkFS = (*survey)(nil)

// surveyTar reads a tar and adds up what its tree takes. Where ext4 may need a block more (a fragmented file's
// extents, attributes beside the inode) it counts one: the sum is a little too large, and never too small.
func surveyTar(r io.Reader) (*survey, error) {
	s := &survey{size: treeSize{inodes: reservedInodes, blocks: lostAndFound}, names: map[string]*tar.Header{}}
	dirs := map[string]int64{".": 0} // bytes of a directory's entries
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the root filesystem's tar: %w", err)
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return nil, fmt.Errorf("read the root filesystem's tar: %w", err)
		}
		s.names[name] = h
		dirs[path.Dir(name)] += int64(8 + len(path.Base(name)) + 3)
		if h.Typeflag == tar.TypeDir {
			dirs[name] += 24 // . and ..
		}
		s.size.add(h)
	}
	for _, n := range dirs {
		// The last entry of a block wastes up to a longest name, and a checksum takes 12 bytes.
		const usable = blockSize - 300
		s.size.blocks += max(1, (n+usable-1)/usable)
	}
	return s, nil
}

// lostAndFound is mke2fs's lost+found, in blocks.
const lostAndFound = 4

func (s *treeSize) add(h *tar.Header) {
	if h.Typeflag == tar.TypeLink {
		return
	}
	s.inodes++
	if len(h.PAXRecords) > 0 {
		s.blocks++
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		if len(h.Linkname) >= 60 { // shorter ones are in the inode
			s.blocks++
		}
	case tar.TypeReg:
		n := (h.Size + blockSize - 1) / blockSize
		s.blocks += n
		if n > 4 { // four extents fit the inode, a block holds 340 more
			s.blocks += 1 + n/340
		}
	}
}

// Lstat is fs.ReadLinkFS's. Names in it are the tar's own, without links followed.
func (s *survey) Lstat(name string) (fs.FileInfo, error) {
	h := s.names[name]
	if h == nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return h.FileInfo(), nil
}

// ReadLink is fs.ReadLinkFS's.
func (s *survey) ReadLink(name string) (string, error) {
	h := s.names[name]
	if h == nil || h.Typeflag != tar.TypeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return h.Linkname, nil
}

// Open is fs.FS's. A survey has no contents.
func (s *survey) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
}

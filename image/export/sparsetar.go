package export

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/kimg/kimg/internal/sparse"
)

// Sizes of the tar format (POSIX pax, "ustar Interchange Format").
const (
	tarBlock     = 512
	ustarMaxSize = 1<<33 - 1 // bytes, eleven octal digits
)

// tarStream is a tar that may hold sparse files. archive/tar reads these, and does not write them.
type tarStream struct {
	*tar.Writer
	w io.Writer
}

func newTarStream(w io.Writer) *tarStream { return &tarStream{tar.NewWriter(w), w} }

// writeSparse writes a file of h.Size bytes, of which only the extents are in the tar: GNU tar's PAX format for
// sparse files, version 1.0 (GNU tar manual, "Storing Sparse Files"). GNU tar, libarchive, Python and Go read it,
// and make the holes again. A file with more data than a ustar header can count is written whole.
func (t *tarStream) writeSparse(h tar.Header, extents []sparse.Extent, r io.ReaderAt) error {
	var table bytes.Buffer
	data := int64(0)
	list := extents
	if k := len(list); k == 0 || list[k-1].Offset+list[k-1].Length < h.Size {
		list = append(list[:k:k], sparse.Extent{Offset: h.Size}) // an empty last piece tells the end
	}
	fmt.Fprintf(&table, "%d\n", len(list))
	for _, e := range list {
		fmt.Fprintf(&table, "%d\n%d\n", e.Offset, e.Length)
		data += e.Length
	}
	pad(&table)
	if int64(table.Len())+data > ustarMaxSize {
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		_, err := io.Copy(t, io.NewSectionReader(r, 0, h.Size))
		return err
	}
	if err := t.Flush(); err != nil {
		return err
	}
	ext, err := paxHeader([][2]string{
		{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"},
		{"GNU.sparse.name", h.Name}, {"GNU.sparse.realsize", strconv.FormatInt(h.Size, 10)},
	})
	if err != nil {
		return err
	}
	if _, err := t.w.Write(ext); err != nil {
		return err
	}
	// Who does not know the format sees a file of this name, and not a broken one of the true name.
	h.Name, h.Size, h.Format = "GNUSparseFile.0/"+h.Name, int64(table.Len())+data, tar.FormatUSTAR
	if err := t.WriteHeader(&h); err != nil {
		return err
	}
	if _, err := t.Write(table.Bytes()); err != nil {
		return err
	}
	for _, e := range extents {
		if n, err := io.Copy(t, io.NewSectionReader(r, e.Offset, e.Length)); err != nil {
			return err
		} else if n != e.Length {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// paxHeader is an extended header for the entry that follows it. archive/tar
// refuses to write one by hand, so a file's header is taken and its type changed.
func paxHeader(records [][2]string) ([]byte, error) {
	var body bytes.Buffer
	for _, r := range records {
		body.WriteString(paxRecord(r[0], r[1]))
	}
	var out bytes.Buffer
	err := tar.NewWriter(&out).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: "PaxHeaders.0/kimg", Mode: 0o644, Size: int64(body.Len()), Format: tar.FormatUSTAR,
	})
	if err != nil {
		return nil, err
	}
	const typeflag, checksum, checksumLen = 156, 148, 8 // places in the header
	b := out.Bytes()[:tarBlock]
	b[typeflag] = tar.TypeXHeader
	copy(b[checksum:], bytes.Repeat([]byte(" "), checksumLen))
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[checksum:], fmt.Sprintf("%06o\x00 ", sum))
	out.Truncate(tarBlock)
	out.Write(body.Bytes())
	pad(&out)
	return out.Bytes(), nil
}

// paxRecord is "length key=value\n", where the length counts itself.
func paxRecord(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest) + 1
	for len(strconv.Itoa(n))+len(rest) != n {
		n = len(strconv.Itoa(n)) + len(rest)
	}
	return strconv.Itoa(n) + rest
}

// pad fills the last block with zeros.
func pad(b *bytes.Buffer) {
	if n := b.Len() % tarBlock; n > 0 {
		b.Write(make([]byte, tarBlock-n))
	}
}

package stamp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"
)

// memory is an image.
type memory []byte

func (m memory) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, errors.New("read behind the end")
	}
	return copy(p, m[at:]), nil
}

func (m memory) WriteAt(p []byte, at int64) (int, error) { return copy(m[at:], p), nil }

var when = time.Unix(1_600_000_000, 0)

// a directory, and a device or a link in it
var two = []Inode{{Mode: dir | 0o1777, UID: 1, GID: 100_000, Time: when},
	{Mode: char | 0o600, UID: 2, GID: 3, Major: 1, Minor: 300, Time: when}}

const nodeSize = 4096

type leafItem struct {
	object uint64
	typ    byte
	offset uint64
	data   []byte
}

// leaf is a leaf of btrfs at an address, which is where it is, too.
func leaf(address uint64, list ...leafItem) []byte {
	le := binary.LittleEndian
	b := make([]byte, nodeSize)
	le.PutUint64(b[48:], address)
	le.PutUint32(b[96:], uint32(len(list)))
	end := nodeSize - headerSize
	for i, item := range list {
		end -= len(item.data)
		at := b[headerSize+i*itemSize:]
		le.PutUint64(at, item.object)
		at[8] = item.typ
		le.PutUint64(at[9:], item.offset)
		le.PutUint32(at[17:], uint32(end))
		le.PutUint32(at[21:], uint32(len(item.data)))
		copy(b[headerSize+end:], item.data)
	}
	le.PutUint32(b, crc32.Checksum(b[32:], castagnoli))
	return b
}

const rootAt, chunksAt, filesAt, copyAt = 128 << 10, 132 << 10, 136 << 10, 512 << 10

// tinyBtrfs has a directory with one file, and two copies of all that is in its trees.
func tinyBtrfs() memory {
	le := binary.LittleEndian
	m := make(memory, 1<<20)
	super := m[superAt:]
	copy(super[64:], "_BHRfS_M")
	le.PutUint64(super[80:], rootAt)
	le.PutUint64(super[88:], chunksAt)
	le.PutUint32(super[148:], nodeSize)
	chunk := make([]byte, 48+2*32)
	le.PutUint64(chunk, 256<<10) // long
	le.PutUint16(chunk[44:], 2)
	le.PutUint64(chunk[48+32+8:], copyAt)
	le.PutUint32(super[160:], uint32(17+len(chunk)))
	copy(super[811+17:], chunk)
	root := make([]byte, 439)
	le.PutUint64(root[176:], filesAt)
	inode := func(mark uint64) []byte {
		b := make([]byte, 160)
		le.PutUint64(b[136:], mark)
		return b
	}
	entry := make([]byte, 30+1)
	le.PutUint64(entry, 257)
	entry[8], entry[27], entry[29], entry[30] = inodeItem, 1, 1, 'x'
	xattr := append(bytes.Repeat([]byte{7}, 25), 1, 0, 1, 0, 8, 'n', 'v')
	for at, b := range map[int][]byte{
		rootAt:   leaf(rootAt, leafItem{filesTree, rootItem, 0, root}),
		chunksAt: leaf(chunksAt),
		filesAt: leaf(filesAt, leafItem{256, inodeItem, 0, inode(1)}, leafItem{256, dirItem, 9, entry},
			leafItem{256, dirIndex, 2, entry}, leafItem{257, inodeItem, 0, inode(2)},
			leafItem{257, xattrItem, 5, xattr}),
	} {
		copy(m[at:], b)
		copy(m[copyAt+at:], b)
	}
	return m
}

func TestBtrfs(t *testing.T) {
	m := tinyBtrfs()
	if err := Btrfs(m, two); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	files := m[filesAt:][:nodeSize]
	if !bytes.Equal(files, m[copyAt+filesAt:][:nodeSize]) {
		t.Error("the copies of a leaf differ")
	}
	if le.Uint32(files) != crc32.Checksum(files[32:], castagnoli) {
		t.Error("a leaf has another checksum")
	}
	item := func(i int) []byte { return files[headerSize+le.Uint32(files[headerSize+i*itemSize+17:]):] }
	for i, want := range map[int]string{0: "1 100000 41777 0", 3: fmt.Sprintf("2 3 20600 %d", 1<<20+300)} {
		b := item(i)
		got := fmt.Sprintf("%d %d %o %d", le.Uint32(b[44:]), le.Uint32(b[48:]), le.Uint32(b[52:]), le.Uint64(b[56:]))
		if got != want || le.Uint64(b[112:]) != uint64(when.Unix()) || le.Uint64(b[148:]) != uint64(when.Unix()) {
			t.Errorf("inode %d is %s, want %s", i, got, want)
		}
	}
	if item(1)[29] != 3 || item(2)[29] != 3 {
		t.Error("the directory does not say that its file is a device")
	}
	if x := item(4); x[17] != 0 || x[24] != 0 || x[25] != 1 || x[31] != 'v' {
		t.Errorf("an attribute is %v", x[:32])
	}
}

// tinyXFS has one group with a chunk of inodes: the two of its own, two files, and free ones.
func tinyXFS(mode uint16) memory {
	be := binary.BigEndian
	m := make(memory, 64<<10)
	copy(m, "XFSB")
	be.PutUint32(m[4:], 4096)
	be.PutUint64(m[64:], 64+2)
	be.PutUint64(m[72:], 64+3)
	be.PutUint32(m[84:], 16)
	be.PutUint32(m[88:], 1)
	be.PutUint16(m[100:], 5)
	be.PutUint16(m[102:], 512)
	be.PutUint16(m[104:], 512)
	m[123], m[124] = 3, 4
	copy(m[1024:], "XAGI")
	be.PutUint32(m[1024+20:], 1)
	tree := m[4096:]
	copy(tree, "IAB3")
	be.PutUint16(tree[6:], 1)
	be.PutUint32(tree[12:], ^uint32(0))
	be.PutUint32(tree[56:], 64)
	be.PutUint16(tree[60:], 0xfffe) // four are there
	be.PutUint64(tree[64:], ^uint64(0xf))
	for i := range 4 {
		b := m[(64+i)*512:][:512]
		copy(b, "IN")
		be.PutUint16(b[xfsMode:], dir|0o755)
		if i == 1 {
			be.PutUint16(b[xfsMode:], mode)
			b[xfsFormat] = xfsLocal
			be.PutUint64(b[xfsSize:], 3)
			copy(b[xfsFork:], "xxx")
		}
		if i < 2 {
			be.PutUint32(b[xfsUID:], uint32(i+1))
		}
		be.PutUint32(b[xfsGeneration:], 77)
		be.PutUint64(b[xfsFlags2:], xfsBigTime)
		binary.LittleEndian.PutUint32(b[xfsSum:], xfsChecksum(b))
	}
	return m
}

func TestXFS(t *testing.T) {
	m := tinyXFS(symlink | 0o777)
	link := []Inode{two[0], {Mode: symlink | 0o777, UID: 2, GID: 3, Time: when, Link: "a b"}}
	if err := XFS(m, link); err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	for i, want := range []string{"1 100000 41777", "2 3 120777", "0 0 40755", "0 0 40755"} {
		b := m[(64+i)*512:][:512]
		got := fmt.Sprintf("%d %d %o", be.Uint32(b[xfsUID:]), be.Uint32(b[xfsGID:]), be.Uint16(b[xfsMode:]))
		if got != want || be.Uint32(b[xfsGeneration:]) != 0 || be.Uint64(b[40:]) != uint64(when.Unix()+1<<31)*1e9 {
			t.Errorf("inode %d is %s, want %s, at %d", i, got, want, be.Uint64(b[40:]))
		}
		if binary.LittleEndian.Uint32(b[xfsSum:]) != xfsChecksum(b) {
			t.Errorf("inode %d has another checksum", i)
		}
	}
	if got := string(m[65*512+xfsFork:][:3]); got != "a b" {
		t.Errorf("the link leads to %q", got)
	}
	if err := XFS(tinyXFS(regular|0o644), link); !errors.Is(err, ErrDamaged) {
		t.Errorf("a file is made a link: %v", err)
	}
}

func TestF2FS(t *testing.T) {
	m := make(memory, 8192)
	for _, at := range []int{1024, 4096 + 1024} {
		binary.LittleEndian.PutUint32(m[at:], 0xf2f52010)
		copy(m[at+f2fsVersions:], "Linux version 6.12")
		copy(m[at+f2fsVersions+f2fsVersion:], "Linux version 6.12")
	}
	if err := F2FS(m); err != nil || bytes.Contains(m, []byte("Linux")) {
		t.Errorf("the kernel's version is in it: %v", err)
	}
	m[1024+f2fsFeatures+1] = f2fsChecksummed >> 8
	if err := F2FS(m); !errors.Is(err, ErrDamaged) {
		t.Errorf("a superblock with a checksum: %v", err)
	}
}

// A file that is not there, one too many and one that comes twice are found, and none of what an image may say leads
// out of it, or around in it.
func TestDamaged(t *testing.T) {
	for name, err := range map[string]error{
		"one file too few":  Btrfs(tinyBtrfs(), append(two, two[1])),
		"one file too many": Btrfs(tinyBtrfs(), two[:1]),
		"no btrfs":          Btrfs(make(memory, 1<<20), two),
		"no XFS":            XFS(make(memory, 1<<16), two),
		"XFS: too few":      XFS(tinyXFS(char), append(two, two[1])),
		"XFS: too many":     XFS(tinyXFS(dir), two[:1]),
	} {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newMarks(two).take(3); err == nil || !strings.Contains(err.Error(), "mark 3") {
		t.Errorf("a mark of nobody: %v", err)
	}
	for at := range 4096 { // any byte of what leads to the files
		m := tinyBtrfs()
		m[superAt+at] ^= 0xff
		_ = Btrfs(m, two) // an error, or none: it ends
		m = tinyBtrfs()
		m[filesAt+at] ^= 0xff
		if err := Btrfs(m, two); err == nil && (at < 4 || at >= 32) { // a checksum has the place of a longer one
			t.Fatalf("a leaf with another byte %d is taken", at)
		}
		x := tinyXFS(char)
		x[at] ^= 0xff
		_ = XFS(x, two)
		x = tinyXFS(char)
		x[4096+at] ^= 0xff
		_ = XFS(x, two)
	}
}

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// entries are what is in a tar: its headers and contents, by name.
func entries(t *testing.T, b []byte) (map[string]*tar.Header, map[string]string) {
	t.Helper()
	heads, data := map[string]*tar.Header{}, map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return heads, data
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		heads[h.Name], data[h.Name] = h, string(content)
	}
}

func readTree(t *testing.T, more ...item) *tree {
	t.Helper()
	list := append(base(), dir("./a"), dir("./a/in"), reg("./a/in/x", "x"), reg("./a-b", "y"), hardlink("./z", "./a-b"),
		symlink("./to", "one: two"), change(item{entry("./null", tar.TypeChar, ""), ""}, func(h *tar.Header) {
			h.Devmajor, h.Devminor, h.Mode = 1, 3, 0o666
		}), change(reg("./cap", "elf"), func(h *tar.Header) {
			h.Uid, h.Mode = 7, 0o4755
			h.PAXRecords = map[string]string{xattrPrefix + "security.capability": "c"}
		}))
	tree, err := readTar(bytes.NewReader(makeTar(t, append(list, more...)...)), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.close() })
	return tree
}

// What an ordinary user unpacks is root's, plain, and marked; what is stamped on the marks is the tree's.
func TestStandIns(t *testing.T) {
	tree := readTree(t)
	var b bytes.Buffer
	if err := standIns(tree, &b); err != nil {
		t.Fatal(err)
	}
	heads, data := entries(t, b.Bytes())
	m := tree.marked()
	inodes := m.inodes()
	for name, n := range tree.nodes {
		h := heads["./"+strings.TrimPrefix(name, ".")]
		if h == nil {
			t.Fatalf("%s is not there", name)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o7022 != 0 {
			t.Errorf("%s has owner %d:%d, mode %o", name, h.Uid, h.Gid, h.Mode)
		}
		mark := h.ModTime.Unix()
		of := n
		if n.typ == tar.TypeLink {
			of = tree.nodes[n.link]
		}
		if in := inodes[mark-1]; m.files[mark-1] != of || in.UID != uint32(of.uid) || int64(in.Mode&0o7777) != of.mode {
			t.Errorf("%s has the mark %d of %s: %+v", name, mark, m.files[mark-1].name, in)
		}
	}
	if null := heads["./null"]; null.Typeflag != tar.TypeReg || data["./null"] != "" {
		t.Errorf("a device is %+v", null)
	}
	if heads["./cap"].PAXRecords[xattrPrefix+"security.capability"] != "c" || data["./a/in/x"] != "x" {
		t.Error("a capability or a content is lost")
	}
	if in := inodes[m.marks["null"]-1]; in.Mode != 0o020666 || in.Major != 1 || in.Minor != 3 {
		t.Errorf("a device becomes %+v", in)
	}
}

func TestPrototype(t *testing.T) {
	tree := readTree(t, reg("./name with blank", "b"), reg("./a/:etc:x", "c"), reg("./a/kimg", "k"),
		reg("./$", "d"), hardlink("./$2", "./$"))
	var b bytes.Buffer
	if err := prototype(tree, &b); err != nil {
		t.Fatal(err)
	}
	_, data := entries(t, b.Bytes())
	marks := tree.marked().marks
	lines := strings.Split(data["proto"], "\n")
	at := func(beginning string) int {
		return slices.IndexFunc(lines, func(l string) bool {
			return l == beginning || strings.HasPrefix(l, beginning+" ")
		})
	}
	// A directory's own come next to it, and not where their names sort: a-b is before a/in.
	for _, pair := range [][2]string{{"a d--755", "in d--755"}, {"in d--755", "x ---644"}, {"x ---644", "$"},
		{"$", "a-b ---644"}} {
		if i, j := at(pair[0]), at(pair[1]); i < 0 || j < i {
			t.Errorf("%q comes in line %d, %q in %d of\n%s", pair[0], i, pair[1], j, data["proto"])
		}
	}
	if n := strings.Count(data["proto"], "\n$"); n != 1+strings.Count(data["proto"], " d--755 ") {
		t.Errorf("%d directories are ended of\n%s", n, data["proto"])
	}
	for _, want := range []string{"name/with/blank ---644 ", "to l--777 ", " xxxxxxxx\n", "null c--644 ", " 0 1 3\n"} {
		if !strings.Contains(data["proto"], want) {
			t.Errorf("it lacks %q:\n%s", want, data["proto"])
		}
	}
	if data["links"] != "path /\nlink -p /kimg -- $\nunlink -- kimg\n"+
		"path /a\nlink -p /a/kimg- -- :etc:x\nunlink -- kimg-\n"+
		"path /\nlink -p /$ -- $2\npath /\nlink -p /a-b -- z\n" {
		t.Errorf("links are made by %q", data["links"])
	}
	for name, mark := range marks {
		if n := tree.nodes[name]; n.typ == tar.TypeReg && data["f/"+strconv.Itoa(mark)] == "" && n.size > 0 {
			t.Errorf("the content of %s is not there", name)
		}
	}
	for _, bad := range []item{reg("./a/new\nline", ""), reg("./tab\t", ""), dir("./$"), dir("./:x"), reg("./: x", ""),
		hardlink("./a b", "./a-b"), symlink("./far", strings.Repeat("long/", 80)+" x")} {
		var name *NameError
		if err := prototype(readTree(t, bad), io.Discard); !errors.As(err, &name) || name.Hint() == "" {
			t.Errorf("%q: %v", bad.Name, err)
		}
	}
}

func TestShortOwners(t *testing.T) {
	for gid, refused := range map[int]bool{65535: false, 65536: true} {
		tree := readTree(t, change(reg("./of-a-group", ""), func(h *tar.Header) { h.Gid = gid }))
		var owner *OwnerError
		if err := tree.shortOwners(); errors.As(err, &owner) != refused || refused && owner.GID != gid {
			t.Errorf("group %d: %v", gid, err)
		}
	}
}

// What a tool leaves out is taken out before, and said.
func TestLeaveOut(t *testing.T) {
	var said []string
	m := Maker{Warn: func(s string) { said = append(said, s) }}
	tree := readTree(t)
	m.leaveOut("f2fs", tree)
	if len(said) != 2 || !strings.Contains(said[0], "/null") || !strings.Contains(said[1], "/cap") {
		t.Errorf("it says %q", said)
	}
	for n := range maps.Values(tree.nodes) {
		if len(n.xattr) > 0 || n.typ == tar.TypeChar {
			t.Errorf("%s is left", n.name)
		}
	}
	said = nil
	if m.leaveOut("f2fs", tree); len(said) > 0 {
		t.Errorf("of nothing it says %q", said)
	}
}

package compare

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// cSource is a small C program with what a kernel leaks.
const cSource = `
#ifndef WHO
#define WHO "ann@here"
#endif
#ifndef KEY
#define KEY 1
#endif
const char banner[] = "Linux version 6.12.0 (" WHO ") #1 " __DATE__ " " __TIME__;
const char *file = __FILE__;
int table[64] = { 7, KEY };
int add(int a) { return a + table[1]; }
int use(int a) { return add(a)
#ifdef MORE
	* 3 + banner[a]
#endif
	; }
int main(void) { return use(banner[0] + file[0]); }
`

// cc compiles and links sources, by their names, in a directory of their own, and
// returns the program. gcc that is missing is a skip on a laptop and a failure in
// CI.
func cc(t testing.TB, dir string, sources map[string]string, args ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("gcc is missing")
		}
		t.Skip("gcc is missing: install it to run this test")
	}
	for name, text := range sources {
		put(t, dir, name, text)
	}
	cmd := exec.Command(gcc, append([]string{"-g", "-O1", "-o", "vmlinux"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	if !strings.Contains(strings.Join(args, " "), "EPOCH=") {
		cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH=1700000000")
	} else {
		cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH=1800000000")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return filepath.Join(dir, "vmlinux")
}

// TestELFLeaks plants a leak of each kind in a program; each must be found in its
// section or symbol, and named.
func TestELFLeaks(t *testing.T) {
	dir := t.TempDir()
	one := map[string]string{"main.c": cSource}
	build := func(t *testing.T, dir string, args ...string) string {
		return cc(t, dir, one, append(args, "main.c")...)
	}
	keep := func(t *testing.T, file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "vmlinux")
		if err := os.WriteFile(name, b, 0o755); err != nil {
			t.Fatal(err)
		}
		return name
	}
	clean := keep(t, build(t, dir))
	run := func(t *testing.T, a, b string) *Report {
		r, err := Files(context.Background(), "vmlinux", a, b)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := run(t, clean, build(t, dir)); !r.Same() {
		t.Fatalf("the same program: %+v", r.Differences)
	}
	for _, tt := range []struct {
		kind, where, b string
		want           Cause
		make           func(t *testing.T) string
	}{
		{"time", ".rodata: banner", "Jan 15 2027", Time,
			func(t *testing.T) string { return build(t, dir, "-DEPOCH=1") }},
		{"user", ".rodata: banner", "bob@here", User,
			func(t *testing.T) string { return build(t, dir, `-DWHO="bob@here"`) }},
		{"host", ".rodata: banner", "ann@away", Host,
			func(t *testing.T) string { return build(t, dir, `-DWHO="ann@away"`) }},
		{"another length", ".rodata: string", "barbara@here", User,
			func(t *testing.T) string { return build(t, dir, `-DWHO="barbara@here"`) }},
		{"build path", ".debug_line_str: string", "/", Path, func(t *testing.T) string {
			d := filepath.Join(t.TempDir(), "elsewhere")
			return build(t, d)
		}},
		{"random build ID", ".note.gnu.build-id: build ID", "", Random, func(t *testing.T) string {
			return build(t, dir, "-Wl,--build-id=0x"+strings.Repeat("5a", 20))
		}},
		{"compiler", ".comment: string 1", "GCC: (Other", Compiler, func(t *testing.T) string {
			f := keep(t, clean)
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			i := bytes.Index(b, []byte("GCC: ("))
			copy(b[i:], "GCC: (Other")
			if err := os.WriteFile(f, b, 0o755); err != nil {
				t.Fatal(err)
			}
			return f
		}},
		{"data", ".data: table", "02000000", "", func(t *testing.T) string { return build(t, dir, "-DKEY=2") }},
		{"code", ".text: 2 functions have another size", "use", "",
			func(t *testing.T) string { return build(t, dir, "-DMORE") }},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			r := run(t, clean, tt.make(t))
			d := has(t, r, tt.where)
			if d.Cause != tt.want || !strings.Contains(d.B, tt.b) {
				t.Errorf("%+v, want %q of %s", d, tt.b, tt.want)
			}
			for _, other := range r.Differences {
				if other.Cause != tt.want && other.Cause != Follows {
					t.Errorf("%+v is reported, too", other)
				}
			}
		})
	}
}

// TestELFOrder links two objects the other way round.
func TestELFOrder(t *testing.T) {
	dir := t.TempDir()
	sources := map[string]string{
		"main.c":  "extern int one(void); int main(void) { return one(); }",
		"one.c":   `const char *uno = "the first string"; int one(void) { return uno[0]; }`,
		"other.c": `const char *due = "the other string"; int other(void) { return due[0]; }`,
	}
	build := func(names ...string) []byte {
		b, err := os.ReadFile(cc(t, dir, sources, append([]string{"-Wl,--build-id=none"}, names...)...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r := compareBytes(t, "vmlinux", build("main.c", "one.c", "other.c"), build("main.c", "other.c", "one.c"))
	if r.Causes()[Order] == 0 {
		t.Errorf("%+v", r.Differences)
	}
	has(t, r, "symbols moved")
}

// bzImage wraps a payload as the kernel does.
func bzImage(t testing.TB, version string, kernel []byte, compress func([]byte) []byte) []byte {
	t.Helper()
	le := binary.LittleEndian
	const sects = 2
	b := make([]byte, (sects+1)*512)
	b[0x1F1] = sects
	b[0x1FE], b[0x1FF] = 0x55, 0xAA
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x020F)
	le.PutUint16(b[0x20E:], 0x300-0x200)
	copy(b[0x300:], version+"\x00")
	payload := compress(kernel)
	le.PutUint32(b[0x248:], 64)
	le.PutUint32(b[0x24C:], uint32(len(payload)))
	b = append(b, make([]byte, 64)...)
	b = append(b, payload...)
	return append(b, "the decompressor"...)
}

func zip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return binary.LittleEndian.AppendUint32(out.Bytes(), uint32(len(b)))
}

func TestBzImages(t *testing.T) {
	const version = "6.12.0 (ann@here) #1 SMP Mon Nov 23 16:14:02 UTC 2026"
	kernel := []byte(strings.Repeat("\x00\x01kernel by ann@here\x00", 50))
	a := bzImage(t, version, kernel, zip)
	if r := compareBytes(t, "bzImage", a, bzImage(t, version, kernel, zip)); !r.Same() {
		t.Errorf("%+v", r.Differences)
	}
	r := compareBytes(t, "bzImage", a, bzImage(t, strings.Replace(version, "16:14:02", "16:15:00", 1), kernel, zip))
	if d := has(t, r, "kernel version"); d.Cause != Time {
		t.Errorf("%+v", d)
	}
	if d := has(t, r, "setup code"); d.Cause != Follows || len(r.Differences) != 2 {
		t.Errorf("%+v", r.Differences)
	}
	r = compareBytes(t, "bzImage", a, bzImage(t, version, bytes.Replace(kernel, []byte("ann"), []byte("bob"), 1), zip))
	if d := has(t, r, "payload: byte 0xc"); d.Cause != User {
		t.Errorf("%+v", r.Differences)
	}
	for name, pack := range map[string]func([]byte) []byte{
		"zstd": func(p []byte) []byte {
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			return binary.LittleEndian.AppendUint32(w.EncodeAll(p, nil), uint32(len(p)))
		},
		"lz4": func(p []byte) []byte {
			var out bytes.Buffer
			w := lz4.NewWriter(&out)
			if err := w.Apply(lz4.LegacyOption(true)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(p); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return binary.LittleEndian.AppendUint32(out.Bytes(), uint32(len(p)))
		},
	} {
		r := compareBytes(t, "bzImage", bzImage(t, version, kernel, pack),
			bzImage(t, version, bytes.Replace(kernel, []byte("ann"), []byte("bob"), 1), pack))
		if d := has(t, r, "payload: byte 0xc"); d.Cause != User {
			t.Errorf("%s: %+v", name, r.Differences)
		}
	}
	b := bytes.Clone(a)
	binary.LittleEndian.PutUint16(b[0x1FA:], 0xFFFF)
	if d := has(t, compareBytes(t, "bzImage", a, b), "header field vid_mode"); d.A != "0x0000" || d.B != "0xffff" {
		t.Errorf("%+v", d)
	}
	b = bzImage(t, version, kernel, func([]byte) []byte { return []byte("\xFD7zXZ\x00 and more") })
	has(t, compareBytes(t, "bzImage", a, b), "payload")
}

// TestNotes says of what could not be looked into that it was compared as bytes.
func TestNotes(t *testing.T) {
	a := []byte("\x7fELF but no more than that, as far as anyone can tell")
	r := compareBytes(t, "vmlinux", a, bytes.Replace(a, []byte("anyone"), []byte("no one"), 1))
	if d := has(t, r, "byte 0x26"); d.B == "" || len(r.Notes) != 1 ||
		!strings.HasPrefix(r.Notes[0], "vmlinux: not of the form") {
		t.Errorf("%+v", r)
	}
}

func TestGzips(t *testing.T) {
	pack := func(content string, stamp byte) []byte {
		b := zip([]byte(content))
		b[4] = stamp
		return b[:len(b)-4]
	}
	if d := has(t, compareBytes(t, "a.gz", pack("text\n", 1), pack("text\n", 2)), "gzip's time"); d.Cause != Time {
		t.Errorf("%+v", d)
	}
	d := has(t, compareBytes(t, "a.gz", pack("in /home/ann/x\n", 1), pack("in /home/bob/x\n", 1)), "unpacked: line 1")
	if d.Cause != Path {
		t.Errorf("%+v", d)
	}
}

// TestHostilePrograms flips bytes of programs and kernels: the comparison ends,
// without a panic, and never finds two different ones the same.
func TestHostilePrograms(t *testing.T) {
	program, err := os.ReadFile(cc(t, t.TempDir(), map[string]string{"main.c": cSource}, "main.c"))
	if err != nil {
		t.Fatal(err)
	}
	kernel := bzImage(t, "6.12.0 (ann@here)", program, zip)
	sections := binary.LittleEndian.Uint64(program[0x28:]) // e_shoff
	r := rand.New(rand.NewSource(1))
	for i := range 300 {
		whole := program
		if i%3 == 0 {
			whole = kernel
		}
		b := bytes.Clone(whole)
		for range 1 + r.Intn(6) {
			at := r.Intn(len(b))
			switch r.Intn(3) {
			case 0:
				at = r.Intn(0x270)
			case 1:
				if i%3 != 0 {
					at = int(sections) + r.Intn(len(b)-int(sections))
				}
			}
			b[at] ^= byte(1 + r.Intn(255))
		}
		compareBlobs(t, whole, b)
	}
}

// TestELFBombs: what debug/elf would inflate, or copy again and again, is not given
// to it.
func TestELFBombs(t *testing.T) {
	long := "int " + strings.Repeat("f", 20000) + "(void) { return 1; }"
	program, err := os.ReadFile(cc(t, t.TempDir(), map[string]string{"main.c": cSource, "long.c": long},
		"main.c", "long.c"))
	if err != nil {
		t.Fatal(err)
	}
	open := func(b []byte) error {
		_, err := openELF(memory(b))
		return err
	}
	if err := open(program); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	sections := func(b []byte) (all [][]byte) {
		for at := le.Uint64(b[0x28:]); len(all) < int(le.Uint16(b[0x3C:])); at += 64 {
			all = append(all, b[at:at+64])
		}
		return all
	}
	index := map[string]int{"names of sections": int(le.Uint16(program[0x3E:]))}
	for i, s := range sections(program) {
		if elf.SectionType(le.Uint32(s[4:])) == elf.SHT_SYMTAB {
			index["symbols"], index["names of symbols"] = i, int(le.Uint32(s[0x28:]))
		}
	}
	for what, i := range index {
		b := bytes.Clone(program)
		b[int(le.Uint64(b[0x28:]))+64*i+8+1] |= 0x800 >> 8
		if err := open(b); !errors.Is(err, errOpaque) || !strings.Contains(err.Error(), "compressed") {
			t.Errorf("%s compressed: %v", what, err)
		}
	}
	b := bytes.Clone(program)
	table, names := sections(b)[index["symbols"]], sections(b)[index["names of symbols"]]
	name := bytes.Index(b[le.Uint64(names[0x18:]):], []byte("ffffffff"))
	for at := le.Uint64(table[0x18:]); at < le.Uint64(table[0x18:])+le.Uint64(table[0x20:]); at += 24 {
		le.PutUint32(b[at:], uint32(name))
	}
	if err := open(b); !errors.Is(err, errOpaque) || !strings.Contains(err.Error(), "names") {
		t.Errorf("many names that are one: %v", err)
	}
}

// FuzzKernels patches one of two equal programs or kernels.
func FuzzKernels(f *testing.F) {
	program, err := os.ReadFile(cc(f, f.TempDir(), map[string]string{"main.c": cSource}, "main.c"))
	if err != nil {
		f.Fatal(err)
	}
	both := [][]byte{program, bzImage(f, "6.12.0 (ann@here)", program, zip)}
	f.Add(false, uint32(0x28), []byte{0xFF, 0xFF})
	f.Add(false, uint32(len(program)-64), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add(true, uint32(0x248), []byte{0xFF, 0xFF, 0xFF, 0x7F})
	f.Add(true, uint32(0x1F1), []byte{0})
	f.Fuzz(func(t *testing.T, kernel bool, at uint32, patch []byte) {
		whole := both[0]
		if kernel {
			whole = both[1]
		}
		b := bytes.Clone(whole)
		copy(b[int(at)%len(b):], patch)
		compareBlobs(t, whole, b)
	})
}

// TestELFNeighbours differs in adjacent symbols: each is reported, by its own content
// alone.
func TestELFNeighbours(t *testing.T) {
	dir := t.TempDir()
	build := func(t *testing.T, args ...string) []byte {
		b, err := os.ReadFile(cc(t, dir, map[string]string{"main.c": `
const unsigned char before[32] = { KEY };
const char list[32] = LIST;
const unsigned char after[32] = { KEY };
const char same[32] = "the same in both";
int main(int n, char **v) { return before[n] + list[n] + after[n] + same[n]; }
`}, append(args, "-Wl,--build-id=none", "main.c")...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key := func(first byte) string {
		var all []string
		for i := range byte(32) {
			all = append(all, strconv.Itoa(int(first+i*37)))
		}
		return "-DKEY=" + strings.Join(all, ",")
	}
	r := compareBytes(t, "vmlinux", build(t, key(0xef), `-DLIST="100 101 102 103 104 105 106 107"`),
		build(t, key(200), `-DLIST="107 106 105 104 103 102 101 100"`))
	if d := has(t, r, ".rodata: list"); d.Cause != Order {
		t.Errorf("%+v", d)
	}
	has(t, r, ".rodata: before")
	has(t, r, ".rodata: after")
	for _, d := range r.Differences {
		if strings.Contains(d.Where, "same") {
			t.Errorf("%+v is reported, too", d)
		}
	}
}

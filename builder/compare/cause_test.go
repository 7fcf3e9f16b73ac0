package compare

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// leaks are pairs of texts as a leak of each kind leaves them.
var leaks = []struct {
	name, a, b string
	want       []Cause
}{
	{"RFC 3339", "built 2026-11-23T16:14:02Z", "built 2027-01-01T00:00:09Z", []Cause{Time}},
	{"a day", "Date: 2026-11-23.", "Date: 2026-11-24.", []Cause{Time}},
	{"date(1)", "#1 SMP Mon Nov 23 16:14:02 UTC 2026", "#1 SMP Tue Nov 24 06:00:00 CET 2026", []Cause{Time}},
	{"RFC 2822", "Date: Mon, 23 Nov 2026 16:14:02 +0000", "Date: Tue, 1 Dec 2026 06:14:02 +0100", []Cause{Time}},
	{"__DATE__", "compiled Nov 23 2026", "compiled Dec  1 2026", []Cause{Time}},
	{"__TIME__", "at 16:14:02", "at 17:00:59", []Cause{Time}},
	{"seconds since 1970", "stamp=1795252544", "stamp=1795252999", []Cause{Time}},
	{"digits of a day", "version 1.0+20261123", "version 1.0+20261124", []Cause{Time}},
	{"UUID", "UUID=34308998-e7d1-50c1-ae61-6cfed28ccd12 / ext4",
		"UUID=b3430899-e7d1-40c1-9e61-6cfed28ccd99 / ext4", []Cause{Random}},
	{"machine-id", "34308998e7d150c1ae616cfed28ccd12", "0b3430899e7d140c19e616cfed28ccd9", []Cause{Random}},
	{"mktemp", "opened tmp.Xa81kQpL", "opened tmp.91kLqPza", []Cause{Random}},
	{"a key in base64", "AAAAC3NzaC1lZDI1NTE5AAAAIJ1x", "AAAAC3NzaC1lZDI1NTE5AAAAIK9z", []Cause{Random}},
	{"a build path", `"/home/ann/linux/fs/open.c"`, `"/build/x/linux/fs/open.c"`, []Cause{Path}},
	{"a relative path", `file ../../src/open.c,`, `file ../src/open.c,`, []Cause{Path}},
	{"who built", "6.12 (ann@here) #1", "6.12 (bob@here) #1", []Cause{User}},
	{"where", "6.12 (ann@here) #1", "6.12 (ann@there) #1", []Cause{Host}},
	{"who and where", "6.12 (ann@here) #1", "6.12 (bob@there) #1", []Cause{User, Host}},
	{"who, where and when", "(ann@here) Mon Nov 23 16:14:02 UTC 2026",
		"(bob@there) Mon Nov 23 16:15:02 UTC 2026", []Cause{Time, User, Host}},
	{"environment", "USER=ann", "USER=bob", []Cause{User}},
	{"a container's name", "host is 3f2a9c01d4e5", "host is 0a1b2c3d4e5f", []Cause{Host}},
	{"gcc", "GCC: (Debian 14.2.0-19) 14.2.0", "GCC: (Debian 12.4.0-5) 12.4.0", []Cause{Compiler}},
	{"gcc in the banner", "(u@h) (gcc-14 (Debian 14.2.0-19) 14.2.0, GNU ld (GNU Binutils for Debian) 2.44) #1",
		"(u@h) (gcc-13 (Debian 13.3.0-1) 13.3.0, GNU ld (GNU Binutils for Debian) 2.44) #1", []Cause{Compiler}},
	{"locale's name", "LANG=C.UTF-8", "LANG=de_DE.UTF-8", []Cause{Locale}},
	{"lines in another order", "b\na\nc\n", "c\na\nb\n", []Cause{Order}},
	{"words in another order", "b a c", "c a b", []Cause{Order}},
	{"lines sorted by a language", "B\nZ\na\nc\n", "a\nB\nc\nZ\n", []Cause{Locale}},
	{"and by one that ignores punctuation", "_b\na\nc\n", "a\n_b\nc\n", []Cause{Locale}},

	{"nothing known", "one", "two", nil},
	{"a long name with a digit", "ext4_init_block_bitmap_now", "ext4_wait_block_bitmap_now", nil},
	{"a version", "1.2.3", "1.2.4", nil},
	{"a count", "12", "13", nil},
	{"a telephone number is no time", "call 0000000000", "call 0000000001", nil},
	{"the same", "a 2026-11-23", "a 2026-11-23", nil},
}

func TestCauses(t *testing.T) {
	for _, tt := range leaks {
		if got := causesOf(tt.a, tt.b); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if got := causesOf(tt.b, tt.a); !slices.Equal(got, tt.want) {
			t.Errorf("%s, the other way round: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestLongLines looks for a cause in a line of a megabyte.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<16)
	a, b := long+"built 2026-11-23"+long, long+"built 2026-11-24"+long
	if got := causesOf(a, b); !slices.Equal(got, []Cause{Time}) {
		t.Errorf("%v", got)
	}
	if x, y := excerpt(a, b); len(x) > maxExcerpt || len(x) != len(y) || !strings.Contains(x, "2026-11-23") {
		t.Errorf("%q", x)
	}
}

// TestEachRecogniserCounts takes them out one by one: none is there that no leak
// needs.
func TestEachRecogniserCounts(t *testing.T) {
	all := recognisers
	defer func() { recognisers = all }()
	for i, r := range all {
		recognisers = slices.Delete(slices.Clone(all), i, i+1)
		missed := 0
		for _, tt := range leaks {
			if !slices.Equal(causesOf(tt.a, tt.b), tt.want) {
				missed++
			}
		}
		if missed == 0 {
			t.Errorf("no leak is missed without %s %s", r.cause, r.what)
		}
	}
}

func TestLocalNames(t *testing.T) {
	h, err := os.Hostname()
	if err != nil || len(h) < 3 {
		t.Skip("this machine has no name to leak")
	}
	if got := causesOf("greetings from "+h, "greetings from elsewhere"); !slices.Contains(got, Host) {
		t.Errorf("%q leaked: %v", h, got)
	}
}

func TestUmasked(t *testing.T) {
	for _, tt := range []struct {
		a, b fs.FileMode
		want bool
	}{
		{0o644, 0o664, true}, {0o600, 0o644, true}, {0o755, 0o700, true}, {0o777, 0o755, true},
		{0o644, 0o644, false}, {0o644, 0o755, false}, {0o640, 0o604, false}, {0o755, 0o755 | fs.ModeSetuid, false},
	} {
		if got := umasked(tt.a, tt.b); got != tt.want {
			t.Errorf("%v and %v: %v", tt.a, tt.b, got)
		}
	}
}

func TestBinaryCause(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b []byte
		want Cause
	}{
		{"seconds since 1970", []byte{0x00, 0x0e, 0x01, 0x6b}, []byte{0x99, 0x0f, 0x01, 0x6b}, Time},
		{"a key", []byte("\x9a\x11\xf0\x3c\x77\xe2\x05\xb8\x4d\xc6\x29\x91\xde\x60\xa3\x1f"),
			[]byte("\x21\xd8\x3b\xa5\x90\x4e\xfc\x63\xb7\x08\xe1\x5a\x17\xcb\x7e\x82"), Random},
		{"a small number", []byte{1, 0, 0, 0}, []byte{2, 0, 0, 0}, ""},
		{"zeros", make([]byte, 16), append(make([]byte, 15), 1), ""},
	} {
		if got := binaryCause(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestCausesAreExplained holds the list of causes to what is used.
func TestCausesAreExplained(t *testing.T) {
	known := map[Cause]bool{}
	for _, c := range Causes {
		if known[c.Cause] || c.Text == "" {
			t.Errorf("%q is there twice or has no words", c.Cause)
		}
		known[c.Cause] = true
	}
	for _, tt := range leaks {
		for _, c := range tt.want {
			if !known[c] {
				t.Errorf("%q has no words", c)
			}
		}
	}
}

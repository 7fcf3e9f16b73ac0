package main

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/vm"
)

func TestComplaintsAreTold(t *testing.T) {
	log, err := os.ReadFile("testdata/decode.txtar")
	if err != nil {
		t.Fatal(err)
	}
	_, console, _ := strings.Cut(string(log), "-- console.log --\n")
	panicked := errors.New("the guest's kernel panicked")
	for _, tt := range []struct {
		policy  string
		err     error
		told    bool
		code    int // 0: no error
		console string
	}{
		{"", nil, true, 0, console},
		{"warn", nil, true, 0, console},
		{"fail", nil, true, codeGuest, console},
		{"fail", nil, false, 0, "[    0.000000] Linux version 6.12.117 (a@b) #1\n"},
		{"allow", nil, false, 0, console},
		{"fail", panicked, true, codeFault, console},
		{"warn", panicked, true, codeFault, console},
	} {
		a, read := testApp(t, table{})
		g := a.guest()
		g.out, g.splats = t.TempDir(), tt.policy
		var o vm.Options
		heard := g.watch(&o)
		if _, err := o.Watch.Write([]byte(tt.console)); err != nil {
			t.Fatal(err)
		}
		err := heard.tell(tt.err)
		code := 0
		if err != nil {
			code = statusOf(err)
		}
		if code != tt.code || tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%+v: %v, status %d", tt, err, code)
		}
		_, stderr := read()
		const want = "kimg: the guest's kernel complained: WARNING in foo at kernel/a.c:12, by cat (pid 73)\n" +
			"  |   at foo+0x12/0x34\n  |   call trace:\n  |     outer+0x1/0x2\n"
		if tt.told && stderr != want || !tt.told && stderr != "" {
			t.Errorf("%+v: %q", tt, stderr)
		}
	}
}

// A log that is no text is told what makes it one, and is not said to be clean.
func TestLogIsNoText(t *testing.T) {
	for log, want := range map[string]string{
		"\x1f\x8b\x08\x00": "zcat console.log", "\xfd7zXZ\x00": "xzcat console.log",
		"\x28\xb5\x2f\xfd\x04": "zstdcat console.log", "BZh9": "bzcat console.log",
		"\xff\xfe[\x00": "iconv -f UTF-16 -t UTF-8 console.log", "[    1.000000] well\n": "", "": "", "B": "",
	} {
		err := asText(bufio.NewReader(strings.NewReader(log)), "console.log")
		var hinting interface{ Hint() string }
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", log, err)
		case want != "" && (err == nil || statusOf(err) != codeUsage || !errors.As(err, &hinting) ||
			!strings.HasPrefix(hinting.Hint(), want+" |")):
			t.Errorf("%q: %v", log, err)
		}
	}
}

package sandbox

import (
	"strings"
	"testing"
)

// Programs that a tracer has run by an emulator own files as anybody, and are anybody, as others do, also where owners
// are only said (see package owners).
func TestTraced(t *testing.T) {
	program, err := helper()
	if err != nil {
		t.Fatal(err)
	}
	eachIDs(t, func(t *testing.T, ids IDs) {
		root := newRoot(t)
		alien := append([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x34\x12"),
			make([]byte, 100)...)
		write(t, root+"/bin/kimg-trace", program, 0o755)
		write(t, root+"/bin/a.emulator", program, 0o755)
		write(t, root+"/tree/bin/alien", alien, 0o755)
		write(t, root+"/tree/dev/null", nil, 0o644)
		write(t, root+"/tree/tmp/file", nil, 0o644)
		s := start(t, Config{Root: root, IDs: ids, Layer: t.TempDir()})
		const format = `:k:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x34\x12:` +
			`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/bin/a.emulator:PF`
		traced := func(args ...string) (string, int) {
			t.Helper()
			args = append([]string{"/bin/kimg-trace", format, "/bin/helper", "into", "/tree"}, args...)
			return run(t, s, Process{Args: args, Caps: []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID",
				"SYS_CHROOT", "SYS_PTRACE", "KILL"}})
		}
		for _, c := range []struct{ args, want string }{
			{"/bin/alien chown 33:44 /tmp/file", ""},
			{"/bin/alien stat /tmp/file", "/tmp/file 100644 33 44"},
			{"/bin/alien setid 1234 /bin/alien id", "1234 1234"},
			{"/bin/alien chown 1234:1234 /tmp", ""},
			{"/bin/alien setid 1234 /bin/alien write /tmp/new text", ""},
			{"/bin/alien stat /tmp/new", "/tmp/new 100644 1234 1234"},
			{"/bin/alien exit 7", ""},
		} {
			out, status := traced(strings.Fields(c.args)...)
			want := 7 * strings.Count(c.args, "exit")
			if status != want || !strings.HasPrefix(out, c.want) || c.want == "" && out != "" {
				t.Errorf("%s: status %d: %s", c.args, status, out)
			}
		}
	})
}

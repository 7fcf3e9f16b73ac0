package image

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// A log's first complaint is for the error, and what runs foreign programs for the caller, however the log is cut.
func TestComplaints(t *testing.T) {
	const log = "I: Retrieving\nI: foreign programs are run by /usr/bin/qemu-aarch64, in a dream\nI: Extracting\n" +
		"W: Failure trying to run: chroot \"/kimg/work/target\" /bin/true\n--- /kimg/work/target/debootstrap.log\n" +
		"chroot: failed to run command '/bin/true': Exec format error\nE: another\n"
	for _, cut := range []int{1, 7, len(log)} {
		var by []string
		c := &complaints{w: io.Discard, by: func(s string) { by = append(by, s) }}
		for r := strings.NewReader(log); r.Len() > 0; {
			if _, err := io.CopyN(c, r, int64(min(cut, r.Len()))); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.first(); got != " (chroot: failed to run command '/bin/true': Exec format error)" ||
			!strings.Contains(got, noForeign) {
			t.Errorf("%d: the complaint is %q", cut, got)
		}
		if !slices.Equal(by, []string{"/usr/bin/qemu-aarch64, in a dream"}) {
			t.Errorf("%d: %q", cut, by)
		}
	}
	if n := strings.Count(emulateScript, `echo "`+runBy); n != 3 {
		t.Errorf("emulate.sh tells of %d ways", n)
	}
}

package image

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// A log's first complaint is for the error, and what runs foreign programs for the caller, however the log is cut.
func TestComplaints(t *testing.T) {
	const log = "I: Retrieving\nI: foreign programs are run by /usr/bin/qemu-aarch64, in a dream\nI: Extracting\n" +
		"E: foreign programs cannot be run: namespace: no; trace: no\nE: another\n"
	for _, cut := range []int{1, 7, len(log)} {
		var by []string
		c := &complaints{w: io.Discard, by: func(s string) { by = append(by, s) }}
		for r := strings.NewReader(log); r.Len() > 0; {
			if _, err := io.CopyN(c, r, int64(min(cut, r.Len()))); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.noForeign(); got != "namespace: no; trace: no" {
			t.Errorf("%d: nothing runs foreign programs for %q", cut, got)
		}
		if !slices.Equal(by, []string{"/usr/bin/qemu-aarch64, in a dream"}) {
			t.Errorf("%d: %q", cut, by)
		}
	}
	c := &complaints{w: io.Discard}
	_, err := io.WriteString(c, "I: Configuring bad...\nW: Failure while configuring base packages.\n--- log\n"+
		"Setting up good (1) ...\nall is well\nSetting up bad (1.0) ...\nfrobnicating\nfrob: /dev/frob: cannot open\n"+
		"dpkg: error processing package bad (--configure):\n installed bad package post-installation script "+
		"subprocess returned error exit status 3\ndpkg: dependency problems prevent configuration of other:\n"+
		"dpkg: error processing package other (--configure):\n dependency problems - leaving unconfigured\n")
	if err != nil {
		t.Fatal(err)
	}
	const want = "set up the package bad: installed bad package post-installation script subprocess returned error " +
		"exit status 3; the script's last lines:\n  frobnicating\n  frob: /dev/frob: cannot open"
	if err := c.because(io.EOF); err.Error() != want || !errors.Is(err, io.EOF) {
		t.Errorf("of a script: %v", err)
	}
	for text, times := range map[string]int{runBy: 2, noForeign: 1} { // as the script itself says it, and a shell in it
		if n := strings.Count(emulateScript, `echo "`+text); n != times {
			t.Errorf("emulate.sh says %q %d times", text, n)
		}
	}
}

//go:build linux

package e2e

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkFile runs a file of checks, one of which must fail, and reads the reports with
// readers of its own.
func checkFile(t *testing.T, k kimg, out string) {
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(k.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(k.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write("checks.yaml", `
defaults: {init: sh}
checks:
  - name: the version is shown
    break: version_proc_show
    run: cat /proc/version
    expect: seq_read_iter
    print: [6*7, $lx_current().comm]
  - name: a script fails
    run: |
      echo out
      echo err >&2
      false
      echo never
  - {name: the kernel complains, run: 'echo "BUG: e2e" >/dev/kmsg', splats: warn}
`)
	r := k.run(t, "", "check", "checks.yaml", "--out", out, "--junit", "junit.xml", "--json", "r.json", "--report",
		"reports").want(t, 8)
	for _, want := range []string{"ok    the version is shown", "stopped in version_proc_show at fs/proc/version.c:",
		"by cat (pid ", "6*7 = 42\n",
		"FAIL  a script fails", "the command ended with status 1\n", "stdout  | out\n", "stderr  | err\n",
		"ok    the kernel complains", "      BUG: e2e\n", "3 checks: 2 passed, 1 failed in "} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("stdout lacks %q:\n%s", want, r.stdout)
		}
	}

	var junit struct {
		Tests, Failures int `xml:",attr"`
		Suite           struct {
			Cases []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(read("junit.xml"), &junit); err != nil {
		t.Fatal(err)
	}
	if c := junit.Suite.Cases; len(c) != 3 || c[0].Failure != nil || c[1].Failure == nil ||
		c[1].Failure.Message != "the command ended with status 1" {
		t.Errorf("junit.xml says %+v", junit)
	}

	var report struct {
		Kernel         string
		Passed, Failed int
		Checks         []struct {
			Verdict string
			Stop    struct{ Frames []struct{ Function string } }
			Print   []struct{ Value string }
			Splats  []struct{ Kind string }
			Command struct {
				Status         int
				Stdout, Stderr string
			}
		}
	}
	if err := json.Unmarshal(read("r.json"), &report); err != nil {
		t.Fatal(err)
	}
	c := report.Checks
	if report.Kernel != readManifest(t, out).Build.Kernel || report.Passed != 2 || report.Failed != 1 || len(c) != 3 ||
		c[0].Stop.Frames[0].Function != "version_proc_show" || c[0].Print[0].Value != "42" ||
		c[0].Print[1].Value != `"cat"` ||
		!strings.HasPrefix(c[0].Command.Stdout, "Linux version ") || c[1].Command.Status != 1 ||
		c[1].Command.Stderr != "err\n" || len(c[1].Splats) != 0 ||
		len(c[2].Splats) != 1 || c[2].Splats[0].Kind != "bug" {
		t.Errorf("r.json says %+v", report)
	}
	if kept := string(read("reports/a-script-fails/stdout")); kept != "out\n" {
		t.Errorf("stdout was kept as %q", kept)
	}
	for _, kept := range []string{"the-version-is-shown/gdb.log", "the-version-is-shown/console.log",
		"a-script-fails/check.json"} {
		if len(read("reports/"+kept)) == 0 {
			t.Errorf("%s is empty", kept)
		}
	}

	// What this kernel does not have is told with its line, and nothing is booted.
	write("bad.yaml", "checks:\n  - {name: one, run: uname}\n  - name: two\n    break: no_such_function\n")
	r = k.run(t, "", "check", "bad.yaml", "--out", out).want(t, 6)
	if !strings.Contains(r.stderr, "kimg: bad.yaml:4: break at no_such_function: ") || r.stdout != "" {
		t.Errorf("an unknown symbol is told so:\n%s%s", r.stdout, r.stderr)
	}
	verify(t, out)
}

// TestSameVerdicts is sameVerdicts of a build that is there.
func TestSameVerdicts(t *testing.T) {
	out := os.Getenv("KIMG_TEST_OUT")
	if out == "" {
		t.Skip("KIMG_TEST_OUT names no out directory of a build")
	}
	sameVerdicts(t, newKimg(t), out)
}

// sameVerdicts runs checks in guests that boot, and in guests that go on: their reports differ in times, process ids,
// addresses and what a boot has said alone.
func sameVerdicts(t *testing.T, k kimg, out string) {
	const some = `
checks:
  - {name: a command, run: uname -a}
  - {name: who, run: "id; pwd; hostname; umask; env | grep -Ev '^(INVOC|JOURN|SYSTE)' | sort; ulimit -a"}
  - {name: input, run: "cat; echo to stderr >&2; exit 3"}
  - {name: a splat, run: 'echo "BUG: e2e" >/dev/kmsg'}
  - {name: a stop, break: version_proc_show, run: cat /proc/version, expect: seq_read_iter, print: [$lx_current().comm]}
`
	const more = `
  - {name: signals, run: "grep -E '^(Sig[BIC]|Cap|NoNew|Secc|Groups)' /proc/self/status; ls /proc/self/fd"}
  - {name: the boot, run: "cat /proc/cmdline /proc/filesystems /proc/sys/kernel/tainted; ls -a / /root"}
  - {name: nodes, run: "ls /dev | grep -v port"}
  - {name: mounts, run: "cut -d' ' -f1-3 /proc/mounts | sort; cat /sys/class/net/e*/address"}
  - {name: devices, run: "ls /sys/bus/virtio/devices /sys/bus/pci/devices; cat /proc/interrupts | cut -d: -f1"}
  - {name: a signal, run: 'kill -TERM $$'}
  - {name: left behind, run: 'sleep 60 & echo it has ended'}
  - {name: a splat that is warned of, run: 'echo "BUG: e2e" >/dev/kmsg', splats: warn}
  - {name: no stop, break: version_proc_show, run: 'true'}
  - {name: a stop of another, break: vfs_read, by: cat, run: "head -c 1 /etc/passwd; cat /proc/version"}
`
	for name, list := range map[string]string{
		"systemd": some, "without systemd": "defaults: {init: sh}" + some + more, // which boot in two seconds
	} {
		if err := os.WriteFile(filepath.Join(k.dir, "verdicts.yaml"), []byte(list), 0o644); err != nil {
			t.Fatal(err)
		}
		report := func(file string, flags ...string) any {
			args := append([]string{"check", "verdicts.yaml", "--out", out, "--json", file}, flags...)
			r := k.run(t, "", args...)
			if r.code != 0 && r.code != 6 && r.code != 8 {
				t.Fatalf("%s: status %d\n%s%s", name, r.code, r.stdout, r.stderr)
			}
			b, err := os.ReadFile(filepath.Join(k.dir, file))
			if err != nil {
				t.Fatal(err)
			}
			var all any
			if err := json.Unmarshal(b, &all); err != nil {
				t.Fatal(err)
			}
			return lasting(all)
		}
		report("first.json", "--only", "a command", "--only", "who") // it is kept
		if diff := cmp.Diff(report("cold.json", "--cold"), report("warm.json")); diff != "" {
			t.Errorf("%s: -cold +warm\n%s", name, diff)
		}
	}
}

// ofOneRun are keys of a report whose values are of one run.
var ofOneRun = []string{"seconds", "started", "console", "line", "time"}

// changing is what is of one run in a text: times, process ids, addresses.
var changing = regexp.MustCompile(`(?i)pid:? [0-9]+|0x[0-9a-f]+|[0-9]+ms|\[ *[0-9]+\.[0-9]+\]`)

// lasting is what a report has that is not of one run.
func lasting(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if v[key] = lasting(value); slices.Contains(ofOneRun, key) {
				delete(v, key)
			}
		}
	case []any:
		for i := range v {
			v[i] = lasting(v[i])
		}
	case string:
		return changing.ReplaceAllString(v, "-")
	}
	return v
}

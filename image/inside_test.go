package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/yamlfile"
)

// script is one of these lines, for a shell that ends at the first that fails.
func script(lines ...string) custom.Script {
	text := "#!/bin/sh -e\n" + strings.Join(lines, "\n") + "\n"
	return custom.Script{Name: "my setup.sh", Text: yamlfile.Text(text)}
}

// insider customises one bootstrapped tree in many ways.
type insider struct {
	*rig
	spec image.RootfsSpec
	tree string
	size units.Size // that it may have
}

// logs are further readers of what is logged.
func (r *insider) customise(
	ctx context.Context, t *testing.T, c image.Custom, logs ...io.Writer,
) (string, string, error) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "custom.tar")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var log bytes.Buffer
	m := r.maker(t)
	m.Log = io.MultiWriter(append(logs, m.Log, &log)...)
	begun := time.Now()
	err = m.Customise(ctx, image.CustomSpec{Custom: c, Epoch: r.spec.Epoch, Size: r.size}, opener(r.tree), nil, f)
	t.Logf("customised in %s: %v", time.Since(begun).Round(100*time.Millisecond), err)
	return out, log.String(), err
}

// lean leaves out of the tree's tar what no test of a failure needs, which is most of its files: those take the most
// time on the way into a container and out again.
func (r *insider) lean(t *testing.T) *insider {
	t.Helper()
	in, err := os.Open(r.tree)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "lean.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	left := func(name string) bool {
		return strings.HasPrefix(name, "./usr/share/") || strings.HasPrefix(name, "./var/lib/dpkg/info/") ||
			strings.HasPrefix(name, "./usr/lib/x86_64-linux-gnu/gconv/") ||
			strings.HasPrefix(name, "./usr/lib/x86_64-linux-gnu/perl")
	}
	w := tar.NewWriter(out)
	for tr := tar.NewReader(in); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeDir && (left(h.Name) || h.Typeflag == tar.TypeLink && left(h.Linkname)) {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, tr); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &insider{rig: r.rig, spec: r.spec, tree: out.Name(), size: 256 << 20}
}

// files reads what a tar has of some names: type, mode, owner, and the content or the link.
func files(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b := []byte{}
		if h.Size < 4096 {
			if b, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		all[strings.TrimPrefix(h.Name, ".")] = fmt.Sprintf("%c %04o %d:%d %s%s", h.Typeflag, h.Mode, h.Uid, h.Gid,
			h.Linkname, b)
	}
}

// TestInside runs scripts in a real tree, makes a locale there and has systemctl enable units: what they leave is
// there, with its owners, and twice the same; what a boot makes anew is not.
func TestInside(t *testing.T) {
	t.Parallel() // much of it waits for the engine
	r := &insider{rig: newRig(t), size: 1 << 30}
	r.spec = r.rig.spec(t, "trixie", image.Minbase, "locales")
	r.tree, _ = r.bootstrap(t, r.spec)
	t.Run("a tree", r.leaves)
	lean := r.lean(t)
	t.Run("failures", lean.fails)
	t.Run("interrupted", lean.stops)
}

func (r *insider) leaves(t *testing.T) {
	want := image.Custom{
		Locale: "de_DE.UTF-8",
		Users:  []custom.User{{Name: "ann"}},
		Files: []custom.File{
			{Path: "/etc/systemd/system/own.service", Mode: 0o644,
				Text: "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\nAlias=mine.service\n"},
			{Path: "/var/log/own.log", Mode: 0o644, Text: "kept\n"},
		},
		Run: []custom.Script{
			script(
				"echo text >/opt/new; chown ann:ann /opt/new; chmod 4711 /opt/new",
				"id -un >/opt/who; pwd >>/opt/who; basename \"$0\" >>/opt/who",
				"test -z \"$(ls /proc)\"; test ! -e /sys/kernel; test -c /dev/null; test ! -e /dev/kvm",
				"getent hosts deb.debian.org && exit 9",
				"echo log >/var/log/script.log; echo x >/tmp/x; echo y >/run/y; mkdir /var/tmp/z",
				"rm -rf /srv; ln /opt/who /opt/hard; ln -s who /opt/soft; mkfifo /opt/fifo",
				"useradd --system --no-create-home daemon2; echo ann:'$6$salt$0123456789abcdef0123' | chpasswd -e",
				"locale -a | grep -q de_DE.utf8",
				"setsid sh -c 'while :; do date >/tmp/late; sleep 0.01; done' </dev/null >/dev/null 2>&1 &",
				"setpriv --reuid=ann --regid=ann --clear-groups sleep 1000 &",
				"cd /etc/systemd/system; cp own.service made.service; sed -i 's/multi-user/a/; /Alias/d' made.service",
				"systemctl enable own; until test -s /tmp/late; do sleep 0.1; done",
			),
			{Name: "2", Text: "#!/usr/bin/perl\nopen F, '>/opt/perl'; print F $^T < 1 ? 'no' : 'yes';\n"},
		},
		Units: custom.Units{Enable: []string{"made.service", "fstrim.timer"}, Mask: []string{"getty@.service"},
			Disable: []string{"systemd-networkd.service"}},
	}
	var sums []units.Digest
	var got, first map[string]string
	for range 2 {
		out, log, err := r.customise(t.Context(), t, want)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log, "Generating locales") {
			t.Errorf("the log has none of what ran:\n%s", log)
		}
		sums, got = append(sums, digest(t, out)), files(t, out)
		if len(sums) == 1 {
			first = got
			time.Sleep(1100 * time.Millisecond) // another second
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("two trees differ: %s", sums)
		for name := range got {
			if got[name] != first[name] {
				t.Errorf("%s is %q, and was %q", name, got[name], first[name])
			}
		}
	}
	const system = "/etc/systemd/system/"
	link := func(to string) string { return "2 0777 0:0 " + to }
	for name, want := range map[string]string{
		"/opt/new":  "0 4711 1000:1000 text\n",
		"/opt/who":  "1 0644 0:0 ./opt/hard",
		"/opt/hard": "0 0644 0:0 root\n/\nmy_setup.sh\n",
		"/opt/soft": link("who"),
		"/opt/fifo": "6 0644 0:0 ",
		"/opt/perl": "0 0644 0:0 yes",

		system + "multi-user.target.wants/own.service":              link(system + "own.service"),
		system + "mine.service":                                     link(system + "own.service"),
		system + "a.target.wants/made.service":                      link(system + "made.service"),
		system + "timers.target.wants/fstrim.timer":                 link("/lib/systemd/system/fstrim.timer"),
		system + "fstrim.timer":                                     "",
		system + "getty@.service":                                   link("/dev/null"),
		system + "multi-user.target.wants/systemd-networkd.service": "",

		"/var/log/own.log":    "0 0644 0:0 kept\n",
		"/var/log/script.log": "0 0644 0:0 ",
		"/tmp/":               "5 1777 0:0 ",
		"/dev/null":           "3 0666 0:0 ",
		"/etc/machine-id":     "0 0444 0:0 ",
		"/etc/locale.conf":    "0 0644 0:0 LANG=de_DE.UTF-8\n",
		"/etc/default/locale": link("../locale.conf"),
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"/tmp/x", "/tmp/kimg/", "/run/y", "/var/tmp/z/", "/srv/", "/etc/passwd-",
		"/etc/.pwd.lock", "/tmp/late"} {
		if got[name] != "" {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	for _, name := range []string{"/usr/lib/kimg/agent", "/usr/bin/passwd", "/var/lib/dpkg/status"} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is gone", name)
		}
	}
	if !strings.Contains(got["/etc/shadow"], "\nann:$6$salt$0123456789abcdef0123:") {
		t.Errorf("a password that a script sets is lost:\n%s", got["/etc/shadow"])
	}
}

func (r *insider) fails(t *testing.T) {
	run := func(lines ...string) image.Custom { return image.Custom{Run: []custom.Script{script(lines...)}} }
	unit := func(name string) image.Custom { return image.Custom{Units: custom.Units{Enable: []string{name}}} }
	for name, c := range map[string]struct {
		want image.Custom
		err  string
		log  string
	}{
		"a status":        {run("echo last words >&2; exit 7"), "run my setup.sh: exit status 7", "last words"},
		"no such command": {run("frobnicate"), "run my setup.sh: exit status 127", "frobnicate"},
		"a signal":        {run("kill -KILL $$"), "run my setup.sh: ended by signal 9", ""},
		"a device":        {run("mknod /opt/d c 1 3"), "run my setup.sh: exit status 1", "not permitted"},
		"a mount":         {run("mount -t tmpfs x /opt"), "run my setup.sh: exit status", ""},
		"all signals":     {run("kill -KILL -1"), "my setup.sh", ""},
		"no accounts":     {run("rm /etc/passwd"), "/etc/passwd is gone", ""},
		"no init":         {run("echo x >/usr/lib/x; ln -sf ../lib/none /usr/sbin/init"), "/sbin/init is gone", ""},
		// Some engines have no such ids, and chown fails.
		"a large owner":   {run("chown 70000 /etc/motd"), "run my setup.sh", ""},
		"kimg's own":      {run("rm /usr/lib/kimg/agent"), "kimg's own", ""},
		"all of it":       {run("rm --one-file-system --no-preserve-root -rf / || :"), "kimg's own", ""},
		"a link for /tmp": {run("rm -rf /tmp; ln -s var/tmp /tmp"), "/tmp is no longer a directory", ""},
		"too much":        {run("truncate -s 3G /opt/x"), "larger than the image of 256M", ""},
		"a name":          {run(`touch "$(printf '/opt/\377')"`), "run my setup.sh: the tree that is left", ""},
		"no interpreter": {image.Custom{Run: []custom.Script{{Name: "x", Text: "#!/usr/bin/python3\n"}}},
			"no /usr/bin/python3", ""},
		"no such unit": {unit("fstrim.timr.service"), "is not in the tree", ""},
		"a bare unit":  {unit("fstrim.service"), "no [Install] section", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a tree is read by one processor
			_, log, err := r.customise(t.Context(), t, c.want)
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(log, c.log) {
				t.Errorf("%v, want %q; log:\n%s", err, c.err, log)
			}
		})
	}
}

// A script that never ends is ended with its context, at once.
func (r *insider) stops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var begun time.Time
	runs := &containertest.Watch{What: "it runs", Found: func() {
		begun = time.Now()
		stop()
	}}
	endless := script("trap '' INT TERM HUP; echo it runs; while :; do sleep 1; done")
	_, _, err := r.customise(ctx, t, image.Custom{Run: []custom.Script{endless}}, runs)
	if !errors.Is(err, context.Canceled) || time.Since(begun) > 30*time.Second {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
}

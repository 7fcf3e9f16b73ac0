package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
)

// unavailable ends a test that needs what this machine lacks: a skip on a
// laptop, a failure in CI.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must be able to run this: "+format, args...)
	}
	t.Skipf(format, args...)
}

// realClient is a client of the host's own mirror, as a person's would be.
func realClient(t *testing.T) *Client {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs the network, and a minute")
	}
	m, err := MirrorQuery{Root: "/", Family: suite.Debian, Arch: arch.Default}.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Client{Store: st, HTTP: &fetch.Client{HTTP: fetch.NewHTTP(m.ProxyFunc())}, Mirror: m, Arch: arch.Default,
		Cache: t.TempDir()}
}

// realIndices are those of tests before, by their suites: each has 60,000 packages, and is only read.
var realIndices = map[string]released{}

type released struct {
	*Release
	*Index
}

func realIndex(t *testing.T, c *Client, name string) (*Release, *Index) {
	t.Helper()
	if r, ok := realIndices[name]; ok {
		return r.Release, r.Index
	}
	s, err := suite.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := c.Release(t.Context(), s)
	if err != nil {
		unavailable(t, "the mirror does not give %s: %v", s, err)
	}
	x, err := c.Index(t.Context(), rel, nil)
	if err != nil {
		t.Fatal(err)
	}
	realIndices[name] = released{rel, x}
	return rel, x
}

// TestClosureIsDebootstraps holds Closure against debootstrap itself, which
// comes from trixie by way of this very client.
func TestClosureIsDebootstraps(t *testing.T) {
	c := realClient(t)
	for _, tool := range []string{"wget", "perl", "dpkg", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			unavailable(t, "debootstrap needs %s", tool)
		}
	}
	debootstrap := fetchDebootstrap(t, c)
	include := []string{"systemd-sysv", "dbus", "udev", "iproute2", "openssh-server", "linux-image-amd64"}
	for _, suite := range []string{"bullseye", "bookworm", "trixie"} {
		rel, x := realIndex(t, c, suite)
		specs := []ClosureSpec{{rel.Suite, Minbase, include}, {rel.Suite, Standard, nil}}
		if suite == "trixie" && os.Getenv("CI") == "true" { // each takes debootstrap ten seconds of processor time
			specs = append(specs, ClosureSpec{rel.Suite, Minbase, nil}, ClosureSpec{rel.Suite, Standard, include})
		}
		for _, spec := range specs {
			t.Run(fmt.Sprintf("%s/%s/%d", suite, spec.Variant, len(spec.Include)), func(t *testing.T) {
				t.Parallel()
				mine, err := x.Closure(spec)
				if err != nil {
					t.Fatal(err)
				}
				got := names(append(mine.Required, mine.Base...))
				if want := printDebs(t, debootstrap, c.Mirror.URL, spec); got != want {
					t.Errorf("the closure is\n%s\nand debootstrap's\n%s", got, want)
				}
			})
		}
	}
}

// printDebs runs debootstrap --print-debs.
func printDebs(t *testing.T, dir, mirror string, spec ClosureSpec) string {
	t.Helper()
	args := []string{filepath.Join(dir, "usr/sbin/debootstrap"), "--print-debs", "--no-check-gpg",
		"--arch=" + arch.Default.Name}
	if spec.Variant != Standard {
		args = append(args, "--variant="+string(spec.Variant))
	}
	if len(spec.Include) > 0 {
		args = append(args, "--include="+strings.Join(spec.Include, ","))
	}
	cmd := exec.CommandContext(t.Context(), "sh",
		append(args, spec.Suite.Name, filepath.Join(t.TempDir(), "target"), mirror)...)
	cmd.Env = append(os.Environ(), "DEBOOTSTRAP_DIR="+filepath.Join(dir, "usr/share/debootstrap"), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		unavailable(t, "debootstrap does not run here: %v\n%s%s", err, &out, &errs)
	}
	var debs []string
	for _, name := range strings.Fields(out.String()) {
		// It adds this one for an https mirror; see Closure.
		if name != "ca-certificates" || !strings.HasPrefix(mirror, "https:") {
			debs = append(debs, name)
		}
	}
	return strings.Join(debs, " ")
}

// fetchDebootstrap unpacks trixie's debootstrap into a directory.
func fetchDebootstrap(t *testing.T, c *Client) string {
	t.Helper()
	rel, x := realIndex(t, c, "trixie")
	p, ok := x.Lookup("debootstrap")
	if !ok {
		t.Fatal("trixie has no debootstrap")
	}
	if err := c.Fetch(t.Context(), rel.Suite, []Locked{p.Locked()}, rel.Date, nil); err != nil {
		t.Fatal(err)
	}
	r, err := c.Store.Open(p.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir := t.TempDir()
	if err := unpackDeb(dir, bufio.NewReader(r)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unpackDeb unpacks files and links of a package whose data member is a .tar.gz, as
// debootstrap's is: every system must be able to unpack it.
// deb(5), ar(5).
func unpackDeb(dir string, r io.Reader) error {
	if _, err := io.CopyN(io.Discard, r, int64(len("!<arch>\n"))); err != nil {
		return err
	}
	head := make([]byte, 60)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(head[48:58])), 10, 64)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(head, []byte("data.tar.gz")) {
			if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
				return err
			}
			continue
		}
		plain, err := gzip.NewReader(io.LimitReader(r, size))
		if err != nil {
			return err
		}
		return unpackTar(dir, tar.NewReader(plain))
	}
}

func unpackTar(dir string, r *tar.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			var f *os.File
			if f, err = root.Create(name); err == nil {
				_, err = io.Copy(f, r)
				err = errors.Join(err, f.Close())
			}
		}
		if err != nil {
			return err
		}
	}
}

// TestInstallOfRealToolchains proves that what kimg's toolchains ask for can be
// resolved: that there is an answer is all that can be checked without dpkg.
func TestInstallOfRealToolchains(t *testing.T) {
	c := realClient(t)
	for suite, wanted := range map[string]string{
		"bullseye": "gcc-9 gcc-10 make flex bison bc libelf-dev libssl-dev ccache dwarves",
		"bookworm": "gcc-12 make flex bison bc libelf-dev libssl-dev ccache dwarves",
		"trixie": "gcc-14 make flex bison bc libelf-dev libssl-dev ccache dwarves debootstrap qemu-system-x86 gdb " +
			"e2fsprogs",
		"sid": "gcc make",
	} {
		rel, x := realIndex(t, c, suite)
		b, err := x.Closure(ClosureSpec{Suite: rel.Suite, Variant: Minbase})
		if err != nil {
			t.Fatal(err)
		}
		have := make(map[string]bool)
		for _, p := range append(b.Required, b.Base...) {
			have[p.Name] = true
		}
		more, err := x.Install(strings.Fields(wanted), have)
		if err != nil {
			t.Errorf("%s: %v", suite, err)
			continue
		}
		all := " " + names(more) + " "
		for _, name := range strings.Fields(wanted) {
			if !strings.Contains(all, " "+name+" ") {
				t.Errorf("%s: %s is not in %s", suite, name, all)
			}
		}
		t.Logf("%s: %d packages", suite, len(more))
	}
}

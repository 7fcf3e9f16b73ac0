package builder

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ulikunitz/xz"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/pgp/pgptest"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// knows has a session read the index of a suite from an archive of the test's own,
// signed by a key that the suite has not: all that a session asks for later is in
// what it has read.
func (s *session) knows(t *testing.T, of string, date time.Time, packages map[string]string) {
	t.Helper()
	var list bytes.Buffer
	z, err := xz.NewWriter(&list)
	if err != nil {
		t.Fatal(err)
	}
	for name, version := range packages {
		priority, depends := "optional", ""
		switch {
		case name == "dpkg":
			priority = "required"
		case name == "linux-source":
			depends = "Depends: linux-source-5.10 (= 1)\n"
		}
		fmt.Fprintf(
			z,
			"Package: %s\nVersion: %s\nArchitecture: amd64\nPriority: %s\n%s"+
				"Filename: pool/%s_%s.deb\nSize: 7\nSHA256: %s\n\n",
			name,
			version,
			priority,
			depends,
			name,
			version,
			units.DigestOf([]byte(name+version)),
		)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	key := pgptest.NewKey(t, "archive", 0)
	release := fmt.Sprintf("Codename: %s\nDate: %s\nSHA256:\n %s %d main/binary-amd64/Packages.xz\n",
		of, strings.Replace(date.Format(http.TimeFormat), "GMT", "UTC", 1), units.DigestOf(list.Bytes()), list.Len())
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/dists/" + of + "/InRelease":
			w.Write(pgptest.Clear(t, release, key))
		case "/dists/" + of + "/main/binary-amd64/Packages.xz":
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(list.Bytes()))
		default:
			http.NotFound(w, r)
		}
	}))
	defer site.Close()
	parsed, err := suite.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	ac := &archive.Client{Store: s.store, HTTP: &fetch.Client{}, Mirror: archive.Mirror{URL: site.URL},
		Arch: arch.AMD64, Keyring: &pgp.Keyring{Keys: openpgp.EntityList{key}},
		Now: func() time.Time { return pgptest.Today }}
	rel, err := ac.Release(t.Context(), parsed)
	if err != nil {
		t.Fatal(err)
	}
	index, err := ac.Index(t.Context(), rel, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.indices[of+" amd64"] = indexed{rel, index}
}

// bullseye is what an archive has that the fixture could have been resolved from,
// and what has moved there since.
func bullseye(moved map[string]string) map[string]string {
	all := map[string]string{
		"dpkg":              "1.0-1",
		"apt":               "1.0-1",
		"systemd-sysv":      "1.0-1",
		"udev":              "1.0-1",
		"linux-source":      "1",
		"linux-source-5.10": "1.0-1",
	}
	for _, name := range image.Includes(archive.Minbase) {
		if all[name] == "" {
			all[name] = "1.0-1"
		}
	}
	for name, version := range moved {
		all[name] = version
	}
	return all
}

// resolved is the fixture as a build against that archive would have left it.
func resolved(t *testing.T) (*session, *Lock) {
	t.Helper()
	l := fixture(t)
	s := testSession(t)
	s.asks(l)
	s.knows(
		t,
		"bullseye",
		time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC),
		bullseye(map[string]string{"linux-source-5.10": "5.10.223-1"}),
	)
	old, err := s.updated(l, UpdateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s, old
}

// lines are the moves as text.
func lines(parts []spec.PartChange) (all []string) {
	for _, p := range parts {
		for _, m := range slices.Concat(p.Facts, p.Packages) {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s: %s -> %s", p.Part, m.Name, m.From, m.To)))
		}
	}
	return all
}

func TestUpdateMovesWhatIsNamed(t *testing.T) {
	later := map[string]string{"linux-source-5.10": "5.10.230-1", "udev": "1.1-1"}
	for _, tt := range []struct {
		parts  []string
		kernel string
		udev   string
	}{
		{nil, "5.10.230", "1.1-1"},
		{[]string{"kernel"}, "5.10.230", "1.0-1"},
		{[]string{"suite"}, "5.10.223", "1.1-1"},
		{[]string{"toolchain"}, "5.10.223", "1.0-1"},
		{[]string{"suite", "kernel"}, "5.10.230", "1.1-1"},
	} {
		s, old := resolved(t)
		old.Kernel.Patches = []PatchLock{{Path: "0001.patch", SHA256: units.DigestOf(nil)}}
		s.knows(t, "bullseye", time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC), bullseye(later))
		l, err := s.updated(old, UpdateRequest{Parts: tt.parts})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Kernel.Version.String(); got != tt.kernel {
			t.Errorf("%v: the kernel is %s, want %s", tt.parts, got, tt.kernel)
		}
		if got := versionOf(l, "udev"); got != tt.udev {
			t.Errorf("%v: udev is %s, want %s", tt.parts, got, tt.udev)
		}
		if moved := l.Rootfs.Archive.Date != old.Rootfs.Archive.Date; moved != (tt.udev == "1.1-1") ||
			moved != (l.Image.UUID != old.Image.UUID) {
			t.Errorf("%v: the archive's date moved: %v, the UUID %v", tt.parts, moved, l.Image.UUID != old.Image.UUID)
		}
		if len(l.Kernel.Patches) != 1 {
			t.Errorf("%v: the patches are lost", tt.parts)
		}
		if want := s.plan(l).actions(); l.Actions != want {
			t.Errorf("%v: it means %v, want %v", tt.parts, l.Actions, want)
		}
		got := lines(spec.Diff(old, l, s.plan(old).actions()))
		want := slices.Contains(got, "kernel linux-source-5.10: 5.10.223-1 -> 5.10.230-1")
		if want != (tt.kernel == "5.10.230") {
			t.Errorf("%v: told is\n%s", tt.parts, strings.Join(got, "\n"))
		}
	}
}

// An overlay is pinned by its digest, and nothing is built here: it need not be in the store.
func TestUpdateNeedsNoOverlay(t *testing.T) {
	s, old := resolved(t)
	old.Custom.Overlays = []spec.Overlay{{Path: "o", SHA256: units.DigestOf([]byte("gone"))}}
	s.knows(t, "bullseye", time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC), bullseye(map[string]string{"udev": "1.1-1",
		"linux-source-5.10": "5.10.223-1"}))
	l, err := s.updated(old, UpdateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if l.Custom.Digest() != old.Custom.Digest() || versionOf(l, "udev") != "1.1-1" {
		t.Errorf("it pins %+v", l.Custom)
	}
}

// An archive that was signed again and holds the same packages moves nothing.
func TestUpdateOfTheSamePackages(t *testing.T) {
	s, old := resolved(t)
	s.knows(
		t,
		"bullseye",
		time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
		bullseye(map[string]string{"linux-source-5.10": "5.10.223-1", "no-such-use": "2"}),
	)
	l, err := s.updated(old, UpdateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.Diff(old, l, s.plan(old).actions()); len(got) > 0 {
		t.Errorf("moved: %q", lines(got))
	}
	a, errA := old.Marshal()
	b, errB := l.Marshal()
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("the lock is another one: %v, %v", errA, errB)
	}
}

// A build after an update asks for the same and finds it pinned: it resolves
// nothing, and its lock is the updated one, byte for byte.
func TestBuildAfterUpdateKeepsIt(t *testing.T) {
	s, old := resolved(t)
	s.knows(
		t,
		"bullseye",
		time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC),
		bullseye(map[string]string{"linux-source-5.10": "5.10.230-1", "udev": "1.1-1"}),
	)
	l, err := s.updated(old, UpdateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, frozen := range []bool{false, true} {
		next := testSession(t)
		next.asks(l)
		next.spec.Mirror, next.spec.Frozen = "http://127.0.0.1:1/nobody-asks-it", frozen
		read, err := spec.ParseLock(want)
		if err != nil {
			t.Fatal(err)
		}
		again, err := next.resolve(t.Context(), read)
		if err != nil {
			t.Fatal(err)
		}
		again.Actions = next.plan(again).actions()
		if got, err := again.Marshal(); err != nil || !bytes.Equal(got, want) {
			t.Errorf(
				"frozen %v: the next build's lock differs: %v\n%q",
				frozen,
				err,
				lines(spec.Diff(l, again, again.Actions)),
			)
		}
	}
}

// A lock that another kimg wrote is refused by a build and becomes this one's by
// an update, which says what is made in another way.
func TestUpdateOfAnotherKimgsLock(t *testing.T) {
	s, l := resolved(t)
	l.Actions = spec.ActionsLock{Kernel: "0123456789abcdef", Image: "fedcba9876543210"}
	l.Imaging.Image = "kimg-toolchain:imaging-000000000000"
	file := filepath.Join(t.TempDir(), LockFile)
	write := func(l *Lock) {
		t.Helper()
		b, err := l.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(l)
	if _, err := replayOf(t, file, nil); err == nil || !strings.Contains(err.Error(), "differently") {
		t.Fatalf("a build from it: %v", err)
	}
	fresh, err := s.updated(l, UpdateRequest{Parts: []string{"suite"}})
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Join(lines(spec.Diff(l, fresh, s.plan(l).actions())), "\n")
	for _, want := range []string{"kernel action: 0123456789ab ->", "suite action: fedcba987654 ->",
		"toolchain image: kimg-toolchain:imaging-000000000000 ->"} {
		if !strings.Contains(told, want) {
			t.Errorf("not told: %s, but\n%s", want, told)
		}
	}
	write(fresh)
	if _, err := replayOf(t, file, nil); err != nil {
		t.Errorf("a build from the updated lock: %v", err)
	}
}

// A toolchain that was resolved because its packages were gone moves to what
// ships with a newer kimg, and not back to what shipped with an older one.
func TestUpdateToolchain(t *testing.T) {
	s, l := resolved(t)
	shipped := l.Toolchain.Lock
	old := *shipped
	old.Date = old.Date.AddDate(-1, 0, 0)
	old.Packages = slices.Clone(old.Packages)
	old.Packages[0].Version = "0.1"
	l.Toolchain.Lock, l.Toolchain.Origin = &old, spec.Resolved
	fresh, err := s.updated(l, UpdateRequest{Parts: []string{"toolchain"}})
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Toolchain.Origin != spec.Shipped || fresh.Toolchain.Image != shipped.Ref() ||
		fresh.Kernel.Epoch != shipped.Date.Unix() {
		t.Errorf(
			"an older one moved to %s (%s), epoch %d",
			fresh.Toolchain.Image,
			fresh.Toolchain.Origin,
			fresh.Kernel.Epoch,
		)
	}
	if fresh.Imaging.Image != l.Imaging.Image {
		t.Errorf("imaging moved to %s", fresh.Imaging.Image)
	}
	old.Date = shipped.Date.AddDate(1, 0, 0)
	s.from.Mirror = "http://127.0.0.1:1/debian"
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.update(ctx, l, s.spec, UpdateRequest{Parts: []string{"toolchain"}}); err == nil ||
		!strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("a newer one must be resolved from the archive: %v", err)
	}
}

// The command's own part: the file, and nothing beside it.
func TestUpdateWritesTheLockAlone(t *testing.T) {
	s, l := resolved(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "my.lock")
	l.Imaging.Image = "kimg-toolchain:imaging-000000000000"
	before, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, before, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.lock")
	if err := os.Symlink("my.lock", link); err != nil {
		t.Fatal(err)
	}
	sp := spec.Default()
	sp.Lock = link
	for _, dry := range []bool{true, false} {
		c, err := Update(t.Context(), s.env, sp, UpdateRequest{Parts: []string{"toolchain"}, DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if c.Written == dry || bytes.Equal(before, after) != dry || len(c.Parts) == 0 {
			t.Errorf(
				"dry run %v: written %v, the same %v, %q",
				dry,
				c.Written,
				bytes.Equal(before, after),
				lines(c.Parts),
			)
		}
	}
	if c, err := Update(t.Context(), s.env, sp, UpdateRequest{Parts: []string{"toolchain"}}); err != nil || c.Written ||
		len(c.Parts) > 0 {
		t.Errorf("again: %+v, %v", c, err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 || names[0].Type()&os.ModeSymlink == 0 {
		t.Errorf("the directory has %v, %v", names, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode: %v, %v", info.Mode(), err)
	}
	sp.Lock = filepath.Join(dir, "none")
	if _, err := Update(t.Context(), s.env, sp, UpdateRequest{}); err == nil ||
		!strings.Contains(err.Error(), "there is no ") {
		t.Errorf("no lock: %v", err)
	}
	if _, err := Update(t.Context(), s.env, sp, UpdateRequest{Parts: []string{"rootfs"}}); err == nil {
		t.Error("an unknown part is taken")
	}
}

func versionOf(l *Lock, name string) string {
	for _, p := range l.Rootfs.Packages() {
		if p.Name == name {
			return p.Version
		}
	}
	return ""
}

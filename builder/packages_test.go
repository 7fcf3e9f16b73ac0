package builder

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/deb/debtest"
	"github.com/kimg/kimg/internal/pgp/pgptest"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/units"
)

// toolsSite serves an archive of the test's own with the packages tool 2 and udev 9, and returns its line.
func toolsSite(t *testing.T) (line string, files map[string][]byte) {
	t.Helper()
	var list, key bytes.Buffer
	files = map[string][]byte{}
	for name, version := range map[string]string{"tool": "2", "udev": "9"} {
		content := []byte("the file of " + name)
		files["/pool/"+name+".deb"] = content
		fmt.Fprintf(&list, "Package: %s\nVersion: %s\nArchitecture: amd64\nPriority: required\nDepends: dpkg\n"+
			"Filename: pool/%s.deb\nSize: %d\nSHA256: %s\n\n",
			name, version, name, len(content), units.DigestOf(content))
	}
	owner := pgptest.NewKey(t, "owner", 0)
	if err := owner.Serialize(&key); err != nil {
		t.Fatal(err)
	}
	files["/dists/stable/main/binary-amd64/Packages"] = list.Bytes()
	files["/dists/stable/InRelease"] = pgptest.Clear(t, fmt.Sprintf("Origin: Tools Inc\nSuite: stable\n"+
		"Date: Mon, 15 Jun 2026 10:00:00 UTC\nSHA256:\n %s %d main/binary-amd64/Packages\n",
		units.DigestOf(list.Bytes()), list.Len()), owner)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, ok := files[r.URL.Path]; ok {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		} else {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(site.Close)
	file := filepath.Join(t.TempDir(), "owner.gpg")
	if err := os.WriteFile(file, key.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return "deb [signed-by=" + file + "] " + site.URL + " stable main", files
}

// beside is a session that knows bullseye.
func beside(t *testing.T) *session {
	t.Helper()
	s := openSession(t, Env{Cache: t.TempDir(), Host: t.TempDir(), Now: func() time.Time { return pgptest.Today }},
		spec.Default())
	s.asks(fixture(t))
	s.knows(t, "bullseye", time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC),
		bullseye(map[string]string{"linux-source-5.10": "5.10.223-1"}))
	return s
}

func TestOtherArchive(t *testing.T) {
	line, files := toolsSite(t)
	s := beside(t)
	s.spec.Archives, s.spec.Include = []string{line}, []string{"tool"}
	l, err := s.resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Rootfs.Archives) != 1 || l.Rootfs.Archives[0].Origin != "Tools Inc" ||
		len(l.Rootfs.Archives[0].SignedBy) != 1 || l.Rootfs.Archives[0].Key.Path != "owner.gpg" {
		t.Errorf("pinned: %+v", l.Rootfs.Archives)
	}
	if versionOf(l, "tool") != "2" || versionOf(l, "udev") != "9" || l.Rootfs.Required[0].Name != "dpkg" ||
		len(l.Rootfs.Required) != 1 {
		t.Errorf("chosen: %+v", l.Rootfs.Packages())
	}
	var its []archive.Locked
	for _, p := range l.Rootfs.Packages() {
		if p.From != "" {
			its = append(its, p)
		}
	}
	only := l.Rootfs
	only.Required, only.Base = nil, its
	task := progress.Start(s.env.Sink, "t", "t")
	if err := s.fetchRootfs(t.Context(), only, task); err != nil {
		t.Fatal(err)
	}
	for _, p := range its {
		if err := s.store.Verify(p.SHA256); err != nil {
			t.Error(err)
		}
	}

	// The lock is read as it was written, and nobody is asked again.
	clear(files)
	l.Actions = s.plan(l).actions()
	text, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	read, err := spec.ParseLock(text)
	if err != nil {
		t.Fatal(err)
	}
	if q := read.Request(); q.Check() != nil || len(q.Archives) != 1 {
		t.Errorf("asked for by the lock: %+v, %v", q.Archives, q.Check())
	}
	s.indices = nil
	again, err := s.resolve(t.Context(), read)
	if err != nil {
		t.Fatal(err)
	}
	again.Actions = s.plan(again).actions()
	if b, err := again.Marshal(); err != nil || !bytes.Equal(b, text) {
		t.Errorf("another lock: %v\n%s", err, b)
	}

	materials, index := read.Materials(), false
	for _, m := range materials {
		index = index || m.URI == read.Rootfs.Archives[0].URL+"/dists/stable/InRelease" &&
			slices.Equal(m.SignedBy, read.Rootfs.Archives[0].SignedBy)
		if m.Name == "tool" && (m.Supplier != "Tools Inc" || !strings.HasPrefix(m.URI, "pkg:deb/tools-inc/tool@2?") ||
			!strings.Contains(m.URI, "repository_url=")) {
			t.Errorf("the package's material: %+v", m)
		}
	}
	if !index {
		t.Error("its index is no material")
	}
	if got := fmt.Sprint(read.Requested()["archives"]); !strings.HasPrefix(got, "[deb [signed-by=owner.gpg] http://") {
		t.Errorf("requested: %s", got)
	}

	s.spec.Frozen, s.spec.Archives = true, nil
	var frozen *FrozenError
	if _, err := s.resolve(t.Context(), read); !errors.As(err, &frozen) {
		t.Errorf("--frozen without it: %v", err)
	}
	moved := read
	moved.Rootfs.Base[0].From = "http://nowhere stable"
	if b, err := moved.Marshal(); err != nil {
		t.Fatal(err)
	} else if _, err := spec.ParseLock(b); err == nil || !strings.Contains(err.Error(), "of which it says nothing") {
		t.Errorf("a package from nowhere: %v", err)
	}
}

// A package that has left another archive is missing, as one of the suite's is.
func TestOtherArchiveLostAPackage(t *testing.T) {
	line, files := toolsSite(t)
	s := beside(t)
	s.spec.Archives, s.spec.Include = []string{line}, []string{"tool"}
	l, err := s.resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	delete(files, "/pool/tool.deb")
	only := l.Rootfs
	own := func(p archive.Locked) bool { return p.From == "" }
	only.Required, only.Base = nil, slices.DeleteFunc(slices.Clone(only.Base), own)
	err = s.fetchRootfs(t.Context(), only, progress.Start(s.env.Sink, "t", "t"))
	var gone *archive.MissingError
	if !errors.As(err, &gone) || gone.Snapshot != "" || !strings.Contains(err.Error(), "tool 2 (http://") ||
		!strings.Contains(err.Error(), "/pool/tool.deb)") || !strings.Contains(gone.Hint(), "has to mend it") {
		t.Errorf("%v", err)
	}
	if all := (&MissingError{Parts: []MissingPart{{"suite", "x", err}}}).Hint(); all != gone.Hint() {
		t.Errorf("what another archive lost is looked for elsewhere: %s", all)
	}
	files["/pool/tool.deb"] = []byte("the file of tooL")
	var wrong *archive.LineError
	err = s.fetchRootfs(t.Context(), only, progress.Start(s.env.Sink, "t", "t"))
	if !errors.As(err, &wrong) || isMissing(err) ||
		!strings.Contains(err.Error(), "not the file that was asked for") ||
		!strings.Contains(wrong.Hint(), "do not fit each other") {
		t.Errorf("another file: %v", err)
	}
}

func TestOwnDeb(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "any name at all.deb")
	put := func(body, more string) {
		t.Helper()
		b := debtest.Make(t, ".xz", []debtest.Entry{debtest.File("./control", debtest.Stanza("mine", more))},
			[]debtest.Entry{debtest.Dir("./opt/"), debtest.File("./opt/x", body)})
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("one", "Depends: udev (>= 1)\nPriority: required\n")
	s := beside(t)
	s.spec.Include = []string{file, "kmod"}
	l, err := s.resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(l.Rootfs.Base, func(p archive.Locked) bool { return p.Name == "mine" })
	if i < 0 {
		t.Fatalf("chosen: %+v", l.Rootfs)
	}
	mine := l.Rootfs.Base[i]
	if mine.From != archive.Local || mine.Filename != "mine_1.0-1_amd64.deb" || s.store.Verify(mine.SHA256) != nil ||
		!slices.Equal(l.Rootfs.Include, []string{"kmod"}) {
		t.Errorf("pinned: %+v, includes %q", mine, l.Rootfs.Include)
	}
	l.Actions = s.plan(l).actions()
	lock := writeLock(t, l)
	read, err := spec.ReadLock(lock)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range read.Materials() {
		if m.Name == "mine" && (m.URI != "" || m.Supplier != "" || m.Digest != mine.SHA256) {
			t.Errorf("its material: %+v", m)
		}
	}

	// A later build asks nobody, with the file and without it; another file is another request.
	s.indices = nil
	for _, q := range []spec.Request{read.Request(), s.resolver(nil).q} {
		r := &resolver{Sources: s.Sources, q: q, old: read}
		if again, err := r.rootfs(t.Context()); err != nil || again.Base[i] != mine {
			t.Errorf("again: %v", err)
		}
	}
	put("two", "")
	s.spec.Frozen = true
	var wrong *archive.FileError
	if _, err := s.resolve(t.Context(), read); !errors.As(err, &wrong) ||
		!strings.Contains(err.Error(), "not what the lock pins") {
		t.Errorf("--frozen with another: %v", err)
	}
	if err := os.Remove(s.store.Path(mine.SHA256)); err != nil {
		t.Fatal(err)
	}
	r := &resolver{Sources: s.Sources, q: read.Request(), old: read}
	var none *DebError
	if _, err := r.rootfs(t.Context()); !errors.As(err, &none) || !strings.Contains(err.Error(), mine.Filename) {
		t.Errorf("not in the store: %v", err)
	}
	only := l.Rootfs
	only.Required, only.Base = nil, []archive.Locked{mine}
	if err := s.fetchRootfs(t.Context(), only, progress.Start(s.env.Sink, "t", "t")); !errors.As(err, &none) {
		t.Errorf("not in the store: %v", err)
	}
}

// A lock's .deb file may be named beside it.
func TestOwnDebWithALock(t *testing.T) {
	_, l := written(t)
	body := debtest.Make(t, "", []debtest.Entry{debtest.File("./control", debtest.Stanza("mine"))}, nil)
	l.Rootfs.Base = append(l.Rootfs.Base, archive.Locked{Name: "mine", Version: "1.0-1", Arch: "amd64", Size: 1,
		Filename: "mine_1.0-1_amd64.deb", SHA256: units.DigestOf(body), From: archive.Local})
	l.Image = spec.NewImageLock(l.Image.Size, l.Rootfs, l.Custom)
	l.Actions = testSession(t).plan(l).actions()
	lock := writeLock(t, l)
	file := filepath.Join(t.TempDir(), "x.deb")
	files(t, filepath.Dir(file), "x.deb", string(body), "y.deb", "another")
	var none *DebError
	if _, err := replayOf(t, lock, nil); !errors.As(err, &none) {
		t.Errorf("without it: %v", err)
	}
	with := func(include ...string) func(*Spec) {
		return func(s *Spec) { s.Include, s.Given = include, []string{"include"} }
	}
	if _, err := replayOf(t, lock, with(file)); err != nil {
		t.Errorf("with it: %v", err)
	}
	var wrong *archive.FileError
	if _, err := replayOf(t, lock, with(filepath.Join(filepath.Dir(file), "y.deb"))); !errors.As(err, &wrong) {
		t.Errorf("with another: %v", err)
	}
	var bad *InputError
	for _, include := range [][]string{{"strace", file}, {file, file + "x"}} {
		if _, err := replayOf(t, lock, with(include...)); !errors.As(err, &bad) || bad.Field != "--include" {
			t.Errorf("with %q: %v", include, err)
		}
	}
}

func TestOwnDebRefused(t *testing.T) {
	control := func(stanza string) []byte {
		return debtest.Make(t, ".gz", []debtest.Entry{debtest.File("./control", stanza)},
			[]debtest.Entry{debtest.File("./x", strings.Repeat("x", 3000))})
	}
	whole := control(debtest.Stanza("mine"))
	for name, c := range map[string]struct {
		deb  []byte
		says string
	}{
		"none":           {[]byte("<html>"), "it is no Debian package, which is an ar archive"},
		"empty":          {nil, "it is no Debian package, which is an ar archive"},
		"cut off":        {whole[:len(whole)-20], "unexpected EOF"},
		"without data":   {whole[:len(whole)-400], "unexpected EOF"},
		"no control":     {control(""), "no control file"},
		"another's":      {control(strings.Replace(debtest.Stanza("mine"), "amd64", "arm64", 1)), "it is of arm64"},
		"a bad name":     {control(strings.Replace(debtest.Stanza("mine"), "mine", "../mine", 1)), "bad one"},
		"a bad version":  {control(strings.Replace(debtest.Stanza("mine"), "1.0-1", "1 0", 1)), "Version"},
		"older":          {control(debtest.Stanza("udev")), "the suite has the newer 1.0-1+deb1"},
		"a conflict":     {control(debtest.Stanza("mine", "Conflicts: udev\n")), "mine excludes udev"},
		"a dependency":   {control(debtest.Stanza("mine", "Depends: nowhere\n")), "it depends on nowhere"},
		"no relation":    {control(debtest.Stanza("mine", "Depends: udev (>= \n")), "relates to"},
		"damaged inside": {flipped(whole, len(whole)-40), ""},
	} {
		s := beside(t)
		s.knows(t, "bullseye", time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC),
			bullseye(map[string]string{"linux-source-5.10": "5.10.223-1", "udev": "1.0-1+deb1"}))
		file := filepath.Join(t.TempDir(), "mine.deb")
		files(t, filepath.Dir(file), "mine.deb", string(c.deb))
		s.spec.Include = []string{file}
		if _, err := s.resolve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), c.says) ||
			!strings.Contains(err.Error(), "mine") {
			t.Errorf("%s: %v, want it to say %s", name, err, c.says)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x55
	return b
}

// Components that are not the family's own are in the key of the tree, whose apt has them; a package's archive is not.
func TestComponentsAreInTheKey(t *testing.T) {
	ids := func(edit func(*Lock)) map[string]steps.ActionID {
		l, m := fixture(t), map[string]steps.ActionID{}
		edit(l)
		for _, s := range testSession(t).plan(l).All {
			m[s.ID] = s.ActionID()
		}
		return m
	}
	bare := ids(func(*Lock) {})
	with := ids(func(l *Lock) { l.Rootfs.Components = []string{"main", "contrib"} })
	if bare[rootfsStep] == with[rootfsStep] || bare[packagesStep] != with[packagesStep] {
		t.Error("components change the wrong steps")
	}
	other := ids(func(l *Lock) { l.Rootfs.Base[0].From = archive.Local })
	for id, action := range bare {
		if other[id] != action {
			t.Errorf("where a package is from changes %s", id)
		}
	}
	s := beside(t)
	s.spec.Components = []string{"main"}
	l, err := s.resolve(t.Context(), nil)
	if err != nil || l.Rootfs.Components != nil {
		t.Errorf("the family's own: %q, %v", l.Rootfs.Components, err)
	}
}

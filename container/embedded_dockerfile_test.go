package container

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDockerfile(t *testing.T) {
	const two = "ARG BASE=b\nFROM ${BASE}:1 AS one\nARG X=y\nrun a \\\n  # no\n\n  b\n" +
		"FROM one As two\nCOPY a /b\nFROM other\n"
	for _, test := range []struct {
		text, target string
		args         map[string]string
		want         string // the base and the stages, or what is in the error
	}{
		{text: "FROM x\n", want: "x []"},
		{text: two, want: "other []"},
		{text: two, target: "two", want: "b:1 [ARG X=y RUN a   b][COPY a /b]"},
		{text: two, target: "ONE", args: map[string]string{"BASE": "c"}, want: "c:1 [ARG X=y RUN a   b]"},
		{text: two, target: "three", want: `no stage "three"`},
		{text: "# FROM x\n", want: "the dockerfile is empty"},
		{text: "RUN x\nFROM y\n", want: "line 1: RUN comes before FROM"},
		{text: "FROM x\n\nENV A=b\n", want: "line 3: unknown instruction: ENV"},
		{text: "FROM x\nCOPY --from=y a b\n", want: "line 2: not known by the embedded engine: COPY --from=y a b"},
		{text: "FROM x\nRUN a \\\n", want: "line 2: it goes on after the end"},
		{text: "FROM ${A:-x}\n", want: "line 1: not known by the embedded engine: ${A:-x}"},
		{text: "FROM x y\n", want: "line 1: want FROM IMAGE [AS NAME]"},
		// A name that is given later is an image's: no circle.
		{text: "FROM one\nFROM one AS one\nRUN x\n", want: "one [RUN x]"},
	} {
		r, err := parseDockerfile(test.text, test.target, test.args)
		if err != nil {
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q: %v, want %q", test.text, err, test.want)
			}
			continue
		}
		got := r.base + " "
		for _, stage := range r.stages {
			got += fmt.Sprint(stage)
		}
		if got != test.want {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
}

func TestArgv(t *testing.T) {
	for rest, want := range map[string][]string{
		`["a", "b c"]`:   {"a", "b c"},
		`[ -d x ] && y`:  {"/bin/sh", "-c", "[ -d x ] && y"},
		`echo "a" > /b`:  {"/bin/sh", "-c", `echo "a" > /b`},
		`[]`:             {"/bin/sh", "-c", "[]"},
		`["a"] && b`:     {"/bin/sh", "-c", `["a"] && b`},
		`exec $X "${Y}"`: {"/bin/sh", "-c", `exec $X "${Y}"`},
	} {
		if d := cmp.Diff(want, instruction{name: "RUN", rest: rest}.argv()); d != "" {
			t.Error(d)
		}
	}
}

// What COPY takes of a context, and what it calls it.
func TestSelectFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "context.tar")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "./debs/", Typeflag: tar.TypeDir, Uid: 5, Uname: "me"}, {Name: "debs/a.deb"},
		{Name: "debs/b", Typeflag: tar.TypeLink, Linkname: "debs/a.deb"}, {Name: "debs-not/c"}, {Name: "one"},
		{Name: "../two"}, {Name: "bad/link", Typeflag: tar.TypeLink, Linkname: "one"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ sources, to, want string }{
		{"debs one", "/debs/", "debs/a.deb debs/b>debs/a.deb debs/one"},
		{"one", "x/y", "x/y"},
		{"./one", "/", "one"},
		{"two", "/../", "two"},
		{"debs", "deep/er", "deep/er/a.deb deep/er/b>deep/er/a.deb"},
		{".", "/all", "all/debs all/debs/a.deb all/debs/b>all/debs/a.deb all/debs-not/c all/one all/two " +
			"all/bad/link>all/one"},
		{"one none", "/x/", "error: COPY failed: none is not in the build context"},
		{"bad", "/x", "error: COPY x/link: it is a link to what is not copied"},
	} {
		var out bytes.Buffer
		err := selectFrom(file, strings.Fields(test.sources), test.to, &out)
		var got []string
		for tr := tar.NewReader(&out); err == nil; {
			h, end := tr.Next()
			if end == io.EOF {
				break
			}
			if end != nil {
				t.Fatal(end)
			}
			name := h.Name
			if h.Linkname != "" {
				name += ">" + h.Linkname
			}
			if h.Uid != 0 || h.Uname != "" {
				t.Errorf("%s belongs to %d, %q", h.Name, h.Uid, h.Uname)
			}
			got = append(got, name)
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = "error: " + err.Error()
		}
		if text != test.want {
			t.Errorf("COPY %s %s: got %q, want %q", test.sources, test.to, text, test.want)
		}
	}
}

func TestLastOfEach(t *testing.T) {
	got := lastOfEach([]string{"A=1", "B=2", "A=3", "C", "B="})
	if d := cmp.Diff([]string{"A=3", "B=", "C"}, got); d != "" {
		t.Error(d)
	}
}

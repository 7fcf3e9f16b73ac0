package container_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

func dockerfile(t *testing.T, text string) io.Reader {
	return containertest.Tar(t, containertest.File{Name: "Dockerfile", Mode: 0o644, Body: []byte(text)})
}

func TestBuild(t *testing.T) { each(t, testBuild) }

func testBuild(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	const tag = "kimg-test:built"
	t.Cleanup(func() { e.RemoveImage(context.WithoutCancel(t.Context()), tag) })
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	text := "ARG FROM\nFROM ${FROM}" + ` AS first
ARG WHO
RUN ["/helper", "net"]
# A comment.
RUN [ \
    # Another one.
    "/helper", "write", "/tmp/who", "x"]
RUN ["/helper", "env"]
COPY sub alone to/
COPY alone /tmp/renamed
`
	if e.Info().Name != "embedded" {
		text += `ENV WHO=$WHO
ENTRYPOINT ["/not/there"]
CMD ["/not/there"]
`
	}
	text += `FROM first AS second
RUN ["/helper", "exit", "1"]
`
	io.Copy(z, containertest.Tar(t, containertest.File{Name: "Dockerfile", Mode: 0o644, Body: []byte(text)},
		containertest.File{Name: "sub/", Mode: 0o700, UID: 7}, containertest.File{Name: "sub/deep/", Mode: 0o750},
		containertest.File{Name: "sub/deep/file", Mode: 0o640, UID: 7, GID: 7, Body: []byte("deep")},
		containertest.File{Name: "alone", Mode: 0o600}, containertest.File{Name: "other", Mode: 0o600}))
	z.Close()
	var log bytes.Buffer
	err := e.Build(t.Context(), container.BuildSpec{Context: &packed, Tag: tag, Target: "first",
		Args: map[string]string{"WHO": "the builder", "FROM": ref}, Labels: map[string]string{"a": "b"}, Log: &log})
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if text := log.String(); !strings.Contains(strings.ToLower(text), "step 1/") || !strings.Contains(text, "\nlo\n") ||
		strings.Contains(text, "eth0") || !strings.Contains(text, "\nWHO=the builder\n") {
		t.Errorf("log:\n%s", text)
	}
	for name, want := range map[string]string{
		"/tmp/who": "644 0 0\n", "/to/deep": "750 0 0\n", "/to/deep/file": "640 0 0\n", "/to/alone": "600 0 0\n",
		"/tmp/renamed": "600 0 0\n", "/tmp": "1777 0 0\n", "/to/other": "", "/to/sub": "",
	} {
		out, _, err := run(t, e, container.Cmd{Image: tag, Args: []string{"stat", name}})
		if (err == nil) != (want != "") || err == nil && out != want {
			t.Errorf("%s: got %q, %v, want %q", name, out, err, want)
		}
	}
	if e.Info().Name != "embedded" {
		out, _, err := run(t, e, container.Cmd{Image: tag, Args: []string{"env"}})
		if err != nil || !strings.Contains(out, "WHO=the builder\n") {
			t.Errorf("got %q, %v", out, err)
		}
	}
	if id, ok, err := e.ImageID(t.Context(), tag); !strings.HasPrefix(id, "sha256:") || !ok || err != nil {
		t.Errorf("ImageID: %q %t %v", id, ok, err)
	}
	nothingLeft(t, e, ref)
}

func TestBuildFails(t *testing.T) { each(t, testBuildFails) }

func testBuildFails(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	const tag = "kimg-test:not-built"
	status := "returned a non-zero code: 3"
	if e.Info().Name == "podman" {
		status = "exit status 3"
	}
	for name, text := range map[string]string{
		status: "FROM " + ref + "\nRUN [\"/helper\", \"echo\", \"x\"]\nRUN [\"/helper\", " +
			"\"exit\", \"3\"]\n",
		"unknown instruction: FETCH": "FROM " + ref + "\nFETCH x\n",
		"dockerfile":                 "",
	} {
		err := e.Build(t.Context(), container.BuildSpec{Context: dockerfile(t, text), Tag: tag})
		said := ""
		if err != nil {
			said = strings.ToLower(strings.ReplaceAll(err.Error(), `"`, ""))
		}
		if !strings.Contains(said, strings.ToLower(name)) ||
			!strings.HasPrefix(err.Error(), "build image "+tag+": ") {
			t.Errorf("got %v, want %q", err, name)
		}
		nothingLeft(t, e, ref)
	}
	if _, ok, err := e.ImageID(t.Context(), tag); ok || err != nil {
		t.Errorf("a failed build made an image (%v)", err)
	}
	if err := e.RemoveImage(t.Context(), tag); err != nil {
		t.Errorf("remove an image that is not there: %v", err)
	}
}

func TestImportBad(t *testing.T) { each(t, testImportBad) }

func testImportBad(t *testing.T, e container.Engine) {
	const ref = "kimg-test:bad-import"
	whole, _ := io.ReadAll(containertest.Tar(t, containertest.File{Name: "f", Mode: 0o644, Body: make([]byte, 1<<20)}))
	err := e.Import(t.Context(), ref, bytes.NewReader(whole[:1<<19]))
	if err == nil || !strings.HasPrefix(err.Error(), "import image "+ref+": ") {
		t.Errorf("a truncated tar: %v", err)
	}
	if _, ok, _ := e.ImageID(t.Context(), ref); ok {
		t.Error("a truncated tar made an image")
		e.RemoveImage(t.Context(), ref)
	}
}

package apitest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestExternalModule compiles and runs a program of another module, without a network.
func TestExternalModule(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(name string, text []byte, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("testdata/ext/main.go")
	put("main.go", text, err)
	text, err = os.ReadFile(filepath.Join(root, "go.sum"))
	put("go.sum", text, err)
	put("go.mod", []byte("module example.com/ext\n\ngo 1.26\n\n"+
		"require github.com/kimg/kimg v0.0.0\n\nreplace github.com/kimg/kimg => "+root+"\n"), nil)

	goRun := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off", "GOWORK=off",
			"DOCKER_HOST=unix://"+dir+"/none")
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, &said)
		}
		return out
	}
	goRun("vet", ".")
	const want = `4 files in small
true
this engine makes no containers
trixie true
true
true
bootstrap trixie: unknown variant "huge"
true
`
	if got := string(goRun("run", ".", filepath.Join(root, "ext4/testdata/small.img"))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

package apitest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExternalModule compiles and runs the example of another module, without a network.
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
	text, err := os.ReadFile("testdata/ext/ext_test.go")
	put("ext_test.go", text, err)
	text, err = os.ReadFile(filepath.Join(root, "go.sum"))
	put("go.sum", text, err)
	// All that kimg's own requires: with less go would ask for the whole graph of modules, of which a fresh module
	// cache does not have all.
	text, err = os.ReadFile(filepath.Join(root, "go.mod"))
	own, ok := strings.CutPrefix(string(text), "module github.com/kimg/kimg\n")
	if err == nil && !ok {
		t.Fatalf("go.mod begins otherwise:\n%s", text)
	}
	put("go.mod", []byte("module example.com/ext\n"+own+"\nrequire github.com/kimg/kimg v0.0.0\n\n"+
		"replace github.com/kimg/kimg => "+root+"\n"), err)

	cmd := exec.Command("go", "test", "-count=1", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOPROXY=off", "GOSUMDB=off", "GOWORK=off",
		"DOCKER_HOST=unix://"+dir+"/none", "IMAGE="+filepath.Join(root, "ext4/testdata/small.img"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

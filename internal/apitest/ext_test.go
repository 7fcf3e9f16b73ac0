package apitest

import (
	"os"
	"os/exec"
	"path/filepath"
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
	put("go.mod", []byte("module example.com/ext\n\ngo 1.26\n\n"+
		"require github.com/kimg/kimg v0.0.0\n\nreplace github.com/kimg/kimg => "+root+"\n"), nil)

	cmd := exec.Command("go", "test", "-count=1", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off", "GOWORK=off",
		"DOCKER_HOST=unix://"+dir+"/none", "IMAGE="+filepath.Join(root, "ext4/testdata/small.img"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

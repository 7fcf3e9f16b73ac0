package spec_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/builder/spec"
)

func ExampleLoad() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	text := "kernel: 4.20.6\nsuite: bionic\nset: [KASAN=y]\nsize: 2G\n"
	if err := os.WriteFile(filepath.Join(dir, spec.File), []byte(text), 0o600); err != nil {
		log.Fatal(err)
	}
	sp, err := spec.Load(dir)
	if err != nil {
		log.Fatal(err)
	}
	request, err := sp.Request()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(request.Kernel, request.Suite, request.Config.Base, request.Config.Set, request.Size)
	// Output: 4.20.6 bionic defconfig [KASAN=y] 2G
}

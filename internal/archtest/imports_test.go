// Package archtest holds the direction of imports that docs/architecture.md draws:
// which rooms may import which, and the floors that all packages are on.
package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kimg/kimg"

// rule says which packages of this module the packages under a path may import,
// besides those under the path itself.
type rule struct {
	under string
	may   []string // paths, each with all that is under it
}

// rules is tried from the top: the first one that a package is under is its own.
var rules = []rule{
	{"cmd", []string{"builder", "image", "ext4", "container", "internal"}},
	{"builder", []string{"image", "ext4", "container", "internal"}},
	{"image", []string{"ext4", "container", "internal"}},
	{"ext4", []string{"internal"}},
	{"container", []string{"internal"}},
	{"internal/vm", []string{"container", "internal"}},
	{"internal/toolbox", []string{"container", "internal"}}, // QEMU may live in a container
	{"internal", []string{"internal"}},
}

// importers are the rules' paths whose packages alone may import the packages of internal
// that stand on container.
var importers = map[string][]string{
	"internal/vm":      {"cmd", "builder", "internal/vm"},
	"internal/toolbox": {"cmd", "internal/vm", "internal/toolbox"},
}

// floors are all packages, from the ground up. A package imports only packages of
// floors below its own, so that there are no circles of rooms either.
var floors = [][]string{
	{"internal/sandbox/watch"},
	{
		"internal/arch", "internal/deb822", "internal/decompress", "internal/editdist", "internal/elffile",
		"internal/filelock", "internal/guest", "internal/inode", "internal/lettercase", "internal/needs",
		"internal/pgp", "internal/reading", "internal/sandbox/owners", "internal/sparse", "internal/stamp",
		"internal/tap", "internal/terminal", "internal/units", "internal/version",
		"builder/kernel/diffs",
	},
	{
		"internal/addr2line", "internal/artifact", "internal/cache", "internal/gdb", "internal/progress",
		"internal/qemu", "internal/sandbox", "internal/sandbox/foreign", "internal/splat", "internal/suite",
		"internal/yamlfile",
		"builder/kernel/kconfig", "builder/kernel/tree",
	},
	{"internal/store", "internal/checks", "internal/custom", "internal/decode", "internal/form", "internal/recording"},
	{"internal/fetch", "internal/steps"},
	{"internal/archive", "internal/kernelorg", "ext4", "container"},
	{"internal/deb"},
	{
		"image", "internal/toolbox", "internal/vm/kept",
		"builder/attest", "builder/keep", "builder/kernel", "builder/toolchain",
	},
	{"image/export", "internal/vm", "builder/spec"},
	{"builder/outdir", "internal/vm/replay"},
	{"builder/compare", "internal/vm/why"},
	{"builder"},
	{"cmd/kimg"},
}

// forTests are packages that only tests import.
var forTests = []string{
	"internal/archtest", "internal/apitest", "internal/e2e", "internal/pgp/pgptest", "internal/deb/debtest",
	"internal/steps/goldentest", "internal/tap/taptest", "internal/vm/replay/replaytest",
	"container/containertest", "builder/attest/attesttest", "builder/spec/spectest",
}

// floor is the floor that a package is on; -1: none, it is for tests.
func floor(path string) (int, error) {
	for i, list := range floors {
		if slices.Contains(list, path) {
			return i, nil
		}
	}
	for _, p := range forTests {
		if under(path, p) {
			return -1, nil
		}
	}
	return 0, fmt.Errorf("%s is on no floor: give it one here, and a line in docs/architecture.md", path)
}

// only says who alone may import an outside module, and why.
var only = []struct{ outside, importer, why string }{
	{"github.com/docker/docker", "container", "so that a move to another client is a change of one package"},
	{"github.com/spf13/cobra", "cmd", "so that the other packages know nothing of flags"},
}

// proving names what the tests in an external package (image_test) may import
// besides: they are no part of their room and need the real thing to work on.
var proving = map[[2]string]string{
	{module + "/image", module +
		"/builder/toolchain"}: "file systems are made in the imaging image, which toolchain makes",
}

// check returns what is wrong with one import, or "".
func check(importer, imported string) string {
	for _, o := range only {
		if under(imported, o.outside) && !under(importer, module+"/"+o.importer) {
			return fmt.Sprintf("%s imports %s: only %s may, %s", importer, imported, o.importer, o.why)
		}
	}
	from, own := strings.CutPrefix(importer, module+"/")
	to, ours := strings.CutPrefix(imported, module+"/")
	if !own || !ours {
		return ""
	}
	for _, r := range rules {
		if !under(from, r.under) {
			continue
		}
		for _, path := range append(r.may, r.under) {
			if who, high := importers[to]; under(to, path) && (!high || slices.Contains(who, r.under)) {
				return ""
			}
		}
		return fmt.Sprintf("%s imports %s: %s may import %s", from, to, r.under, strings.Join(r.may, ", "))
	}
	return fmt.Sprintf("%s is in no room: see docs/architecture.md", from)
}

func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// checkFloors returns what is wrong with a package's imports, or "".
func checkFloors(importer string, imports []string) string {
	own, err := floor(strings.TrimPrefix(importer, module+"/"))
	if err != nil {
		return err.Error()
	}
	for _, imported := range imports {
		to, ours := strings.CutPrefix(imported, module+"/")
		if !ours || own < 0 {
			continue
		}
		switch on, err := floor(to); {
		case err != nil:
			return err.Error()
		case on < 0:
			return fmt.Sprintf("%s imports %s, which is for tests", importer, to)
		case on >= own:
			return fmt.Sprintf("%s (floor %d) imports %s (floor %d): imports go down", importer, own, to, on)
		}
	}
	return ""
}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	seen := 0
	var known []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.XTestImports = slices.DeleteFunc(p.XTestImports, func(imported string) bool {
			return proving[[2]string{p.ImportPath, imported}] != ""
		})
		if wrong := checkFloors(p.ImportPath, p.Imports); wrong != "" {
			t.Error(wrong)
		}
		known = append(known, strings.TrimPrefix(p.ImportPath, module+"/"))
		for _, list := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
			for _, imported := range list {
				if wrong := check(p.ImportPath, imported); wrong != "" {
					t.Error(wrong)
				}
			}
		}
	}
	for _, path := range slices.Concat(append(floors, forTests)...) {
		if !slices.Contains(known, path) {
			t.Errorf("%s has a floor, and is not there", path)
		}
	}
	if seen < 10 {
		t.Errorf("go list named %d packages: this test saw next to nothing", seen)
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"cmd/kimg", "builder", true},
		{"cmd/kimg", "internal/vm", true},
		{"builder", "builder/kernel", true},
		{"builder/kernel", "builder/toolchain", true},
		{"builder", "image", true},
		{"image", "ext4", true},
		{"image", "container", true},
		{"internal/vm", "internal/toolbox", true},
		{"internal/vm", "internal/qemu", true},
		{"internal/toolbox", "container", true},
		{"internal/toolbox", "internal/qemu", true},
		{"internal/archive", "internal/store", true},

		{"builder", "cmd/kimg", false},
		{"image", "builder", false},
		{"image", "internal/vm", false},
		{"ext4", "container", false},
		{"ext4", "image", false},
		{"container", "ext4", false},
		{"container", "internal/vm", false},
		{"internal/steps", "container", false},
		{"internal/steps", "internal/vm", false},
		{"internal/store", "builder", false},
		{"internal/vm", "builder", false},
		{"internal/toolbox", "internal/vm", false},
		{"internal/qemu", "internal/toolbox", false},
		{"internal/qemu", "container", false},
		{"internal/gdb", "container", false},
		{"internal/gdb", "internal/vm", false},
		{"container", "internal/toolbox", false},
		{"elsewhere", "internal/units", false},
	} {
		if wrong := check(module+"/"+tt.from, module+"/"+tt.to); (wrong == "") != tt.ok {
			t.Errorf("%s imports %s: allowed %v, want %v (%s)", tt.from, tt.to, wrong == "", tt.ok, wrong)
		}
	}
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"builder/outdir", "builder/spec", true},
		{"builder/spec", "builder/outdir", false},
		{"internal/store", "internal/steps", false},
		{"internal/steps", "internal/fetch", false},
		{"internal/nowhere", "internal/units", false},
		{"builder", "builder/spec/spectest", false},
		{"builder/spec/spectest", "builder/spec", true},
	} {
		if wrong := checkFloors(module+"/"+tt.from, []string{"fmt", module + "/" + tt.to}); (wrong == "") != tt.ok {
			t.Errorf("%s imports %s: allowed %v, want %v (%s)", tt.from, tt.to, wrong == "", tt.ok, wrong)
		}
	}
	for from, ok := range map[string]bool{"container": true, "container/containertest": true, "image": false,
		"internal/vm": false, "cmd/kimg": false} {
		if wrong := check(module+"/"+from, "github.com/docker/docker/client"); (wrong == "") != ok {
			t.Errorf("%s imports the Docker client: allowed %v, want %v", from, wrong == "", ok)
		}
	}
}

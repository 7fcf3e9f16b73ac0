package archtest

import (
	"os"
	"testing"

	"golang.org/x/tools/go/packages"
)

// What else kimg runs on, Macs and arm64's engines, compiles: all packages and their tests. Types are checked from the
// sources. go vet wants what is imported compiled first, which takes ten times as long; scripts/nightly-arch has it.
func TestOtherPlatforms(t *testing.T) {
	for _, on := range [][2]string{{"darwin", "arm64"}, {"linux", "arm64"}} {
		t.Run(on[0]+"/"+on[1], func(t *testing.T) {
			all, err := packages.Load(&packages.Config{
				Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
					packages.NeedDeps | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesSizes,
				Env: append(os.Environ(), "GOOS="+on[0], "GOARCH="+on[1], "CGO_ENABLED=0"), Tests: true,
			}, module+"/...")
			if err != nil {
				t.Fatal(err)
			}
			if len(all) < 70 {
				t.Errorf("%d packages only", len(all))
			}
			for p := range packages.Postorder(all) {
				for _, err := range p.Errors {
					t.Error(err)
				}
			}
		})
	}
}

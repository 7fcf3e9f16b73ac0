package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
)

func TestWriteConfigDiff(t *testing.T) {
	var b strings.Builder
	asked := []kernel.Request{
		{Symbol: "B", Value: "m", Origin: spec.File},
		{Symbol: "A", Value: "n", Origin: "a.config:3"},
		{Symbol: "X", Value: "y", Origin: "--set X=y"},
		{Symbol: "S", Value: "y", Origin: "z"},
	}
	c := kernel.Composition{
		Base:      []byte("CONFIG_A=y\nCONFIG_HZ=250\nCONFIG_S=y\n"),
		Final:     []byte("CONFIG_HZ=1000\nCONFIG_B=m\nCONFIG_S=y\n"),
		Requested: asked,
		Unmet:     []kernel.Unmet{{Request: asked[2], Got: "n", Why: "there is no such symbol"}},
	}
	if err := writeConfigDiff(&b, c); err != nil {
		t.Fatal(err)
	}
	want := `SYMBOL  BASE  NOW   ASKED BY
A       y     n     a.config:3
B       n     m     kimg.yaml
HZ      250   1000  (follows)
X       n     n     --set X=y (wants y: not met: there is no such symbol)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigEditWrites(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, spec.File)
	e := ConfigEdit{Dir: dir}
	if c, err := e.write(nil, nil); err != nil || c.File != "" {
		t.Errorf("nothing changed: %v, %v", c, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("nothing changed, and there is a kimg.yaml")
	}
	add := []kernel.Request{{Symbol: "A", Value: "n"}, {Symbol: "B", Value: `"x"`}}
	if _, err := e.write(&kernel.Edited{Added: add[:1]}, nil); err != nil {
		t.Fatal(err)
	}
	had := []kernel.Request{{Symbol: "A", Value: "n", Origin: "A=n"}}
	if _, err := e.write(&kernel.Edited{Added: add[1:], Dropped: had}, had); err != nil {
		t.Fatal(err)
	}
	sp, err := spec.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`B="x"`}, sp.Set); diff != "" {
		t.Error(diff)
	}
	e.Save = filepath.Join(dir, "f.config")
	if _, err := e.write(&kernel.Edited{Added: add}, nil); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(e.Save); string(b) != "# CONFIG_A is not set\nCONFIG_B=\"x\"\n" {
		t.Errorf("fragment:\n%s", b)
	}
}

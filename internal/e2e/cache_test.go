//go:build linux

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// keptFor wants the artifacts of a build in the cache, where no prune takes them, and its source where one may.
func keptFor(t *testing.T, k kimg, out string) {
	var kept struct {
		Items []struct{ Kind, Name, Stays string }
	}
	r := k.run(t, "", "cache", "--json").want(t, 0)
	if err := json.Unmarshal([]byte(r.stdout), &kept); err != nil {
		t.Fatal(err)
	}
	stays, sources := map[string]string{}, 0
	for _, i := range kept.Items {
		if i.Kind == "store entry" {
			stays[i.Name] = i.Stays
		}
		if i.Kind == "source volume" && i.Stays == "" {
			sources++
		}
	}
	for _, a := range readManifest(t, out).Build.Artifacts {
		if why, ok := stays[a.SHA256]; !ok || !strings.Contains(why, "needs it") {
			t.Errorf("%s: in the cache %v, and stays because %q", a.Path, ok, why)
		}
	}
	if sources == 0 {
		t.Errorf("no source volume may go: %s", r.stdout)
	}
	k.run(t, "", "cache", "prune", "--all", "--dry-run").want(t, 0)
}

package keep

import (
	"slices"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/internal/cache"
)

func TestRealEngine(t *testing.T) {
	eng := containertest.Engine(t)
	ref := containertest.Image(t, eng)
	ctx, dir := t.Context(), t.TempDir()
	name, err := container.TempVolume(ctx, eng)
	if err != nil {
		t.Fatal(err)
	}
	free, busy := name+"-free", name+"-busy"
	for _, v := range []string{free, busy} {
		if err := eng.EnsureVolume(ctx, v, true); err != nil {
			t.Fatal(err)
		}
		defer eng.RemoveVolume(ctx, v)
		cache.Stamp(dir, v, "")
	}
	defer eng.RemoveVolume(ctx, name)
	c, err := eng.Create(ctx, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"},
		Mounts: []container.Mount{{Volume: busy, Target: "/data"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Remove(ctx)

	k := list(t, dir, eng)
	find := func(name string) Item {
		t.Helper()
		i := slices.IndexFunc(k.Items, func(i Item) bool { return i.Name == name })
		if i < 0 {
			t.Fatalf("%s is not listed; only %+v", name, k.Items)
		}
		return k.Items[i]
	}
	if i := find(busy); i.Stays == "" {
		t.Errorf("a container has it: %+v", i)
	}
	if i := find(ref); i.Kind != kindImage || i.Size < 0 || i.Used.IsZero() {
		t.Errorf("the image: %+v", i)
	}
	taken := prune(t, dir, eng, Options{To: -1})
	if len(taken) != 1 || taken[0].Name != free {
		t.Errorf("took %+v, want only %s", taken, free)
	}
	for v, want := range map[string]bool{free: false, busy: true} {
		if ok, err := eng.VolumeExists(ctx, v); ok != want || err != nil {
			t.Errorf("volume %s: there %t, want %t; %v", v, ok, want, err)
		}
	}
}

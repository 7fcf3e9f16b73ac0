package builder

import (
	"path/filepath"
	"testing"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
)

// TestRebuildSpec: who wrote the manifest may be anybody, and must not say what
// privileges there are.
func TestRebuildSpec(t *testing.T) {
	foreign := &Manifest{
		Run: outdir.RunFacts{Privileged: true, Source: "/src/linux", Mirror: "http://elsewhere.example"},
	}
	for _, tt := range []struct {
		name                   string
		req                    RebuildRequest
		m                      *Manifest
		privileged             bool
		kernel, out, givenFlag string
	}{
		{"the manifest asks", RebuildRequest{Dir: "d"}, foreign, false, "/src/linux", "temp/again", "kernel"},
		{"the person asks", RebuildRequest{Dir: "d", Privileged: true}, &Manifest{}, true, "", "temp/again", ""},
		{"both", RebuildRequest{Dir: "d", Privileged: true, Kernel: "/here", Keep: "kept"}, foreign, true, "/here",
			"kept", "kernel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.req.spec(tt.m, "temp")
			want := spec.Default()
			want.Lock, want.Privileged, want.Out, want.Kernel = filepath.Join(
				"d",
				LockFile,
			), tt.privileged, tt.out, tt.kernel
			given := ""
			if len(s.Given) > 0 {
				given = s.Given[0]
			}
			if s.Privileged != want.Privileged || s.Lock != want.Lock || s.Out != want.Out || s.Kernel != want.Kernel ||
				s.Mirror != want.Mirror ||
				given != tt.givenFlag {
				t.Errorf("%+v, want %+v", s, want)
			}
		})
	}
}

// TestLogsOfARebuildStay: their names are reported, and the rebuild's cache is removed.
func TestLogsOfARebuildStay(t *testing.T) {
	env, err := Env{Cache: "cache"}.whole()
	if err != nil {
		t.Fatal(err)
	}
	again := env
	again.Cache = "temporary"
	for _, e := range []Env{env, again} {
		if got, err := e.whole(); err != nil || got.Logs != "cache/logs" {
			t.Errorf("%+v: logs in %s, %v", e, got.Logs, err)
		}
	}
}

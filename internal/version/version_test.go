package version

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	git := []debug.BuildSetting{{Key: "vcs.revision", Value: "1a2b3c4d5e6f7a8b"}, {Key: "vcs.modified", Value: "true"}}
	for want, info := range map[string]debug.BuildInfo{
		"devel":                    {Main: debug.Module{Version: "(devel)"}},
		"devel-1a2b3c4d5e6f-dirty": {Main: debug.Module{Version: "(devel)"}, Settings: git},
		"devel-1a2b3c4d5e6f":       {Settings: git[:1]},
		"v1.2.3":                   {Main: debug.Module{Version: "v1.2.3"}, Settings: git[:1]},
		"v0.0.0-2024-1a2b-dirty":   {Main: debug.Module{Version: "v0.0.0-2024-1a2b+dirty"}},
	} {
		if got := of(&info); got != want {
			t.Errorf("of(%+v) = %q, want %q", info, got, want)
		}
	}
}

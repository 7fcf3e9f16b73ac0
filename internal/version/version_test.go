package version

import (
	"runtime/debug"
	"testing"
)

func TestFromBuild(t *testing.T) {
	main := func(version string) debug.Module { return debug.Module{Path: module, Version: version} }
	other := debug.Module{Path: "example.com/other", Version: "v9.9.9"}
	git := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "1a2b3c4d5e6f7a8b"}, {Key: "vcs.modified", Value: "true"},
	}
	for _, tt := range []struct {
		want string
		info debug.BuildInfo
	}{
		{"devel", debug.BuildInfo{Main: main("(devel)")}},
		{"devel-1a2b3c4d5e6f-dirty", debug.BuildInfo{Main: main("(devel)"), Settings: git}},
		{"devel-1a2b3c4d5e6f", debug.BuildInfo{Main: main(""), Settings: git[:1]}},
		{"v1.2.3", debug.BuildInfo{Main: main("v1.2.3"), Settings: git[:1]}}, // go install ...@v1.2.3
		{"v0.0.0-2024-1a2b-dirty", debug.BuildInfo{Main: main("v0.0.0-2024-1a2b+dirty")}},
		{"v1.2.3", debug.BuildInfo{Main: other, Deps: []*debug.Module{
			{Path: module, Version: "v1.2.3"}}, Settings: git}},
		{"devel", debug.BuildInfo{Main: other, Deps: []*debug.Module{
			{Path: module, Version: "v1.2.3", Replace: &debug.Module{Path: "../kimg"}}}, Settings: git}},
	} {
		if got := fromBuild(&tt.info); got != tt.want {
			t.Errorf("fromBuild(%+v) = %q, want %q", tt.info, got, tt.want)
		}
	}
}

// Package version says which kimg this is.
package version

import (
	"runtime/debug"
	"strings"
)

const module = "github.com/kimg/kimg"

// String is the module's version where go install made kimg, else the commit it was built from
// ("devel-1a2b3c4d5e6f", with "-dirty" after it when files were changed), else "devel". In a program of another
// module that imports kimg's packages it is the version of kimg that the module requires.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return fromBuild(info)
}

func fromBuild(info *debug.BuildInfo) string {
	if info.Main.Path != module {
		for _, d := range info.Deps {
			if d.Path == module && d.Replace == nil && d.Version != "" {
				return d.Version
			}
		}
		return "devel" // the settings are the other module's
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimSuffix(v, "+dirty") + dirtySuffix(strings.HasSuffix(v, "+dirty"))
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	commit := set["vcs.revision"]
	if commit == "" {
		return "devel"
	}
	return "devel-" + commit[:min(12, len(commit))] + dirtySuffix(set["vcs.modified"] == "true")
}

func dirtySuffix(dirty bool) string {
	if dirty {
		return "-dirty"
	}
	return ""
}

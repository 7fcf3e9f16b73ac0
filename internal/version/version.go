// Package version tells which kimg this is. It must not know who asks.
package version

import (
	"runtime/debug"
	"strings"
)

// String is the module's version where go install made kimg, else the commit it
// was built from ("devel-1a2b3c4d5e6f", with "-dirty" after it when files were
// changed), else "devel".
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return of(info)
}

func of(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimSuffix(v, "+dirty") + dirty(strings.HasSuffix(v, "+dirty"))
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	commit := set["vcs.revision"]
	if commit == "" {
		return "devel"
	}
	return "devel-" + commit[:min(12, len(commit))] + dirty(set["vcs.modified"] == "true")
}

func dirty(is bool) string {
	if is {
		return "-dirty"
	}
	return ""
}

package kernel

import (
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/units"
)

// What decides the bits is in the digest, and what does not is not.
func TestInputs(t *testing.T) {
	job := func() Job {
		return Job{
			Arch: arch.AMD64, Era: Era{CC: "gcc-10"}, Epoch: time.Unix(1_700_000_000, 0),
			Tree:   &Tree{Version: units.KernelVersion{Major: 5, Minor: 10, Patch: 1}},
			Config: Config{Base: VM, Requests: []Request{{"KASAN", "y", "--set"}}},
		}
	}
	key := func(j Job) string { return string(j.Inputs() + j.Config.Inputs(j.Tree.Version)) }
	before := key(job())
	for name, tt := range map[string]struct {
		edit func(*Job)
		same bool
	}{
		"nothing":         {func(*Job) {}, true},
		"jobs":            {func(j *Job) { j.Jobs = 7 }, true},
		"the image":       {func(j *Job) { j.Image, j.ImageID = "ref", "id" }, true},
		"the cache":       {func(j *Job) { j.CacheDir, j.Ccache, j.Temporary = "dir", "volume", true }, true},
		"the engine's":    {func(j *Job) { j.Host = arch.ARM64 }, true},
		"who asked":       {func(j *Job) { j.Config.Requests[0].Origin = "a.config:3" }, true},
		"a request":       {func(j *Job) { j.Config.Requests[0].Value = "n" }, false},
		"the base":        {func(j *Job) { j.Config.Base = Defconfig }, false},
		"a file":          {func(j *Job) { j.Config.Base, j.Config.File = "vm.config", []byte("CONFIG_A=y\n") }, false},
		"the version":     {func(j *Job) { j.Tree.Version.Minor = 18 }, false}, // DEBUG_INFO is a choice there
		"packages":        {func(j *Job) { j.Targets = []string{BinDeb} }, false},
		"modules":         {func(j *Job) { j.Config.Requests[0] = Request{"MODULES", "y", ""} }, false},
		"the kernel arch": {func(j *Job) { j.Arch.Kernel = "i386" }, false},
	} {
		j := job()
		tt.edit(&j)
		if got := key(j); (got == before) != tt.same {
			t.Errorf("%s: the same digests: %v, want %v", name, got == before, tt.same)
		}
	}
	// A config file that holds what kimg's own fragments and a request make is another base.
	file := job()
	file.Config = Config{Base: "x", File: []byte("CONFIG_KASAN=y\n")}
	set := job()
	set.Config = Config{Base: "x", Requests: []Request{{"KASAN", "y", ""}}}
	if key(file) == key(set) {
		t.Error("a line of a file is taken for a request")
	}
}

package kernel

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/units"
)

// StepVersion is raised when Build makes another kernel of the same inputs: of the same
// tree, patches and Inputs. What is in the two Inputs needs no such care.
const StepVersion = "3"

// Inputs is a digest of how kernels are compiled: make's variables, environment and targets, and the scripts that
// pack. What is a job's own is left out, but for its architecture and what it has packed: keys name that beside it.
func (j Job) Inputs() units.Digest {
	var b strings.Builder
	packs := slices.Contains(j.Targets, BinDeb)
	j.Era, j.Epoch, j.Targets, j.ImageID = Era{CC: "CC"}, time.Unix(0, 0), nil, ""
	env := slices.DeleteFunc(buildEnv(j), func(v string) bool { return strings.HasPrefix(v, "CCACHE_") })
	fmt.Fprintf(&b, "%q\n%q\n", makeArgv(makeVars(j)), env)
	all := kconfig.Config{"MODULES": "y", "GDB_SCRIPTS": "y"} // those that are off are not made
	fmt.Fprintf(&b, "%q\n%q\n", targets(j, all), artifacts(j.Arch, all))
	if j.Config.Modules() {
		fmt.Fprintf(&b, "%q\n", modulesScript)
	}
	if packs {
		tools, err := debToolsTar()
		if err != nil {
			panic(err) // they are embedded
		}
		d, _, err := units.DigestReader(tools)
		if err != nil {
			panic(err) // it is in memory
		}
		fmt.Fprintf(&b, "%q\n%q\n%q\n%s\n", debEnv("", j.Epoch), startOver, debPrepare, d)
	}
	return units.DigestOf([]byte(b.String()))
}

// Inputs is a digest of what the configuration of a version is composed of: its own file, kimg's fragments and the
// requests, in the words of that version; the symbols and not the comments, nor who asked for them.
func (c Config) Inputs(version units.KernelVersion) units.Digest {
	var b strings.Builder
	switch c.Base {
	case VM:
		fmt.Fprintf(&b, "vm %q\n", own("vm.config", vmConfig, version))
	case Defconfig:
		fmt.Fprintf(&b, "defconfig %q %q\n", kvmGuest, own("debug.config", debugConfig, version))
	default:
		fmt.Fprintf(&b, "file %q %q\n", c.File, renamed(version, c))
	}
	fmt.Fprintf(&b, "%q\n%q\n", own("same.config", sameConfig, version), translate(version, c.Requests))
	return units.DigestOf([]byte(b.String()))
}

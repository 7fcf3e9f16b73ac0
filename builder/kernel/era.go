package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Era is a range of kernel versions that one toolchain suits.
type Era struct {
	From    units.KernelVersion // the first version of the range
	Before  units.KernelVersion // the first version after it; zero: open
	Suite   string              // whose packages the toolchain is made of
	CC      string              // the compiler, for the kernel and for what runs on the host
	Why     string              // the reason, with the commit or the symptom
	Proven  string              // what was built and booted; "": nothing yet
	Others  map[string]string   // the same of other architectures, by their names
	Chosen  bool                // the user's choice, not the table's
	Reasons string              // for Chosen: what the table would have said
}

// eras is the map from kernels to compilers, which are facts of their suites (package
// suite). Commits are mainline's. "Proven" is what was compiled AND booted to a login.
var eras = []Era{
	{
		From: v(4, 18), Before: v(5, 7), Suite: "bullseye", CC: "gcc-9",
		Proven: "4.19.48, 4.20.1, 5.0.1 and 5.4.286, with the vm config, booted bullseye",
		Why: "gcc 10 panics in start_secondary before 5.7 (fixed by a9a3ed1eff36), " +
			"and its linker finds yylloc twice before 5.6 (e33a814e772c)",
	},
	{
		From: v(5, 7), Before: v(5, 18), Suite: "bullseye", CC: "gcc-10",
		Proven: "5.10.223, with the vm config and with defconfig, booted bullseye",
		Why: "objtool does not compile with gcc 12 before 5.17 (52a9dab6d892) " +
			"and does not read what binutils 2.36 writes before 5.12 (1d489151e9f9)",
	},
	{
		From: v(5, 18), Before: v(6, 12), Suite: "bookworm", CC: "gcc-12",
		Proven: "6.1.176, with the vm config and with defconfig, booted bookworm",
		Others: map[string]string{
			"arm64":   "6.1.176, with the vm config, booted bookworm",
			"riscv64": "6.1.192, with the vm config, booted trixie",
		},
		Why: "gcc 12 is the compiler of its time: newer ones turn old warnings into errors in some drivers",
	},
	{
		From: v(6, 12), Suite: "trixie", CC: "gcc-14",
		Proven: "6.12.107 with the vm config, 6.12.117 with that and with defconfig, booted trixie",
		Others: map[string]string{
			"arm64":   "6.12.117 and 7.2.13, with the vm config, booted trixie and sid",
			"riscv64": "6.12.117 and 7.2.13, with the vm config, booted trixie and sid",
			"ppc64el": "6.12.117, with the vm config, booted bookworm",
		},
		Why: "gcc 14 is what Debian itself compiles 6.12 with; " +
			"gcc 15 speaks C23, in which bool is a keyword, and needs 6.14 (b3bee1e7c3f2)",
	},
}

// tooOld says why nothing before the first era can be built.
const tooOld = "make 4.3 stops at .fixdep.o.cmd before 4.18 (fixed by 9564a8cf422d), " +
	"and with binutils 2.31 kernels before 4.16 compile and do not boot (b21ebf2fb4cd); " +
	"the suite whose tools suit them, Debian stretch, has left the archive"

// EraError is a kernel that no toolchain is known for, or a --toolchain that there is not.
type EraError struct {
	Msg  string
	hint string
}

func (e *EraError) Error() string { return e.Msg }

func (e *EraError) Hint() string { return e.hint }

func v(major, minor int) units.KernelVersion {
	return units.KernelVersion{Major: major, Minor: minor}
}

// Eras is the whole table, oldest first, for showing.
func Eras() []Era { return slices.Clone(eras) }

// EraFor chooses the toolchain for a kernel. override, where not empty, is a user's choice: "bookworm/gcc-12" or
// "bookworm". A kernel without an era is refused, with the reason, unless the user chose.
func EraFor(version units.KernelVersion, override string) (Era, error) {
	found, ok := find(version)
	if override != "" {
		return chosen(version, found, ok, override)
	}
	if !ok {
		return Era{}, &EraError{
			Msg: fmt.Sprintf("choose a toolchain for Linux %s: %s is the oldest that kimg builds: %s",
				version, eras[0].From, tooOld),
			hint: "use a newer kernel, or try a toolchain anyway with --toolchain: " + strings.Join(Toolchains(), ", "),
		}
	}
	return found, nil
}

func find(version units.KernelVersion) (Era, bool) {
	for _, e := range slices.Backward(eras) {
		if version.AtLeast(e.From.Major, e.From.Minor) {
			return e, true
		}
	}
	return Era{}, false
}

// CheckToolchain checks a user's choice of a toolchain, whatever the kernel is; empty: none was made.
func CheckToolchain(choice string) error {
	if choice == "" {
		return nil
	}
	_, _, err := parseToolchain(choice)
	return err
}

// parseToolchain reads "bookworm/gcc-12", or "bookworm" for the suite's first compiler.
func parseToolchain(choice string) (of, cc string, _ error) {
	name, cc, _ := strings.Cut(choice, "/")
	s, err := suite.Parse(name)
	has := s.Compilers()
	switch {
	case err != nil || has == nil:
		return "", "", &EraError{
			Msg:  fmt.Sprintf("choose toolchain %q: there is none of that suite", choice),
			hint: "use one of " + strings.Join(Toolchains(), ", "),
		}
	case cc == "":
		cc = has[0]
	case !slices.Contains(has, cc):
		return "", "", &EraError{
			Msg:  fmt.Sprintf("choose toolchain %q: %s has %s", choice, name, strings.Join(has, ", ")),
			hint: "use one of them",
		}
	}
	return name, cc, nil
}

func chosen(version units.KernelVersion, usual Era, known bool, override string) (Era, error) {
	name, cc, err := parseToolchain(override)
	if err != nil {
		return Era{}, err
	}
	e := Era{From: version, Suite: name, CC: cc, Why: "it was asked for", Chosen: true}
	switch {
	case !known:
		e.Reasons = "kimg has no era for it: " + tooOld
	case usual.Suite != name || usual.CC != cc:
		e.Reasons = fmt.Sprintf("its era is %s: %s", usual.Toolchain(), usual.Why)
	default:
		return usual, nil
	}
	return e, nil
}

// Toolchains lists every SUITE/COMPILER that --toolchain may name, oldest suite first.
func Toolchains() []string {
	var all []string
	for _, s := range suite.All() {
		for _, cc := range s.Compilers() {
			all = append(all, s.Name+"/"+cc)
		}
	}
	return all
}

// Toolchain is the era's toolchain as --toolchain names it: "trixie/gcc-14".
func (e Era) Toolchain() string { return e.Suite + "/" + e.CC }

// Target is the toolchain image that has the era's compiler for an architecture and what further make targets need;
// else an *EraError.
func (e Era) Target(a arch.Arch, targets []string) (string, error) {
	deb := slices.Contains(targets, BinDeb)
	other := ""
	if a != arch.Default {
		other = a.Name
	}
	var packing, cross []string
	for _, s := range suite.All() {
		for _, image := range s.Images() {
			for _, cc := range image.Compilers {
				if s.Name == e.Suite && cc == e.CC && image.Deb == deb && image.Arch == other {
					return image.Name, nil
				}
				if image.Deb {
					packing = append(packing, s.Name+"/"+cc)
				}
				if image.Arch == a.Name {
					cross = append(cross, s.Name+"/"+cc)
				}
			}
		}
	}
	switch {
	case other != "" && deb:
		return "", &EraError{
			Msg:  fmt.Sprintf("choose a toolchain image for make %s: none packs kernels for %s", BinDeb, a),
			hint: "leave out --target " + BinDeb + ", or --arch " + a.Name,
		}
	case other != "":
		return "", &EraError{
			Msg:  fmt.Sprintf("choose a toolchain image for %s: none has %s for it", a, e.Toolchain()),
			hint: "use one of " + strings.Join(cross, ", ") + " with --toolchain, or another kernel",
		}
	}
	return "", &EraError{
		Msg:  fmt.Sprintf("choose a toolchain image for make %s: none has %s and dpkg-dev", BinDeb, e.Toolchain()),
		hint: "use one of " + strings.Join(packing, ", ") + " with --toolchain, or leave out --target " + BinDeb,
	}
}

// Range is the era's versions for people: "4.18-5.6", "6.12 and later".
func (e Era) Range() string {
	if e.Before == (units.KernelVersion{}) {
		return e.From.String() + " and later"
	}
	last := e.Before
	last.Minor--
	return e.From.String() + "-" + last.String()
}

// ProvenFor is what was built and booted on an architecture; "": nothing yet.
func (e Era) ProvenFor(a arch.Arch) string {
	if a == arch.Default {
		return e.Proven
	}
	return e.Others[a.Name]
}

// Line is the choice for an architecture in one line: "5.10.223 -> bullseye, gcc-10: why".
func (e Era) Line(version units.KernelVersion, a arch.Arch) string {
	s := fmt.Sprintf("%s -> %s, %s: %s", version, e.Suite, e.CC, e.Why)
	switch {
	case e.Chosen:
		s += " (" + e.Reasons + ")"
	case e.ProvenFor(a) != "":
	case a == arch.Default:
		s += " (not proven yet)"
	default:
		s += " (not proven yet on " + a.Name + ")"
	}
	return s
}

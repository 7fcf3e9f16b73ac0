package units

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// KernelVersion is a kernel.org version: 4.20.6, 6.12, 5.0-rc3. Anything after that (a distribution's or a
// developer's EXTRAVERSION) is kept in Extra and does not take part in comparisons.
type KernelVersion struct {
	Major, Minor, Patch int
	RC                  int    // 0 when this is a release
	Extra               string // "-custom", "+", "" most often
}

var kernelVersionRE = regexp.MustCompile(`^(\d{1,3})\.(\d{1,4})(?:\.(\d{1,5}))?(?:-rc(\d{1,3}))?([-+.~_a-zA-Z0-9]*)$`)

// ParseKernelVersion reads a kernel.org version or what a kernel's Makefile spells.
func ParseKernelVersion(s string) (KernelVersion, error) {
	m := kernelVersionRE.FindStringSubmatch(s)
	if m == nil {
		return KernelVersion{},
			fmt.Errorf("parse kernel version %q: want a kernel.org version such as 4.20.6, 6.12 or 5.0-rc3", s)
	}
	n := func(i int) int { v, _ := strconv.Atoi(m[i]); return v } // digits and length held by the expression
	return KernelVersion{Major: n(1), Minor: n(2), Patch: n(3), RC: n(4), Extra: m[5]}, nil
}

// String writes the version as kernel.org does: no ".0" patch level.
func (v KernelVersion) String() string {
	s := fmt.Sprintf("%d.%d", v.Major, v.Minor)
	if v.Patch > 0 {
		s += fmt.Sprintf(".%d", v.Patch)
	}
	if v.RC > 0 {
		s += fmt.Sprintf("-rc%d", v.RC)
	}
	return s + v.Extra
}

// Compare orders versions; 5.0-rc3 comes before 5.0. Extra is not looked at.
func (v KernelVersion) Compare(w KernelVersion) int {
	rc := func(k KernelVersion) int {
		if k.RC == 0 {
			return 1 << 20
		}
		return k.RC
	}
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor),
		cmp.Compare(v.Patch, w.Patch), cmp.Compare(rc(v), rc(w)))
}

// AtLeast reports whether v is major.minor or later. A release candidate of major.minor counts as major.minor: what
// changed in a version changed in its merge window.
func (v KernelVersion) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// MarshalText writes String.
func (v KernelVersion) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what ParseKernelVersion reads.
func (v *KernelVersion) UnmarshalText(b []byte) error {
	w, err := ParseKernelVersion(string(b))
	if err == nil {
		*v = w
	}
	return err
}

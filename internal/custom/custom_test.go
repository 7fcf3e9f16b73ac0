package custom

import (
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/units"
)

// Who asks for nothing new has the keys that they had: whatever a Custom gains is in its digest only where it is asked
// for.
func TestDigestGolden(t *testing.T) {
	old := Custom{
		Overlays: []Overlay{{Path: "o", SHA256: units.Digest(strings.Repeat("ab", 32))}},
		Files:    []File{{Path: "/etc/x", Mode: 0o644, Owner: "root", Text: "text\n"}},
		Hostname: "vm1", Timezone: "UTC", RootPassword: None,
	}
	for want, c := range map[units.Digest]*Custom{
		"6c47d61a4bbe563f9647ee4ced62d7e40b120f1f57dc4d7b3d701498849c02a7": {},
		"71bc0bc53b659384b2ad3d358dfb0d38df201fadd5c5cd1135cce0d1807c5b2e": &old,
	} {
		if got := c.Digest(); got != want {
			t.Errorf("%+v has the digest %s, want %s", c, got, want)
		}
		if c.Inside() {
			t.Errorf("%+v takes a container", c)
		}
	}
}

// Each thing that is asked for makes another digest than each other.
func TestDigestsDiffer(t *testing.T) {
	seen := map[units.Digest]int{}
	for i, c := range []Custom{
		{}, {Locale: "C.UTF-8"}, {Users: []User{{Name: "a"}}}, {Users: []User{{Name: "a", Groups: []string{"b", "c"}}}},
		{Users: []User{{Name: "a", Groups: []string{"b c"}}}}, {Users: []User{{Name: "a", Home: "/b"}}},
		{Users: []User{{Name: "a", Shell: "/b"}}}, {Users: []User{{Name: "a", Password: "/b"}}},
		{Users: []User{{Name: "a"}, {Name: "b"}}}, {AuthorizedKeys: []Keys{{User: "a", Keys: []string{"k"}}}},
		{Run: []Script{{Name: "a", Text: "b"}}}, {Run: []Script{{Name: "b", Text: "b"}}},
		{Run: []Script{{Name: "a", Text: "b"}, {Name: "a", Text: "b"}}},
		{Units: Units{Enable: []string{"a"}}}, {Units: Units{Disable: []string{"a"}}},
		{Units: Units{Mask: []string{"a"}}},
	} {
		d := c.Digest()
		if other, twice := seen[d]; twice {
			t.Errorf("%d and %d have one digest", other, i)
		}
		seen[d] = i
	}
}

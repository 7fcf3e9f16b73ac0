package spec

import (
	"slices"
	"testing"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/units"
)

func TestDiffPackages(t *testing.T) {
	p := func(name, version, content string) archive.Locked {
		return archive.Locked{Name: name, Version: version, SHA256: units.DigestOf([]byte(content))}
	}
	got := diffPackages(
		[]archive.Locked{p("same", "1", "a"), p("up", "1.9-1", "a"), p("down", "1.10", "a"),
			p("gone", "1", "a"), p("rebuilt", "1", "a")},
		[]archive.Locked{p("rebuilt", "1", "b"), p("new", "2", "a"), p("down", "1.9", "b"),
			p("up", "1.10-1", "b"), p("same", "1", "a")})
	want := []Move{
		{Name: "down", From: "1.10", To: "1.9", Older: true}, {Name: "gone", From: "1"}, {Name: "new", To: "2"},
		{Name: "rebuilt", From: "1 " + units.DigestOf([]byte("a")).Short(),
			To: "1 " + units.DigestOf([]byte("b")).Short()},
		{Name: "up", From: "1.9-1", To: "1.10-1"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

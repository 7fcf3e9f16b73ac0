package deb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/deb/debtest"
	"github.com/kimg/kimg/internal/units"
)

func TestUnpackAllKeepsTheOrder(t *testing.T) {
	st := debtest.Store(t)
	var packages []archive.Locked
	for i := range 20 {
		name := fmt.Sprintf("p%d", i)
		// The first take the longest.
		body := strings.Repeat(name, (20-i)*1000)
		packages = append(packages,
			debtest.Put(t, st, name, makeDeb(t, ".xz", []entry{file("control", stanza(name))}, []entry{file("./"+name,
				body)})))
	}
	next, stop := UnpackAll(t.Context(), st, packages, nil)
	defer stop()
	for _, p := range packages {
		u, err := next()
		if err != nil || u.Field("Package") != p.Name {
			t.Fatalf("got %v, %v, want %s", u, err, p.Name)
		}
	}
	for range 3 {
		if _, err := next(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last: %v", err)
		}
	}
}

func TestUnpackAllFails(t *testing.T) {
	st := debtest.Store(t)
	good := debtest.Put(t, st, "good", makeDeb(t, ".gz", []entry{file("control", stanza("good"))}, nil))
	other := good
	other.Name = "other"
	for _, test := range []struct {
		name string
		bad  archive.Locked
		want string
	}{
		{"no package",
			debtest.Put(t, st, "bad", []byte("<html>")), "package bad: read package: it is no Debian package"},
		{"another package", other, `package other 1.0-1: its file is "good" "1.0-1"`},
		{"not in the store", archive.Locked{Name: "gone", SHA256: units.DigestOf([]byte("gone"))}, "package gone"},
	} {
		next, stop := UnpackAll(t.Context(), st, []archive.Locked{good, test.bad, good}, nil)
		if _, err := next(); err != nil {
			t.Error(err)
		}
		if _, err := next(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", test.name, err, test.want)
		}
		stop()
	}
}

// A reader that goes away early ends the work, whatever there is left.
func TestUnpackAllStops(t *testing.T) {
	st := debtest.Store(t)
	p := debtest.Put(t, st, "good", makeDeb(t, ".gz", []entry{file("control", stanza("good"))}, nil))
	packages := make([]archive.Locked, 1000)
	for i := range packages {
		packages[i] = p
	}
	next, stop := UnpackAll(t.Context(), st, packages, nil)
	if _, err := next(); err != nil {
		t.Error(err)
	}
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	next, stop = UnpackAll(ctx, st, packages, nil)
	cancel()
	for err := error(nil); !errors.Is(err, context.Canceled); {
		if _, err = next(); errors.Is(err, io.EOF) {
			t.Fatal("it went on to the end")
		}
	}
	stop()
}

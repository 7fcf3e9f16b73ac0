package archive

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRelease(t *testing.T) {
	m := newMirror(t)
	m.publish(t, stanza("a"))
	c := m.client(t)
	rel, err := c.Release(t.Context(), trixie(t))
	if err != nil {
		t.Fatal(err)
	}
	if !rel.Date.Equal(today.Add(-2*time.Hour)) || rel.Suite.Name != "trixie" || !rel.ValidUntil.IsZero() ||
		len(rel.SignedBy) != 1 {
		t.Errorf("%+v", rel)
	}
	if err := c.Store.Verify(rel.InRelease); err != nil {
		t.Errorf("the InRelease is not in the store: %v", err)
	}
}

func TestReleaseRefuses(t *testing.T) {
	stranger := newKey(t, "stranger", 0)
	for name, c := range map[string]struct {
		publish   func(*mirror)
		untrusted bool
		says      string
	}{
		"no such suite": {func(m *mirror) {}, false, "name one that does"},
		"a web page": {func(m *mirror) { m.put("dists/trixie/InRelease", []byte("<html>hotel wifi</html>")) },
			true, "hotel wifi"},
		"another release": {func(m *mirror) { m.publish(t, "", "Codename: bookworm") }, true,
			`it is that of "bookworm"`},
		"its updates": {func(m *mirror) { m.publish(t, "", "Codename: trixie-updates") }, true, `"trixie-updates"`},
		"a stranger's": {func(m *mirror) {
			m.put("dists/trixie/InRelease", signed(t, m.release(""), stranger))
		}, true, "may not sign it"},
		"out of date": {func(m *mirror) { m.publish(t, "", "Valid-Until: Sun, 14 Jun 2026 10:00:00 UTC") }, true,
			"no longer follows"},
		"no digests": {func(m *mirror) {
			text, _, _ := strings.Cut(m.release(""), "SHA256:")
			m.put("dists/trixie/InRelease", signed(t, text+"MD5Sum:\n 00 1 x\n", m.key))
		}, false, "no SHA256"},
		"signed twice": {func(m *mirror) {
			m.put("dists/trixie/InRelease", signed(t, string(signed(t, m.release(""), m.key)), m.key))
		}, false, "is no field"},
		"no date":     {func(m *mirror) { m.publish(t, "", "Date: yesterday") }, false, "Date"},
		"a bad until": {func(m *mirror) { m.publish(t, "", "Valid-Until: never") }, false, "Valid-Until"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			c.publish(m)
			_, err := m.client(t).Release(t.Context(), trixie(t))
			var untrusted *UntrustedError
			if err == nil || errors.As(err, &untrusted) != c.untrusted || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (untrusted: %v), want %q (untrusted: %v)", err, errors.As(err, &untrusted), c.says,
					c.untrusted)
			}
			if err != nil && !strings.Contains(err.Error(), "trixie") {
				t.Errorf("the error does not name the suite: %v", err)
			}
		})
	}
}

func TestReleasePastItsValidUntil(t *testing.T) {
	m := newMirror(t)
	m.publish(t, "", "Valid-Until: Sun, 14 Jun 2026 10:00:00 UTC")
	for name, set := range map[string]func(*Client){
		"asked for":   func(c *Client) { c.AllowExpired = true },
		"apt says so": func(c *Client) { c.Mirror.AllowExpired = true },
	} {
		var warned []string
		c := m.client(t)
		c.Warn = func(s string) { warned = append(warned, s) }
		set(c)
		if _, err := c.Release(t.Context(), trixie(t)); err != nil || len(warned) != 1 {
			t.Errorf("%s: %v, warned %q", name, err, warned)
		}
	}
	if !(Mirror{URL: "http://snapshot.debian.org/archive/debian/20260614T000000Z"}).isSnapshot() {
		t.Error("the snapshot service is not known as one")
	}
}

func TestReleaseOfAMirrorThatIsDown(t *testing.T) {
	m := newMirror(t)
	c := m.client(t)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	c.Mirror.URL = down.URL + "/debian"
	_, err := c.Release(t.Context(), trixie(t))
	if err == nil || !strings.Contains(err.Error(), down.URL) || !strings.Contains(err.Error(), "(from a test)") {
		t.Errorf("the error does not name the mirror and where its name came from: %v", err)
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte("Codename: trixie\nDate: Mon, 15 Jun 2026 10:00:00 UTC\nValid-Until: Mon, 22 Jun 2026 10:00:00 UTC\n" +
		"SHA256:\n " + strings.Repeat("ab", 32) + " 12 main/Packages\n"))
	f.Add([]byte("SHA256:\n\n x"))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\n\nCodename: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rel, err := parseRelease(data)
		if err != nil {
			return
		}
		for name, file := range rel.files {
			if name == "" || file.size < 0 || len(file.sha256) != 64 {
				t.Errorf("it lists %q: %+v", name, file)
			}
		}
	})
}

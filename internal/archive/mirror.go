package archive

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/suite"
)

// Mirror is where an archive is downloaded from.
type Mirror struct {
	URL          string // without a slash at its end
	Proxy        string // what apt's configuration says for it; "DIRECT": none; "": the environment's
	AllowExpired bool   // apt's configuration says Acquire::Check-Valid-Until false
	From         string // who named it, for messages: "--mirror", "KIMG_MIRROR", a file of apt's
}

// snapshotLayout is how both services spell a time in a path.
const snapshotLayout = "20060102T150405Z"

// MirrorQuery says which mirror is wanted.
type MirrorQuery struct {
	Root   string // of the host's files, most often "/"
	Family *suite.Family
	Arch   arch.Arch
	Flag   string    // what --mirror says; "": nothing
	At     time.Time // of the snapshot service, where nothing else is named; zero: now
}

// Resolve finds the mirror: the flag, the environment (KIMG_MIRROR for Debian, KIMG_UBUNTU_MIRROR for Ubuntu and
// KIMG_UBUNTU_PORTS_MIRROR for its ports), the host's apt configuration, else the snapshot service (see SnapshotBase).
func (q MirrorQuery) Resolve() (Mirror, error) {
	conf := readAptConf(q.Root)
	named := func(raw, from string) (Mirror, error) {
		u, err := mirrorURL(raw)
		if err != nil {
			return Mirror{}, fmt.Errorf("use mirror %q of %s: %w", raw, from, err)
		}
		return conf.mirror(u, from), nil
	}
	if q.Flag != "" {
		return named(q.Flag, "--mirror")
	}
	env := q.Family.MirrorEnv
	if q.ports() {
		env = q.Family.PortsEnv
	}
	if v := os.Getenv(env); v != "" {
		return named(v, env)
	}
	if m, ok := q.hostMirror(); ok {
		return m, nil
	}
	at := q.At
	if at.IsZero() {
		at = time.Now()
	}
	base, err := SnapshotBase(q.Family)
	if err != nil {
		return Mirror{}, err
	}
	return conf.mirror(base+at.UTC().Format(snapshotLayout), "the snapshot service"), nil
}

// ports reports whether the architecture is in the family's archive of ports, and not in its main one.
func (q MirrorQuery) ports() bool { return q.Family.Ports != "" && q.Arch.Or() != arch.Default }

// MirrorAt is the archive at an address, as this host's apt would reach it.
func MirrorAt(root, url, from string) Mirror { return readAptConf(root).mirror(url, from) }

// SnapshotBase is what comes before the time in the URLs of the snapshot service: the family's own, or another of
// its layout that KIMG_SNAPSHOT (Ubuntu's: KIMG_UBUNTU_SNAPSHOT) names.
func SnapshotBase(family *suite.Family) (string, error) {
	env := family.SnapshotEnv
	v := os.Getenv(env)
	if v == "" {
		return family.Snapshot, nil
	}
	u, err := mirrorURL(v)
	if err != nil {
		return "", fmt.Errorf("use snapshot service %q of %s: %w", v, env, err)
	}
	return u + "/", nil
}

// CheckMirror checks the value of --mirror; "" is none.
func CheckMirror(raw string) error {
	if raw == "" {
		return nil
	}
	_, err := mirrorURL(raw)
	return err
}

// mirrorURL checks what a user wrote.
func mirrorURL(raw string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case err != nil:
		return "", errors.Unwrap(err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", errors.New("want a URL such as http://HOST/debian")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// from says in messages why this mirror is used.
func (m Mirror) from() string {
	if m.From == "" {
		return ""
	}
	return " (from " + m.From + ")"
}

// isSnapshot reports whether the mirror shows the past: its InRelease may be past its Valid-Until.
func (m Mirror) isSnapshot() bool {
	for _, family := range suite.Families {
		named, err := SnapshotBase(family)
		if err != nil {
			named = family.Snapshot // Resolve reports the error
		}
		for _, base := range []string{family.Snapshot, named} {
			_, base, _ = strings.Cut(base, "://") // over http as over https
			if _, rest, _ := strings.Cut(m.URL, "://"); strings.HasPrefix(rest+"/", base) {
				return true
			}
		}
	}
	return false
}

// ProxyFunc is for fetch.NewHTTP: the mirror is reached as apt reaches it, all else by the environment's proxy.
func (m Mirror) ProxyFunc() func(*http.Request) (*url.URL, error) {
	mirror, err := url.Parse(m.URL)
	if err != nil || m.Proxy == "" {
		return http.ProxyFromEnvironment
	}
	return func(r *http.Request) (*url.URL, error) {
		if r.URL.Host != mirror.Host {
			return http.ProxyFromEnvironment(r)
		}
		if m.Proxy == "DIRECT" {
			return nil, nil
		}
		return url.Parse(m.Proxy)
	}
}

// SnapshotURL is the base of a family's archive as it was at the time at, on the family's own snapshot service.
func SnapshotURL(family *suite.Family, at time.Time) string {
	return family.Snapshot + at.UTC().Format(snapshotLayout)
}

// snapshotLags are how much later than the archive changed a snapshot may have been taken that shows the change:
// the services look at the archive a few times a day, and answer for any time with what they saw last before it.
// What an index of that time names stays in the archive for longer than a day.
var snapshotLags = []time.Duration{0, 8 * time.Hour, 24 * time.Hour}

// snapshotURLs are the bases to try for what an index that was made at the time at names.
func (c *Client) snapshotURLs(family *suite.Family, at time.Time) (all []string) {
	base := cmp.Or(c.Snapshot, family.Snapshot)
	for _, lag := range snapshotLags {
		all = append(all, base+at.Add(lag).UTC().Format(snapshotLayout))
	}
	return all
}

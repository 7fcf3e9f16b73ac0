package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/kimg/kimg/internal/deb822"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Release is a verified InRelease.
type Release struct {
	Suite      suite.Suite
	Date       time.Time    // when it was made
	ValidUntil time.Time    // zero: it does not say
	InRelease  units.Digest // of the whole signed file, which is in the store
	SignedBy   []string     // primary fingerprints of the keys whose signatures are good

	Origin string // who made the archive, as it says; may be empty

	base   string // the URL of the archive it came from
	dir    string // below base, with a slash at its end: where its lists' names begin
	byHash bool   // the archive serves its lists by their digests, too
	late   bool   // NotAutomatic: its packages count where no other archive has them
	all    bool   // packages of the architecture all are in lists of their own
	files  map[string]listed
}

// listed is what an InRelease says of a file below dists/<suite>/.
type listed struct {
	size   int64
	sha256 units.Digest
}

// UntrustedError reports that an archive's index was refused.
type UntrustedError struct {
	What string // "the InRelease of trixie from http://..."
	Why  string

	fault fault
}

// fault is what is wrong with an InRelease, for advice; 0: the signature.
type fault int

const (
	stale  fault = iota + 1 // it is past its Valid-Until
	early                   // it is of a day that is still to come
	others                  // it is another suite's
	page                    // it is a web page
)

func (e *UntrustedError) Error() string { return fmt.Sprintf("%s is not trusted: %s", e.What, e.Why) }

func (e *UntrustedError) Hint() string {
	return "use another mirror with --mirror, and check that this machine's clock is right; " +
		"where a key has expired, a newer kimg has its successor"
}

// maxInRelease is some ten times what the largest of today is.
const maxInRelease = 4 << 20

// Release fetches and verifies the suite's InRelease. A refusal is an *UntrustedError.
func (c *Client) Release(ctx context.Context, s suite.Suite) (*Release, error) {
	url := c.Mirror.URL + "/dists/" + s.Name + "/InRelease"
	data, err := c.inRelease(ctx, url)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read suite %s: the mirror %s%s does not have it: name one that does (%w)",
			s, c.Mirror.URL, c.Mirror.from(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("read suite %s from %s%s: %w", s, c.Mirror.URL, c.Mirror.from(), err)
	}
	what := fmt.Sprintf("the InRelease of %s from %s", s, c.Mirror.URL)
	rel, err := c.verify(data, s, what, c.now())
	if err != nil {
		return nil, err
	}
	rel.base, rel.dir = c.Mirror.URL, "dists/"+s.Name+"/"
	if err := c.checkFresh(rel, what, what); err != nil {
		return nil, err
	}
	return rel, c.keep(data, rel.InRelease)
}

func (c *Client) inRelease(ctx context.Context, url string) ([]byte, error) {
	var buf bytes.Buffer
	err := c.HTTP.Get(ctx, url, &buf, maxInRelease)
	return buf.Bytes(), err
}

func (c *Client) keep(data []byte, d units.Digest) error {
	w, err := c.Store.Create()
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("keep what was read: %w", err)
	}
	return w.CommitAs(d)
}

func (c *Client) verify(data []byte, s suite.Suite, what string, at time.Time) (*Release, error) {
	k := c.Keyring
	if k == nil {
		var err error
		if k, err = s.Keyring(); err != nil {
			return nil, err
		}
	}
	rel, err := verified(data, k, what, at)
	if err != nil {
		return nil, err
	}
	if rel.codename != s.Name {
		why := fmt.Sprintf("it is signed, but it is that of %q", rel.codename)
		return nil, &UntrustedError{what, why, others}
	}
	rel.Suite = s
	return &rel.Release, nil
}

// verified reads an InRelease that a key of k signed.
func verified(data []byte, k *pgp.Keyring, what string, at time.Time) (*parsedRelease, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) {
		return nil, &UntrustedError{what, fmt.Sprintf("it is a web page: %.40q", bytes.TrimSpace(data)), page}
	}
	text, signedBy, err := pgp.OpenClear(data, k, at)
	if err != nil {
		return nil, &UntrustedError{What: what, Why: err.Error()}
	}
	rel, err := parseRelease(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	rel.InRelease, rel.SignedBy = units.DigestOf(data), signedBy
	return rel, nil
}

// future is how far a machine's clock may be behind an archive's.
const future = 10 * time.Minute

// checkFresh refuses an InRelease that is past its Valid-Until, which holds back updates, and one of a day to come,
// as apt does. named is what warnings call it, which stand alone.
func (c *Client) checkFresh(rel *Release, what, named string) error {
	if rel.Date.After(c.now().Add(future)) {
		return &UntrustedError{what, fmt.Sprintf("it is not valid yet: it is of %s, and here it is %s",
			rel.Date.UTC().Format(time.RFC1123), c.now().UTC().Format(time.RFC1123)), early}
	}
	if rel.ValidUntil.IsZero() || c.now().Before(rel.ValidUntil) {
		return nil
	}
	until := rel.ValidUntil.UTC().Format(time.RFC1123)
	switch {
	case c.Mirror.isSnapshot(): // it shows the past
		return nil
	case c.AllowExpired:
		c.warn(fmt.Sprintf("%s was valid until %s; it is used nevertheless, as you asked", named, until))
		return nil
	case c.Mirror.AllowExpired:
		c.warn(fmt.Sprintf("%s was valid until %s; it is used nevertheless, as this host's apt configuration says "+
			"(Acquire::Check-Valid-Until)", named, until))
		return nil
	}
	why := fmt.Sprintf("it was valid until %s", until)
	if what == named { // a suite's, of which there are many mirrors
		why += ": the mirror no longer follows the archive; name another one"
	}
	return &UntrustedError{what, why, stale}
}

func (c *Client) warn(text string) {
	if c.Warn != nil {
		c.Warn(text)
	}
}

func (c *Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

type parsedRelease struct {
	Release
	codename, suite string
}

// parseRelease reads the text of a Release file.
// https://wiki.debian.org/DebianRepository/Format#A.22Release.22_files
func parseRelease(text []byte) (*parsedRelease, error) {
	var p map[string]string
	var err error
	for stanza := range deb822.Stanzas(string(text)) {
		p, err = deb822.Map(stanza)
		break
	}
	if err != nil {
		return nil, fmt.Errorf("read its fields: %w", err)
	}
	rel := parsedRelease{codename: p["codename"], suite: p["suite"]}
	rel.Origin, rel.byHash, rel.late = printable(p["origin"]), p["acquire-by-hash"] == "yes", p["notautomatic"] == "yes"
	rel.all = slices.Contains(strings.Fields(p["architectures"]), "all") &&
		!slices.Contains(strings.Fields(p["no-support-for-architecture-all"]), "Packages")
	if rel.Date, err = http.ParseTime(inGMT(p["date"])); err != nil {
		return nil, fmt.Errorf("read its Date %q: %w", p["date"], err)
	}
	if v := p["valid-until"]; v != "" {
		if rel.ValidUntil, err = http.ParseTime(inGMT(v)); err != nil {
			return nil, fmt.Errorf("read its Valid-Until %q: %w", v, err)
		}
	}
	if p["sha256"] == "" {
		return nil, errors.New("it lists no SHA256 digests, and weaker ones can be forged")
	}
	rel.files, err = parseListed(p["sha256"])
	return &rel, err
}

// maxOrigin bounds a name that goes into locks and documents, in bytes.
const maxOrigin = 100

// printable is a text on one line without what is no letter, number, sign or blank.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	return strings.ToValidUTF8(s[:min(len(s), maxOrigin)], "")
}

// inGMT spells the zone as HTTP's dates do. The archives write the same dates with "UTC", apt-ftparchive with "+0000".
func inGMT(date string) string {
	for _, zone := range []string{" UTC", " +0000", " Z"} {
		if bare, ok := strings.CutSuffix(date, zone); ok {
			return bare + " GMT"
		}
	}
	return date
}

// parseListed reads lines of "digest size name".
func parseListed(lines string) (map[string]listed, error) {
	files := make(map[string]listed)
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("read its line %q: want a digest, a size and a name", line)
		}
		d, err := units.ParseDigest(f[0])
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("read its line %q: the size is no number", line)
		}
		files[strings.TrimPrefix(f[2], "./")] = listed{size: size, sha256: d}
	}
	return files, nil
}

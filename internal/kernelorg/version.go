package kernelorg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// Fetch downloads the tarball of a version into the store, verified by the signed list of its directory, whose keys
// must be valid now. A refusal is an *UntrustedError, a version that is not there a *NotFoundError.
func (c *Client) Fetch(ctx context.Context, v units.KernelVersion) (Verified, error) {
	if err := checkVersion(v); err != nil {
		return Verified{}, err
	}
	root, err := layout(c.Base)
	if err != nil {
		return Verified{}, err
	}
	var missing *NotFoundError
	for _, dir := range dirs(v) {
		got, err := c.fromDir(ctx, root+"/"+dir, v)
		if !errors.As(err, &missing) {
			return got, down(ctx, err)
		}
	}
	if v.RC > 0 {
		missing = &NotFoundError{
			URL: fmt.Sprintf("%s/%s", root, dirs(v)[0]),
			Why: fmt.Sprintf("there is no linux-%s there, nor in testing/: "+
				"kernel.org has release candidates only as snapshots made by git, which nobody signs", v),
			hint: fmt.Sprintf("name a git checkout of it, or its snapshot: "+
				"--kernel https://git.kernel.org/torvalds/t/linux-%s.tar.gz --allow-unsigned", v),
		}
	}
	return Verified{}, missing
}

// Newest is the newest release of a series that the signed list of its directory names: 6.12.107 for 6.12.
func (c *Client) Newest(ctx context.Context, series units.KernelVersion) (units.KernelVersion, error) {
	if err := checkVersion(series); err != nil {
		return series, err
	}
	root, err := layout(c.Base)
	if err != nil {
		return series, err
	}
	dir := root + "/" + dirs(series)[0]
	var by Verified
	list, err := c.sums(ctx, dir, &by)
	if errors.Is(err, fs.ErrNotExist) {
		return series, &NotFoundError{URL: dir + "/sha256sums.asc",
			Why:  fmt.Sprintf("the server has no list of versions, which would say what the newest %s.y is", series),
			hint: "name a version, or use another mirror with --kernel-mirror"}
	}
	if err != nil {
		return series, down(ctx, err)
	}
	best, ok := list.newest(func(v units.KernelVersion) bool {
		return v.Major == series.Major && v.Minor == series.Minor && v.RC == 0
	})
	if !ok {
		return series, absent(dir, series, list)
	}
	return best, nil
}

// fromDir fetches from one directory of the layout.
func (c *Client) fromDir(ctx context.Context, dir string, v units.KernelVersion) (Verified, error) {
	name := fmt.Sprintf("linux-%s.tar.xz", v)
	got := Verified{URL: dir + "/" + name}
	list, err := c.sums(ctx, dir, &got)
	if gz := fmt.Sprintf("linux-%s.tar.gz", v); err == nil && list[name] == "" && list[gz] != "" {
		name, got.URL = gz, dir+"/"+gz // some mirrors keep one of the two
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = c.unlisted(ctx, dir, v, &got)
	case err == nil && list[name] == "":
		err = absent(dir, v, list)
	case err == nil:
		got.SHA256 = list[name]
		err = c.byDigest(ctx, got.SHA256, got.URL)
	}
	if err == nil && c.VerifyTar {
		err = c.verifyTar(ctx, fmt.Sprintf("%s/linux-%s.tar.sign", dir, v), &got)
	}
	if err != nil {
		return Verified{}, err
	}
	return got, nil
}

// sums fetches a directory's list, or fs.ErrNotExist, and records in got who signed it.
func (c *Client) sums(ctx context.Context, dir string, got *Verified) (sums, error) {
	url := dir + "/sha256sums.asc"
	var buf bytes.Buffer
	if err := c.HTTP.Get(ctx, url, &buf, maxSums); err != nil {
		return nil, err
	}
	text, signedBy, err := pgp.OpenClear(buf.Bytes(), c.Keys.Sums, c.now())
	if err != nil {
		if err := c.letPass(got, url, err, hintFor(buf.Bytes())); err != nil {
			return nil, err
		}
		if text, err = pgp.TextOf(buf.Bytes()); err != nil {
			return nil, &UntrustedError{URL: url, Why: err.Error(), hint: hintWrong}
		}
	}
	got.SignedBy = signedBy
	list, err := parseSums(text)
	if err != nil {
		return nil, &UntrustedError{URL: url, Why: "it is not a list of digests: " + err.Error(), hint: hintNoMirror}
	}
	return list, nil
}

// hintFor is the hint for a list that no key may have signed: it may be no list at all.
func hintFor(list []byte) string {
	if bytes.HasPrefix(list, []byte("-----BEGIN PGP")) {
		return hintUnknown
	}
	return hintNoMirror
}

// letPass returns the refusal of url for the reason why its signature does not count, or nil, with a note in got, where
// it is unknown and not wrong, and the caller accepts that.
func (c *Client) letPass(got *Verified, url string, reason error, hint string) error {
	switch {
	case !errors.Is(reason, pgp.ErrUnvouched):
		return &UntrustedError{URL: url, Why: reason.Error(), hint: hintWrong}
	case !c.AllowUnsigned:
		return &UntrustedError{URL: url, Why: reason.Error(), hint: hint}
	}
	got.passed(fmt.Sprintf("%s: %v", url, reason))
	return nil
}

// unlisted is for a directory without a list.
func (c *Client) unlisted(ctx context.Context, dir string, v units.KernelVersion, got *Verified) error {
	has, err := c.exists(ctx, got.URL)
	if err != nil {
		return err
	}
	if !has {
		return &NotFoundError{URL: got.URL,
			Why:  "there is no such version: the server has neither it nor a list of the versions in " + dir,
			hint: "ask for another version, or use another mirror with --kernel-mirror"}
	}
	if !c.AllowUnsigned {
		return &UntrustedError{URL: got.URL,
			Why: "the server has no sha256sums.asc, by which alone it could be verified", hint: hintNoMirror}
	}
	got.passed(fmt.Sprintf("%s/sha256sums.asc: the server has none", dir))
	got.SHA256, err = c.unknown(ctx, got.URL, nil)
	return err
}

// exists reports whether a server has a file, by reading its first byte: answers to HEAD are not reliable.
func (c *Client) exists(ctx context.Context, url string) (bool, error) {
	err := c.HTTP.Get(ctx, url, io.Discard, 0)
	var status *fetch.StatusError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case context.Cause(ctx) != nil, errors.As(err, &status):
		return false, err
	}
	return true, nil // it has bytes, or the next read will report what is wrong
}

// absent says that a list does not name the version, and which it names.
func absent(dir string, v units.KernelVersion, list sums) error {
	why := "there is no such version"
	same := func(w units.KernelVersion) bool { return w.Major == v.Major && w.Minor == v.Minor }
	if best, ok := list.newest(same); ok {
		why += fmt.Sprintf("; the newest %d.%d.y listed is %s", v.Major, v.Minor, best)
	} else if best, ok := list.newest(func(units.KernelVersion) bool { return true }); ok {
		why += fmt.Sprintf("; no %d.%d.y is listed, the newest of all is %s", v.Major, v.Minor, best)
	}
	return &NotFoundError{URL: fmt.Sprintf("%s/linux-%s.tar.xz", dir, v), Why: why,
		hint: "ask for a version that is listed in " + dir + "/sha256sums.asc, " +
			"or use another mirror with --kernel-mirror"}
}

// byDigest downloads the file with that digest into the store, from the first of the URLs that has it.
func (c *Client) byDigest(ctx context.Context, d units.Digest, urls ...string) error {
	err := c.HTTP.ToStore(ctx, c.Store, fetch.Request{URLs: urls, Max: maxTarball, SHA256: d, Progress: c.Progress})
	return explain(strings.Join(urls, ", "), d, err)
}

// explain gives an error of a download its type.
func explain(url string, want units.Digest, err error) error {
	cause := err
	var failed *fetch.Error
	if errors.As(err, &failed) {
		cause = errors.Join(failed.Tried...)
	}
	var mismatch *store.MismatchError
	switch {
	case errors.As(cause, &mismatch):
		return &UntrustedError{URL: url, hint: hintWrong,
			Why: fmt.Sprintf("its sha256 is %s, and should be %s; it was not kept", mismatch.Got, want)}
	case errors.Is(err, fs.ErrNotExist): // every server says so
		return &NotFoundError{URL: url, Why: "the server does not have it",
			hint: "use another mirror with --kernel-mirror, or check the URL"}
	}
	return err
}

// sums is a list of digests, by file name.
type sums map[string]units.Digest

// parseSums reads a sha256sums.asc: a digest, two blanks (or a blank and a star) and a name on each line.
func parseSums(text []byte) (sums, error) {
	list := make(sums)
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		digest, name, ok := strings.Cut(line, " ")
		if !ok || len(name) < 2 || name[0] != ' ' && name[0] != '*' {
			return nil, fmt.Errorf("line %d is %.60q: want a sha256 and a file name", n, line)
		}
		name = name[1:]
		d, err := units.ParseDigest(digest)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
			return nil, fmt.Errorf("line %d names %.60q, which is not a plain file name", n, name)
		}
		if was, twice := list[name]; twice && was != d {
			return nil, fmt.Errorf("it names %s twice, with two digests", name)
		}
		list[name] = d
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it lists nothing")
	}
	return list, nil
}

// newest is the newest version whose tarball is listed and that fits.
func (s sums) newest(fits func(units.KernelVersion) bool) (best units.KernelVersion, ok bool) {
	for name := range s {
		v, isTarball := tarballVersion(name)
		if isTarball && fits(v) && (!ok || v.Compare(best) > 0) {
			best, ok = v, true
		}
	}
	return best, ok
}

// tarballVersion reads the version from "linux-4.20.6.tar.xz".
func tarballVersion(name string) (units.KernelVersion, bool) {
	s, isLinux := strings.CutPrefix(name, "linux-")
	s, isXZ := strings.CutSuffix(s, ".tar.xz")
	v, err := units.ParseKernelVersion(s)
	return v, isLinux && isXZ && err == nil && v.Extra == ""
}

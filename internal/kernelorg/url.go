package kernelorg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// FetchURL downloads the tarball (xz, gzip or zstd) at a URL into the store.
//
// With a digest want, no signature is looked for, and the mirror Base, where one is named and may have the file, is
// tried first. Without, the file URL.sign, URL.asc or, as kernel.org names them, that with .tar.sign in the place
// of .tar.xz must be a signature of the tarball, or of what it unpacks to, by a key that may sign tars. Errors are
// those of Fetch.
func (c *Client) FetchURL(ctx context.Context, rawURL string, want units.Digest) (Verified, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return Verified{}, fmt.Errorf("fetch kernel: %w", err)
	}
	got := Verified{URL: rawURL, SHA256: want}
	if want != "" {
		got.Pinned = true
		if err := c.byDigest(ctx, want, append(c.mirrored(u), rawURL)...); err != nil {
			return Verified{}, down(ctx, err)
		}
		return got, nil
	}
	sig, err := c.findSignature(ctx, u)
	if err == nil && sig == nil {
		err = c.unsigned(ctx, &got)
	}
	if err == nil {
		got.SHA256, err = c.unknown(ctx, rawURL, func(f *os.File) error { return c.checkFile(ctx, f, sig, &got) })
	}
	if err != nil {
		return Verified{}, down(ctx, err)
	}
	return got, nil
}

// published is the part of a URL that every mirror of kernel.org has.
var published = regexp.MustCompile(`/(v[0-9]+\.[0-9x]+/(?:testing/)?linux-[^/]+)$`)

// mirrored is where the mirror Base would have the file of a URL of kernel.org's
// layout; empty without such a mirror or for other URLs.
func (c *Client) mirrored(u *url.URL) []string {
	m := published.FindStringSubmatch(u.Path)
	if c.Base == "" || m == nil {
		return nil
	}
	base, err := layout(c.Base)
	if at := base + "/" + m[1]; err == nil && at != u.String() {
		return []string{at}
	}
	return nil
}

// signature is a detached signature that was found beside a tarball.
type signature struct {
	url  string
	data []byte
}

// findSignature returns nil where there is none.
func (c *Client) findSignature(ctx context.Context, u *url.URL) (*signature, error) {
	for _, url := range signatureURLs(u) {
		var buf bytes.Buffer
		err := c.HTTP.Get(ctx, url, &buf, maxSignature)
		var status *fetch.StatusError
		switch {
		case err == nil && pgp.IsSignature(buf.Bytes()):
			return &signature{url, buf.Bytes()}, nil
		case context.Cause(ctx) != nil:
			return nil, context.Cause(ctx)
		case err != nil && (!errors.As(err, &status) || status.Code >= 500 ||
			status.Code == http.StatusTooManyRequests):
			return nil, err // it may have one; by 403 some servers say that they do not
		}
	}
	return nil, nil
}

func signatureURLs(u *url.URL) []string {
	beside := func(path string) string {
		s := *u
		s.Path, s.RawPath, s.Fragment = path, "", ""
		return s.String()
	}
	all := []string{beside(u.Path + ".sign"), beside(u.Path + ".asc")}
	if i := strings.LastIndex(u.Path, ".tar."); i >= 0 {
		all = append(all, beside(u.Path[:i]+".tar.sign"))
	}
	return all
}

// unsigned refuses what has no signature, or notes in got that it has none.
func (c *Client) unsigned(ctx context.Context, got *Verified) error {
	if c.AllowUnsigned {
		got.passed(got.URL + ": there is no signature beside it")
		return nil
	}
	has, err := c.exists(ctx, got.URL)
	if err == nil && !has {
		return explain(got.URL, "", &fetch.StatusError{Code: http.StatusNotFound})
	}
	if err != nil {
		return err
	}
	return &UntrustedError{URL: got.URL, Why: "there is no signature beside it (.sign or .asc)",
		hint: "download it, check it, and name the file; " +
			"or accept it as it is with --allow-unsigned, which the manifest records"}
}

// checkFile checks a downloaded file against its signature, if there is one.
func (c *Client) checkFile(ctx context.Context, f *os.File, sig *signature, got *Verified) error {
	if sig == nil {
		return nil
	}
	by, err := pgp.VerifyDetached(reading.Until(ctx, f), sig.data, c.Keys.Tar, c.now())
	if err == nil {
		got.SignedBy = by
		return nil
	}
	if !errors.Is(err, pgp.ErrUnvouched) { // a signature of the tar is wrong for the file
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("verify %s: %w", got.URL, err)
		}
		if by, err = c.checkTar(ctx, f, sig.data); err == nil {
			got.TarSignedBy = by
			return nil
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return c.letPass(got, sig.url, err, hintUnknown)
}

// unknown downloads a file of an unknown digest. It enters the store only if check, which may be nil, accepts it.
func (c *Client) unknown(ctx context.Context, url string, check func(*os.File) error) (units.Digest, error) {
	dir, remove, err := c.Store.TempDir()
	if err != nil {
		return "", err
	}
	defer func() { _ = remove() }() // if it fails, the store's next sweep removes it
	f, err := os.Create(filepath.Join(dir, "tarball"))
	if err != nil {
		return "", fmt.Errorf("download %s: %w", url, err)
	}
	defer f.Close()
	if err := c.HTTP.ToFile(ctx, url, f, maxTarball, c.Progress); err != nil {
		return "", explain(url, "", err)
	}
	if err := checkPacked(f); err != nil {
		return "", &UntrustedError{URL: url, Why: err.Error(),
			hint: "check that the URL is that of a tarball and that no proxy answers in its place"}
	}
	if check != nil {
		if err := check(f); err != nil {
			return "", err
		}
	}
	d, _, err := c.Store.Take(f.Name())
	return d, err
}

// checkPacked refuses what is not compressed, such as a page that asks to log in, and leaves f at its beginning.
func checkPacked(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, err := unpack(f)
	if err != nil {
		return err
	}
	_ = r.Close() // of nothing but memory
	_, err = f.Seek(0, io.SeekStart)
	return err
}

package kernelorg

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kimg/kimg/internal/decompress"
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

// mirrored is where the mirror Base would have the file of a URL of kernel.org's layout.
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

// layout is the URL of the directory that v4.x, v5.x and so on are in.
func layout(base string) (string, error) {
	u, err := parseURL(cmp.Or(base, DefaultBase))
	if err != nil {
		return "", fmt.Errorf("read kernel mirror: %w", err)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("read kernel mirror: %q has more than a path behind its host: want a URL such as %s",
			base, DefaultBase)
	}
	u = u.JoinPath("/")
	if path.Base(u.Path) != "kernel" {
		u = u.JoinPath("pub/linux/kernel")
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// CheckBase checks a Client's Base.
func CheckBase(base string) error {
	_, err := layout(base)
	return err
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not a URL that kimg can fetch: want https://host/path", s)
	}
	return u, nil
}

// fourth is the fourth number of old versions: the .61 of 2.6.32.61.
var fourth = regexp.MustCompile(`^\.\d+$`)

// dirs are the directories that may hold the version, in the order to look. Release candidates have had no tarballs
// there since 2017, only snapshots that git makes (https://www.kernel.org/category/releases.html); mirrors that
// kept the older ones have them in testing/.
func dirs(v units.KernelVersion) []string {
	dir := fmt.Sprintf("v%d.x", v.Major)
	if v.Major < 3 {
		dir = fmt.Sprintf("v%d.%d", v.Major, v.Minor)
	}
	if v.RC > 0 {
		return []string{dir, dir + "/testing"}
	}
	return []string{dir}
}

// checkVersion refuses versions that kernel.org cannot have.
func checkVersion(v units.KernelVersion) error {
	if v.Extra == "" || v.Major == 2 && v.RC == 0 && fourth.MatchString(v.Extra) {
		return nil
	}
	plain := v
	plain.Extra = ""
	return &NotFoundError{
		URL: "linux-" + v.String(), Why: fmt.Sprintf("kernel.org has no versions that end in %q", v.Extra),
		hint: fmt.Sprintf("ask for %s, or name a directory, a tarball or the URL of one", plain),
	}
}

// verifyTar checks the tarball got, which is in the store, against the detached signature of what it unpacks to.
func (c *Client) verifyTar(ctx context.Context, url string, got *Verified) error {
	var sig bytes.Buffer
	err := c.HTTP.Get(ctx, url, &sig, maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		if !c.AllowUnsigned {
			return &UntrustedError{URL: got.URL, Why: "the server does not have the signature of its tar, " + url,
				hint: "use another mirror with --kernel-mirror, or do without --verify-tar"}
		}
		got.passed(url + ": the server does not have it")
		return nil
	}
	if err != nil {
		return err
	}
	r, err := c.Store.Open(got.SHA256)
	if err != nil {
		return err
	}
	defer r.Close()
	by, err := c.checkTar(ctx, r, sig.Bytes())
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return c.letPass(got, url, err, hintUnknown)
	}
	got.TarSignedBy = by
	return nil
}

// checkTar unpacks r and returns who signed what was in it.
func (c *Client) checkTar(ctx context.Context, r io.Reader, sig []byte) ([]string, error) {
	if !pgp.IsSignature(sig) { // before a gigabyte is unpacked
		return pgp.VerifyDetached(bytes.NewReader(nil), sig, c.Keys.Tar, c.now())
	}
	tar, err := unpack(reading.Until(ctx, r))
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	bounded := reading.Bounded(tar, maxTar, fmt.Errorf("it unpacks to more than %d bytes", int64(maxTar)))
	return pgp.VerifyDetached(bounded, sig, c.Keys.Tar, c.now())
}

// unpack undoes the compression that r begins with.
func unpack(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(decompress.HeadSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if suffix, ok := decompress.Suffix(head); ok {
		return decompress.NewReader(b, suffix)
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return nil, fmt.Errorf("it is not an xz, gzip, bzip2 or zstd file (it begins with %q)", line)
}

package kernelorg

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/reading"
)

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

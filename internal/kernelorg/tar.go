package kernelorg

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/reading"
)

// verifyTar holds the tarball got, which is in the store, against the detached
// signature of what it unpacks to.
func (c *Client) verifyTar(ctx context.Context, url string, got *Verified) error {
	var sig bytes.Buffer
	err := c.HTTP.Get(ctx, url, &sig, maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		if !c.AllowUnsigned {
			return &UntrustedError{URL: got.URL, Why: "the server does not have the signature of its tar, " + url, hint: "take another mirror with --kernel-mirror, or do without --verify-tar"}
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
	return pgp.VerifyDetached(reading.Bounded(tar, maxTar, fmt.Errorf("it unpacks to more than %d bytes", int64(maxTar))), sig, c.Keys.Tar, c.now())
}

// The beginnings of compressed files.
var (
	magicXZ   = []byte("\xfd7zXZ\x00")     // https://tukaani.org/xz/xz-file-format.txt, 2.1.1.1
	magicGzip = []byte("\x1f\x8b\x08")     // RFC 1952, 2.3.1
	magicZstd = []byte("\x28\xb5\x2f\xfd") // RFC 8878, 3.1.1
)

// maxWindow is the most memory that a zstd file may ask for: the window of
// "zstd --ultra --long=27".
const maxWindow = 128 << 20

// unpack undoes the compression that r begins with.
func unpack(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(len(magicXZ))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, magicXZ):
		x, err := xz.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("unpack xz: %w", err)
		}
		return io.NopCloser(x), nil
	case bytes.HasPrefix(head, magicGzip):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, magicZstd):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("unpack zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return nil, fmt.Errorf("it is no xz, gzip or zstd file (it begins with %q)", line)
}

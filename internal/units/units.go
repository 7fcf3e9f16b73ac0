// Package units holds the small values that every room of kimg shares: digests, sizes and kernel versions. Each
// validates itself when it is parsed and marshals itself as text, so a value of one of these types is a value that
// was checked.
package units

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	gounits "github.com/docker/go-units"
)

// Digest is a sha256 in lower-case hexadecimal, written without a prefix, the form that Debian's indices and
// sha256sums.asc use. The zero value means "no digest".
type Digest string

// ParseDigest accepts 64 hexadecimal digits, with or without "sha256:".
func ParseDigest(s string) (Digest, error) {
	h := strings.ToLower(strings.TrimPrefix(s, "sha256:"))
	if b, err := hex.DecodeString(h); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("parse digest %q: want 64 hexadecimal digits of a sha256", s)
	}
	return Digest(h), nil
}

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	s := sha256.Sum256(b)
	return Digest(hex.EncodeToString(s[:]))
}

// DigestReader reads r to its end and returns its digest and length in bytes.
func DigestReader(r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return "", n, err
	}
	return DigestSum(h), n, nil
}

// DigestSum returns the digest that a running sha256 has reached.
func DigestSum(h hash.Hash) Digest { return Digest(hex.EncodeToString(h.Sum(nil))) }

// Short is the first 12 digits, for people and for names.
func (d Digest) Short() string {
	if len(d) < 12 {
		return string(d)
	}
	return string(d[:12])
}

// UnmarshalText refuses anything that is not a digest; empty text is the zero value.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = ""
		return nil
	}
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// Size is a number of bytes.
type Size int64

// ParseSize reads a size as people write it for disks: 1G, 512M, 2GiB (powers of 1024).
func ParseSize(s string) (Size, error) {
	n, err := gounits.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("parse size %q: want a number with K, M, G or T, such as 1G", s)
	}
	return Size(n), nil
}

// String gives the shortest exact form ParseSize reads back.
func (s Size) String() string {
	for _, u := range []struct {
		n Size
		c string
	}{{1 << 40, "T"}, {1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}} {
		if s >= u.n && s%u.n == 0 {
			return strconv.FormatInt(int64(s/u.n), 10) + u.c
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Human is a rounded size for people, in powers of 1024.
func (s Size) Human() string { return gounits.BytesSize(float64(s)) }

// MarshalText writes String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err == nil {
		*s = v
	}
	return err
}

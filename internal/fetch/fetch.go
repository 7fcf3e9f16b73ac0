// Package fetch downloads over HTTP: in parallel, with retries, resuming what was cut off in this run or an earlier
// one, and never keeping a file that is not the one that was asked for.
package fetch

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/units"
)

// Client downloads. The zero value works.
type Client struct {
	HTTP    *http.Client  // nil: NewHTTP(nil)
	Retries int           // tries after the first, for each URL; 0: 4, negative: none
	Backoff time.Duration // the wait before the first retry, doubled each time; 0: half a second
	Stall   time.Duration // a transfer without a byte for this long counts as cut; 0: 30 s

	once sync.Once
	http *http.Client
}

// Request names one file for the store.
type Request struct {
	URLs     []string          // where it may be had, tried in order
	Size     int64             // bytes; 0: not known, bounded by Max
	Max      int64             // the most bytes to take where Size is 0
	SHA256   units.Digest      // what it must be
	Progress func(delta int64) // may be nil; bytes that arrived, negative when they turned out to be wrong
}

// NewHTTP returns a client with a download's limits. proxy is asked each time; nil: the environment's.
func NewHTTP(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return &http.Client{Transport: &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}}
}

// GetError tells why Get has nothing.
type GetError struct {
	URL string
	Err error
}

func (e *GetError) Error() string { return fmt.Sprintf("download %s: %v", redacted(e.URL), e.Err) }

func (e *GetError) Unwrap() error { return e.Err }

func (e *GetError) Hint() string { return networkHint }

const networkHint = "check the network, or try another archive with --mirror"

// redacted is an address without its password, for messages.
func redacted(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return address
}

// Get downloads url, of at most max bytes, to w, which sees nothing before all has arrived.
func (c *Client) Get(ctx context.Context, url string, w io.Writer, max int64) error {
	var buf bytes.Buffer
	err := c.retry(ctx, func() (bool, error) {
		buf.Reset()
		body, err := c.open(ctx, url, 0, "")
		if err != nil {
			return false, err
		}
		defer body.Close()
		n, err := io.Copy(&buf, io.LimitReader(body, max+1))
		if n > max {
			return false, &refusal{fmt.Errorf("what the server sends is larger than the %d bytes it may have", max)}
		}
		return false, err
	})
	if err != nil {
		return &GetError{url, err}
	}
	if _, err := w.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("download %s: %w", redacted(url), err)
	}
	return nil
}

// retry calls try until it succeeds, cannot get better, or has failed too often without having moved on.
func (c *Client) retry(ctx context.Context, try func() (moved bool, err error)) error {
	wait, retries := cmp.Or(c.Backoff, 500*time.Millisecond), cmp.Or(c.Retries, 4)
	delay := wait
	for failures := 0; ; {
		moved, err := try()
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if moved {
			failures, delay = 0, wait
		}
		failures++
		if failures > retries || !mayHeal(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(delay, retryAfter(err))):
		}
		delay *= 2
	}
}

// open requests url from the byte at offset on. The body ends with an error when no byte has come for the time
// c.Stall. With offset 0 the answer is 200; else it is 206 for exactly that range, or errWhole. etag, where it is
// not empty, makes the server answer with the whole file if it has another one now.
func (c *Client) open(ctx context.Context, url string, offset int64, etag string) (*body, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel(nil)
		return nil, &refusal{err}
	}
	req.Header.Set("User-Agent", "kimg")
	req.Header.Set("Accept-Encoding", "identity") // the bytes themselves: their digest and their offsets count
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		if etag != "" {
			req.Header.Set("If-Range", etag)
		}
	}
	resp, err := c.client().Do(req)
	if err != nil {
		err = transportError(ctx, err)
		cancel(nil)
		return nil, err
	}
	b := &body{Response: resp, cancel: cancel, ctx: ctx, stall: cmp.Or(c.Stall, 30*time.Second)}
	if err := b.check(offset); err != nil {
		b.Close()
		return nil, err
	}
	b.timer = time.AfterFunc(b.stall, func() { cancel(&stallError{b.stall}) })
	return b, nil
}

func (c *Client) client() *http.Client {
	c.once.Do(func() {
		if c.http = c.HTTP; c.http == nil {
			c.http = NewHTTP(nil)
		}
	})
	return c.http
}

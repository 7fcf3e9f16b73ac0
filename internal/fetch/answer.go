package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StatusError is a server's refusal. A file that the server does not have (404, 410) is fs.ErrNotExist.
type StatusError struct {
	Code  int
	after time.Duration // the server's Retry-After
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
}

func (e *StatusError) Hint() string { return "check the address, or try another archive with --mirror" }

// Is makes 404 and 410 fs.ErrNotExist.
func (e *StatusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.Code == http.StatusNotFound || e.Code == http.StatusGone)
}

// refusal is an error that another try would meet again.
type refusal struct{ error }

func (e *refusal) Unwrap() error { return e.error }

type stallError struct{ after time.Duration }

func (e *stallError) Error() string { return fmt.Sprintf("nothing has arrived for %v", e.after) }

var (
	errWhole = errors.New("the server does not go on from where the download was cut")
	errRange = errors.New("the server answered with another range than was asked for")
)

// mayHeal says whether it is worth trying again.
func mayHeal(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code >= 500 || status.Code == http.StatusRequestTimeout ||
			status.Code == http.StatusTooManyRequests
	}
	var refused *refusal
	return !errors.As(err, &refused)
}

// maxRetryAfter bounds how long a server may make a person wait.
const maxRetryAfter = 20 * time.Second

func retryAfter(err error) time.Duration {
	var status *StatusError
	if errors.As(err, &status) {
		return min(status.after, maxRetryAfter)
	}
	return 0
}

// transportError strips net/http's "Get URL:", and puts the context's cause in the place of "context canceled".
func transportError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if strings.Contains(err.Error(), "unsupported protocol scheme") {
		return &refusal{err}
	}
	return plainly(err)
}

// plain is an error of Go's network in words.
type plain struct {
	text string
	err  error
}

func (e *plain) Error() string { return e.text }

func (e *plain) Unwrap() error { return e.err }

func plainly(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	var slow net.Error
	timeout := errors.As(err, &slow) && slow.Timeout()
	say := func(format string, args ...any) error { return &plain{fmt.Sprintf(format, args...), err} }
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return say("reach the proxy: %v", plainly(op.Err))
	case errors.As(err, &dns) && dns.IsNotFound:
		return say("no host is called %s", dns.Name)
	case errors.As(err, &dns) && dns.IsTimeout:
		return say("nothing answers who %s is: no name server is in reach", dns.Name)
	case errors.As(err, &dns):
		return err
	case op != nil && op.Op == "dial" && op.Addr != nil && timeout:
		return say("%s does not answer", op.Addr)
	case op != nil && op.Op == "dial" && op.Addr != nil && errors.Is(err, syscall.ECONNREFUSED):
		return say("nothing listens at %s (connection refused)", op.Addr)
	case op != nil && op.Op == "dial" && op.Addr != nil &&
		(errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH)):
		return say("no network leads to %s", op.Addr)
	case timeout:
		return say("the server took the connection and does not answer")
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET):
		return say("the server cut the connection")
	}
	return err
}

type body struct {
	*http.Response
	ctx    context.Context // the request's own; lives and dies with it
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if n > 0 {
		b.timer.Reset(b.stall)
	}
	var stalled *stallError
	if err != nil && errors.As(context.Cause(b.ctx), &stalled) {
		err = stalled
	} else if err != nil && err != io.EOF {
		err = plainly(err)
	}
	return n, err
}

func (b *body) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	b.cancel(nil)
	return b.Body.Close()
}

// check holds the answer's head against what was asked for.
func (b *body) check(offset int64) error {
	switch b.StatusCode {
	case http.StatusOK:
		if offset > 0 {
			return errWhole
		}
		return nil
	case http.StatusPartialContent:
		if start, _, err := contentRange(b.Header.Get("Content-Range")); err != nil || start != offset {
			return errRange
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return errRange
	}
	seconds, _ := strconv.Atoi(b.Header.Get("Retry-After")) // its other form, a date, is rare: no wait of its own then
	return &StatusError{Code: b.StatusCode, after: time.Duration(seconds) * time.Second}
}

// total is the size of the whole file, by the answer's head; -1: it does not say.
func (b *body) total() int64 {
	if b.StatusCode == http.StatusPartialContent {
		_, total, _ := contentRange(b.Header.Get("Content-Range")) // check has read it
		return total
	}
	return b.ContentLength
}

// contentRange reads "bytes 100-199/200"; an unknown total ("*") is -1. RFC 9110, section 14.4.
func contentRange(s string) (start, total int64, err error) {
	var size string
	var end int64
	if _, err := fmt.Sscanf(s, "bytes %d-%d/%s", &start, &end, &size); err != nil {
		return 0, 0, fmt.Errorf("read Content-Range %q: %w", s, err)
	}
	if size == "*" {
		return start, -1, nil
	}
	if total, err = strconv.ParseInt(size, 10, 64); err != nil || end != total-1 {
		return 0, 0, fmt.Errorf("read Content-Range %q: not up to the file's end", s)
	}
	return start, total, nil
}

// strongETag is the answer's validator where it can stand in If-Range. RFC 9110, section 13.1.5: a weak one cannot.
func (b *body) strongETag() string {
	if tag := b.Header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return ""
}

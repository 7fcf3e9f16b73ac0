package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// content is large enough to be cut in many places.
var content = func() []byte {
	b := make([]byte, 1<<20+333)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}()

func newStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/file"
}

func quick() *Client { return &Client{Backoff: time.Millisecond, Stall: time.Second} }

func request(urls ...string) Request {
	return Request{URLs: urls, Size: int64(len(content)), SHA256: units.DigestOf(content)}
}

// whole is a server that knows ranges and validators.
func whole(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(content))
}

// cutAfter answers as whole does, and breaks the connection after n bytes.
func cutAfter(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { whole(&cutter{ResponseWriter: w, left: n}, r) }
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	c.left -= n
	if err == nil && c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// noRanges knows only whole files.
func noRanges(w http.ResponseWriter, r *http.Request) { w.Write(content) }

func mustHave(t *testing.T, st *store.Store) {
	t.Helper()
	if err := st.Verify(units.DigestOf(content)); err != nil {
		t.Errorf("the file is not in the store: %v", err)
	}
}

func mustBeClean(t *testing.T, st *store.Store) {
	t.Helper()
	if st.Has(units.DigestOf(content)) {
		t.Error("a wrong file is in the store")
	}
	dir := filepath.Dir(filepath.Dir(filepath.Dir(st.Path(units.DigestOf(content)))))
	if left, _ := filepath.Glob(filepath.Join(dir, "partial", "*")); len(left) > 0 {
		t.Errorf("left in partial: %v", left)
	}
}

func TestToStore(t *testing.T) {
	st, c := newStore(t), quick()
	var asked atomic.Int32
	var arrived atomic.Int64
	req := request(serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); whole(w, r) }))
	req.Progress = func(n int64) { arrived.Add(n) }
	for range 2 { // the second time it is there already
		arrived.Store(0)
		if err := c.ToStore(t.Context(), st, req); err != nil {
			t.Fatal(err)
		}
		if arrived.Load() != req.Size {
			t.Errorf("progress told of %d bytes of %d", arrived.Load(), req.Size)
		}
	}
	mustHave(t, st)
	if asked.Load() != 1 {
		t.Errorf("the server was asked %d times", asked.Load())
	}
}

func TestToStoreOfUnknownSize(t *testing.T) {
	st := newStore(t)
	req := request(serve(t, cutOnce(300_000)))
	req.Size, req.Max = 0, int64(len(content))
	if err := quick().ToStore(t.Context(), st, req); err != nil {
		t.Fatal(err)
	}
	mustHave(t, st)
}

// cutOnce breaks the first answer after n bytes.
func cutOnce(n int) http.HandlerFunc {
	var asked atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			cutAfter(n)(w, r)
		}
		whole(w, r)
	}
}

func TestCutConnectionsAreResumed(t *testing.T) {
	st := newStore(t)
	var ranges []string
	req := request(serve(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
		cutAfter(200_000)(w, r)
	}))
	var arrived atomic.Int64
	req.Progress = func(n int64) { arrived.Add(n) }
	if err := quick().ToStore(t.Context(), st, req); err != nil {
		t.Fatal(err) // six requests, more than the retries allow without a step forward
	}
	mustHave(t, st)
	if len(ranges) != 6 || ranges[0] != " " || !strings.HasSuffix(ranges[5], ` "v1"`) {
		t.Errorf("asked for %q", ranges)
	}
	if arrived.Load() != req.Size {
		t.Errorf("progress told of %d bytes of %d", arrived.Load(), req.Size)
	}
}

// A server may cut often and early: what counts is that each answer goes on.
func TestSmallCutsAreResumed(t *testing.T) {
	st := newStore(t)
	if err := quick().ToStore(t.Context(), st, request(serve(t, cutAfter(10_000)))); err != nil {
		t.Fatal(err)
	}
	mustHave(t, st)
}

func TestWrongRangeIsTriedFromTheStart(t *testing.T) {
	st := newStore(t)
	var asked int
	req := request(serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch asked++; asked {
		case 1:
			cutAfter(400_000)(w, r)
		case 2: // the right range by its head, with another file's bytes
			w.Header().Set("ETag", `"v1"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, len(content))))
		default:
			whole(w, r)
		}
	}))
	if err := quick().ToStore(t.Context(), st, req); err != nil {
		t.Fatal(err)
	}
	mustHave(t, st)
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
}

func TestResumedAcrossRuns(t *testing.T) {
	st, c := newStore(t), quick()
	c.Retries = -1
	if err := c.ToStore(t.Context(), st, request(serve(t, cutAfter(500_000)))); err == nil {
		t.Fatal("a cut download succeeded")
	}
	var got string
	req := request(serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header.Get("Range"); whole(w, r) }))
	if err := quick().ToStore(t.Context(), st, req); err != nil {
		t.Fatal(err)
	}
	mustHave(t, st)
	if !strings.HasPrefix(got, "bytes=") {
		t.Error("the second run began anew")
	}
}

func TestRunsThatWereFedWrongBytesStartAnew(t *testing.T) {
	for name, server := range map[string]http.HandlerFunc{"ranges": whole, "no ranges": noRanges} {
		t.Run(name, func(t *testing.T) {
			st := newStore(t)
			p, err := st.Partial(t.Context(), units.DigestOf(content))
			if err != nil {
				t.Fatal(err)
			}
			p.Write(make([]byte, 12345))
			p.Close()
			var arrived atomic.Int64
			req := request(serve(t, server))
			req.Progress = func(n int64) { arrived.Add(n) }
			if err := quick().ToStore(t.Context(), st, req); err != nil {
				t.Fatal(err)
			}
			mustHave(t, st)
			if arrived.Load() != req.Size {
				t.Errorf("progress told of %d bytes of %d", arrived.Load(), req.Size)
			}
		})
	}
}

func TestFileThatChangesWhileItIsFetched(t *testing.T) {
	st := newStore(t)
	other := bytes.Repeat([]byte("other"), len(content)/5+1)[:len(content)]
	var asked int
	req := request(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.Header().Set("ETag", `"old"`)
			http.ServeContent(&cutter{ResponseWriter: w, left: 400_000}, r, "", time.Time{}, bytes.NewReader(other))
		}
		whole(w, r)
	}))
	if err := quick().ToStore(t.Context(), st, req); err != nil {
		t.Fatal(err)
	}
	mustHave(t, st)
}

func TestNextURL(t *testing.T) {
	wrong := bytes.Clone(content)
	wrong[len(wrong)/2] ^= 1
	for name, bad := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"forbidden": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"broken":    func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"a page":    func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>please log in</html>") },
		"tampered":  func(w http.ResponseWriter, r *http.Request) { w.Write(wrong) },
		"too long":  func(w http.ResponseWriter, r *http.Request) { w.Write(append(bytes.Clone(content), 0)) },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Write(content)
			w.(http.Flusher).Flush()
			w.Write(content)
		},
		"truncated": func(w http.ResponseWriter, r *http.Request) {
			w.Write(content[:1000])
			w.(http.Flusher).Flush()
		},
		"odd ranges": oddRanges,
		"no answer":  func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"not http at all": func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Write([]byte("220 ftp ready\r\n"))
			conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStore(t)
			url := serve(t, bad)
			err := quick().ToStore(t.Context(), st, request(url))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), url) {
				t.Errorf("the error does not name the URL: %v", err)
			}
			if errors.Is(err, fs.ErrNotExist) != (name == "not found") {
				t.Errorf("errors.Is(fs.ErrNotExist) is wrong for: %v", err)
			}
			if name != "truncated" && name != "odd ranges" { // those are the beginning of the right file
				mustBeClean(t, st)
			}
			if err := quick().ToStore(t.Context(), st, request(url, serve(t, whole))); err != nil {
				t.Errorf("with a good URL after it: %v", err)
			}
			mustHave(t, st)
		})
	}
}

// oddRanges cuts the first answer and answers a range with another range.
func oddRanges(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Range") == "" {
		cutAfter(100_000)(w, r)
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", len(content)-1, len(content)))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(content[7:])
}

func TestNoURLHasIt(t *testing.T) {
	gone := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusGone) })
	err := quick().ToStore(t.Context(), newStore(t), request(serve(t, http.NotFound), gone))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("404 and 410: %v", err)
	}
	broken := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	err = quick().ToStore(t.Context(), newStore(t), request(gone, broken))
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("410 and 500 count as missing: %v", err)
	}
}

func TestRetries(t *testing.T) {
	var asked atomic.Int32
	flaky := func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		whole(w, r)
	}
	var buf bytes.Buffer
	if err := quick().Get(t.Context(), serve(t, flaky), &buf, 2<<20); err != nil || !bytes.Equal(buf.Bytes(), content) {
		t.Errorf("Get: %d bytes, %v", buf.Len(), err)
	}
	asked.Store(-1000)
	if err := quick().Get(t.Context(), serve(t, flaky), &buf, 2<<20); err == nil || asked.Load() != -995 {
		t.Errorf("after %d tries: %v", asked.Load()+1000, err)
	}
}

func TestStallCountsAsCut(t *testing.T) {
	c := quick()
	c.Stall = 50 * time.Millisecond
	var asked atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Write(content[:10_000])
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
			return
		}
		whole(w, r)
	})
	st := newStore(t)
	if err := c.ToStore(t.Context(), st, request(url)); err != nil {
		t.Fatal(err)
	}
	mustHave(t, st)
}

func TestGetRefusesWhatIsTooLarge(t *testing.T) {
	var buf bytes.Buffer
	err := quick().Get(t.Context(), serve(t, whole), &buf, 1000)
	if err == nil || buf.Len() > 0 || !strings.Contains(err.Error(), "1000 bytes") {
		t.Errorf("%d bytes, %v", buf.Len(), err)
	}
}

func TestBadURL(t *testing.T) {
	for _, url := range []string{"ftp://example.org/x", "no-scheme", "http://[::1", ""} {
		begun := time.Now()
		err := (&Client{}).Get(t.Context(), url, &bytes.Buffer{}, 10)
		if err == nil || !strings.Contains(err.Error(), "download "+url) || time.Since(begun) > time.Second {
			t.Errorf("%q after %v: %v", url, time.Since(begun), err)
		}
	}
}

func TestCancelEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(content[:10_000])
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	begun := time.Now()
	err := (&Client{}).ToStore(ctx, newStore(t), request(url))
	if !errors.Is(err, context.Canceled) || time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

func TestManyAskForOneFile(t *testing.T) {
	st := newStore(t)
	var asked atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); whole(w, r) })
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := quick().ToStore(t.Context(), st, request(url)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mustHave(t, st)
	if asked.Load() != 1 {
		t.Errorf("the server was asked %d times for one file", asked.Load())
	}
}

// What Go's network says is said in words, and is still what it was.
func TestPlainly(t *testing.T) {
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	cut := httptest.NewServer(http.HandlerFunc(abort))
	defer cut.Close()
	c := &Client{Retries: -1, HTTP: &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: time.Millisecond}}}
	for url, want := range map[string]string{
		down.URL:   "nothing listens at " + strings.TrimPrefix(down.URL, "http://") + " (connection refused)",
		silent.URL: "the server took the connection and does not answer",
		cut.URL:    "the server cut the connection",
	} {
		err := c.Get(t.Context(), url, io.Discard, 1)
		if err == nil || err.Error() != "download "+url+": "+want {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
	at := &net.TCPAddr{IP: net.IP{10, 0, 0, 9}, Port: 80}
	for want, err := range map[string]error{
		"no host is called nowhere.example": &net.OpError{Op: "dial", Err: &net.DNSError{Name: "nowhere.example",
			IsNotFound: true}},
		"10.0.0.9:80 does not answer": &net.OpError{Op: "dial", Addr: at, Err: os.ErrDeadlineExceeded},
		"reach the proxy: no network leads to 10.0.0.9:80": &net.OpError{Op: "proxyconnect", Err: &net.OpError{
			Op: "dial", Addr: at, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}},
		"something else": errors.New("something else"),
	} {
		if got := plainly(err); got.Error() != want || !errors.Is(got, err) {
			t.Errorf("%v is said as %v, want %s", err, got, want)
		}
	}
}

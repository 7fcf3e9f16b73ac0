package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ulikunitz/xz"

	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/pgp/pgptest"
	"github.com/kimg/kimg/internal/units"
)

// kernelSite is a server with kernel.org's layout that has Linux 4.20.6, as far
// as that takes to be resolved.
type kernelSite struct {
	*httptest.Server
	key     *openpgp.Entity
	tarball []byte
	asked   int
}

func newKernelSite(t *testing.T) *kernelSite {
	t.Helper()
	var b bytes.Buffer
	z, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(z)
	for name, text := range map[string]string{
		"linux-4.20.6/Makefile": "VERSION = 4\nPATCHLEVEL = 20\nSUBLEVEL = 6\nEXTRAVERSION =\n",
		"linux-4.20.6/Kbuild":   "#\n",
		"linux-4.20.6/Kconfig":  "mainmenu \"Linux\"\n",
	} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	s := &kernelSite{key: pgptest.NewKey(t, "somebody's mirror", 0), tarball: b.Bytes()}
	sums := pgptest.Clear(t, string(units.DigestOf(s.tarball))+"  linux-4.20.6.tar.xz\n", s.key)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked++
		switch r.URL.Path {
		case "/pub/linux/kernel/v4.x/sha256sums.asc":
			w.Write(sums)
		case "/pub/linux/kernel/v4.x/linux-4.20.6.tar.xz":
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.tarball))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (site *kernelSite) session(t *testing.T, trusted bool) *session {
	t.Helper()
	s := testSession(t)
	s.env.Now = func() time.Time { return pgptest.Today }
	s.spec.Kernel, s.spec.KernelMirror = "4.20.6", site.URL
	if trusted {
		file := filepath.Join(t.TempDir(), "key.gpg")
		var b bytes.Buffer
		if err := site.key.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		s.spec.KernelKeyrings = []string{file}
	}
	return s
}

func resolveKernelOf(t *testing.T, s *session, old KernelLock) (KernelLock, error) {
	t.Helper()
	return s.resolveKernel(t.Context(), old)
}

func TestReleaseIsPinnedOnce(t *testing.T) {
	site := newKernelSite(t)
	s := site.session(t, true)
	l, err := resolveKernelOf(t, s, KernelLock{})
	if err != nil {
		t.Fatal(err)
	}
	if l.Version.String() != "4.20.6" || l.SHA256 != units.DigestOf(site.tarball) || len(l.Download.SignedBy) != 1 ||
		l.Download.Unsigned {
		t.Errorf("lock is %+v, download %+v", l, l.Download)
	}
	era, err := s.toolchainFor(l.Version, ToolchainLock{})
	if err != nil || string(era.Target) != "bullseye" || era.Compiler != "gcc-9" {
		t.Errorf("4.20.6 compiles in %s with %s, %v", era.Target, era.Compiler, err)
	}
	asked := site.asked
	again, err := resolveKernelOf(t, s, l)
	if err != nil || again.SHA256 != l.SHA256 || site.asked != asked {
		t.Errorf("a pinned kernel: %v, %d more requests", err, site.asked-asked)
	}
	if err := os.Remove(s.store.Path(l.SHA256)); err != nil {
		t.Fatal(err)
	}
	if _, err := resolveKernelOf(t, s, l); err != nil || !s.store.Has(l.SHA256) {
		t.Errorf("a pinned kernel that left the store: %v", err)
	}
}

func TestReleaseIsRefused(t *testing.T) {
	site := newKernelSite(t)
	var untrusted *kernelorg.UntrustedError
	s := site.session(t, false)
	if _, err := resolveKernelOf(t, s, KernelLock{}); !errors.As(err, &untrusted) {
		t.Errorf("an unknown key: %v", err)
	}
	s.spec.AllowUnsigned = true
	l, err := resolveKernelOf(t, s, KernelLock{})
	if err != nil || !l.Download.Unsigned {
		t.Errorf("--allow-unsigned: %v, %+v", err, l.Download)
	}
	s.spec.AllowUnsigned = false
	if _, err := resolveKernelOf(t, s, l); !errors.As(err, &untrusted) {
		t.Errorf("what was let pass once is not let pass for ever: %v", err)
	}
	whole := site.tarball
	site.tarball = append([]byte(nil), whole...)
	site.tarball[len(whole)/2] ^= 1
	s = site.session(t, true)
	if _, err := resolveKernelOf(t, s, KernelLock{}); err == nil || s.store.Has(units.DigestOf(site.tarball)) {
		t.Errorf("a tampered tarball: %v", err)
	}
	s.spec.Kernel = "4.20.99"
	var absent *kernelorg.NotFoundError
	if _, err := resolveKernelOf(t, s, KernelLock{}); !errors.As(err, &absent) ||
		!strings.Contains(err.Error(), "4.20.6") {
		t.Errorf("a version that is not there: %v", err)
	}
	s.spec.Frozen = true
	var frozen *FrozenError
	if _, err := resolveKernelOf(t, s, KernelLock{}); !errors.As(err, &frozen) {
		t.Errorf("--frozen: %v", err)
	}
}

func TestKernelsThatAreTooOldAreNotAskedFor(t *testing.T) {
	site := newKernelSite(t)
	s := site.session(t, true)
	s.spec.Kernel = "4.2.6"
	_, err := s.resolve(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "4.18 is the oldest") || site.asked > 0 {
		t.Errorf("%v, asked %d times", err, site.asked)
	}
}

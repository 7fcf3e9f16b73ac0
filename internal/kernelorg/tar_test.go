package kernelorg

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestUnpack(t *testing.T) {
	for name, b := range map[string][]byte{"xz": xzOf(t, "5.0"), "gzip": gzOf("5.0"), "zstd": zstOf(t, "5.0")} {
		r, err := unpack(bytes.NewReader(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, tarOf("5.0")) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r, err = unpack(bytes.NewReader(b[:len(b)-10]))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err == nil {
			t.Errorf("%s: cut, and nothing was said", name)
		}
	}
	for _, bad := range []string{"", "\xfd7z", "<html>", "ustar"} {
		if _, err := unpack(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was unpacked", bad)
		}
	}
}

func TestURLOfAServerThatIsDown(t *testing.T) {
	s := newSite(t)
	cl := s.client(t)
	s.Close()
	for _, cl.AllowUnsigned = range []bool{false, true} {
		_, err := cl.FetchURL(t.Context(), s.URL+"/l.tar.gz", "")
		var down *DownError
		if !errors.As(err, &down) || !strings.Contains(err.Error(), s.URL) {
			t.Errorf("%v: it tells of trust, or not of the URL", err)
		}
	}
}

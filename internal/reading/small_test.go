package reading

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSmall(t *testing.T) {
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		limit int64
		want  string // of the error
	}{
		{file, 5, ""},
		{file, 4, "it has more than 4 bytes"},
		{pipe, 5, "it is not a plain file but a pipe"}, // and does not wait for a writer
		{dir, 5, "it is not a plain file but a directory"},
		{filepath.Join(dir, "none"), 5, "no such file"},
	} {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		rel, err := filepath.Rel(dir, tt.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, read := range []func() ([]byte, error){
			func() ([]byte, error) { return Small(tt.name, tt.limit) },
			func() ([]byte, error) { return SmallIn(root, rel, tt.limit) },
		} {
			b, err := read()
			switch {
			case tt.want == "" && (err != nil || string(b) != "12345"):
				t.Errorf("%s: %q, %v", tt.name, b, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			}
		}
	}
}

// A pipe is read while it has a writer, and is empty where it never had one.
func TestOpenOfAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		t.Helper()
		f, err := Open(pipe)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if got := read(); got != "" {
		t.Errorf("without a writer: %q", got)
	}
	w, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(10 * time.Millisecond) // the reader waits for it
		w.WriteString("text")
		w.Close()
	}()
	if got := read(); got != "text" {
		t.Errorf("with a writer: %q", got)
	}
}

package reading

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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

package archtest

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The bounds of what a reader takes in at a glance.
const (
	maxColumns = 120 // a tab is four
	maxFiles   = 25  // in a folder, tests aside
)

func TestSizes(t *testing.T) {
	files := map[string]int{}
	lines := 0
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && d.Name() != "../..":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		if !strings.HasSuffix(name, "_test.go") {
			files[filepath.Dir(name)]++
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		s := bufio.NewScanner(f)
		for n := 1; s.Scan(); n++ {
			lines++
			if c := len([]rune(strings.ReplaceAll(s.Text(), "\t", "    "))); c > maxColumns {
				t.Errorf("%s:%d has %d columns", name, n, c)
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, n := range files {
		if n > maxFiles {
			t.Errorf("%s has %d files: a reader must scroll", dir, n)
		}
	}
	if len(files) < 20 || lines < 10_000 {
		t.Errorf("%d folders and %d lines: this test saw next to nothing", len(files), lines)
	}
}

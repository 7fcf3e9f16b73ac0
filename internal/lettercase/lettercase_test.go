package lettercase

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPair(t *testing.T) {
	for _, c := range []struct {
		names      []string
		one, other string
	}{
		{[]string{"a/x", "b/x", "a/x"}, "", ""},
		{[]string{"net/xt_MARK.h", "net/x.h", "net/xt_mark.h"}, "net/xt_MARK.h", "net/xt_mark.h"},
		{[]string{"A/x", "a/y"}, "", ""}, // one directory, whose files are two
		{nil, "", ""},
	} {
		if one, other, ok := Pair(c.names); one != c.one || other != c.other || ok != (c.one != "") {
			t.Errorf("%q: %q, %q", c.names, one, other)
		}
	}
}

// What is said of a directory is what it does, on whatever file system the tests run.
func TestFolds(t *testing.T) {
	dir := t.TempDir()
	folds, err := Folds(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "FILE")); (err == nil) != folds {
		t.Errorf("told %v, and FILE: %v", folds, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%v stays behind, %v", list, err)
	}
	if _, err := Folds(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there was looked at")
	}
}

package steps

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Many runs of a step beside a slow one, whose log is the oldest then.
func TestLogOfARunningStepStays(t *testing.T) {
	r := newRunner(t)
	if err := os.MkdirAll(r.Logs, 0o755); err != nil {
		t.Fatal(err)
	}
	log := func(id string) (io.WriteCloser, string) {
		t.Helper()
		w, name, err := r.log(&Step{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return w, name
	}
	running, name := log("kernel")
	defer running.Close()
	oldest := filepath.Join(r.Logs, "kernel-20010101T000000-1.log")
	if err := os.Rename(name, oldest); err != nil {
		t.Fatal(err)
	}
	other, otherName := log("kernel-other")
	other.Close()
	for i := range 2 * keepLogs {
		ended := filepath.Join(r.Logs, fmt.Sprintf("kernel-20020101T0000%02d-1.log", i))
		if err := os.WriteFile(ended, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w, _ := log("kernel")
	w.Close()
	for _, name := range []string{oldest, otherName} {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("removed while it was needed: %v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(r.Logs, "kernel-2002*")); len(left) >= keepLogs {
		t.Errorf("%d logs of steps that ended stay", len(left))
	}
}

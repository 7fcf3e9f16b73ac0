package container

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// What an engine's runtime refuses comes with what helps; a program that an image lacks is no fault of the runtime's.
func TestRuntimeError(t *testing.T) {
	for text, hint := range map[string]string{
		"crun: cgroups in hybrid mode not supported, drop all controllers: OCI runtime error": "cgroup_manager",
		"OCI runtime create failed: container_linux.go: setting rlimits for ready process: error setting " +
			"rlimit type 7: operation not permitted": "default_ulimits",
		"OCI runtime create failed: runc create failed: unable to apply caps: operation not permitted": "its log",
		`OCI runtime create failed: unable to start container process: exec: "/x": no such file`:       "",
		"no such image": "",
	} {
		var refused *RuntimeError
		err := fault(t.Context(), "start x", errors.New(text))
		if errors.As(err, &refused) != (hint != "") || refused != nil && !strings.Contains(refused.Hint(), hint) {
			t.Errorf("%s: %v", text, refused)
		}
		if err.Error() != "start x: "+text {
			t.Error(err)
		}
	}
}

// An engine takes longer than cleanupTime to remove a volume of some gigabytes from a busy disk.
func TestPatient(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	work, done := patient(ctx)
	defer done()
	if end, ok := work.Deadline(); !ok || time.Until(end) < 2*cleanupTime {
		t.Errorf("it ends in %v", time.Until(end))
	}
	cancel()
	if work.Err() != nil {
		t.Errorf("it ended with its caller: %v", work.Err())
	}
}

package container

import (
	"context"
	"testing"
	"time"
)

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

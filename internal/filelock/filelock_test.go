package filelock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestOneAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "locks", "thing")
	unlock, err := Take(t.Context(), file, func() { t.Error("it waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	waited := 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Take(ctx, file, func() { waited++ }); !errors.Is(err, context.DeadlineExceeded) || waited != 1 {
		t.Errorf("a lock that is held: %v, waiting was called %d times", err, waited)
	}
	unlock()
	again, err := Take(t.Context(), file, func() { t.Error("it waited for a lock that was let go") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

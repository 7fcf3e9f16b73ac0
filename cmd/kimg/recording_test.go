package main

import (
	"slices"
	"testing"

	"github.com/kimg/kimg/internal/progress"
)

// amounts notes how far a task says that it is.
type amounts struct{ seen []int64 }

func (a *amounts) Emit(e progress.Event) {
	if e.Kind == progress.Amount {
		a.seen = append(a.seen, e.Done)
	}
}

// One replay after another has its own beginning, and what is told is how far it is, not a sum.
func TestCounted(t *testing.T) {
	var sink amounts
	tell := counted(progress.Start(&sink, "why", "ask"))
	for _, done := range []uint64{1e6, 5e6, 9e6, 2e6, 9e6} {
		tell(done, 9e6)
	}
	// All are not told: ten times a second is enough, but for the end.
	if len(sink.seen) < 2 || sink.seen[len(sink.seen)-1] != 9 || slices.Max(sink.seen) > 9 {
		t.Errorf("the amounts are %v, of 9 at most", sink.seen)
	}
}

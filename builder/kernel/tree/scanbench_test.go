package tree

import (
	"os"
	"testing"
)

// BenchmarkScan scans the tree that KIMG_BENCH_TREE names, of which everything is
// known: what a build does with a directory in which nothing changed.
func BenchmarkScan(b *testing.B) {
	dir := os.Getenv("KIMG_BENCH_TREE")
	if dir == "" {
		b.Skip("KIMG_BENCH_TREE names no tree")
	}
	l, _, err := Scan(b.Context(), dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := Scan(b.Context(), dir, l); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(l)), "files")
}

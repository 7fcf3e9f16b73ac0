package sandbox

import "testing"

// What one command costs in a new sandbox, and in one that runs.
func BenchmarkSandbox(b *testing.B) {
	root := newRoot(b)
	for name, get := range map[string]func() (IDs, error){
		"one id":  func() (IDs, error) { return OneID(0, 0), nil },
		"sub ids": SubIDs,
	} {
		ids, err := get()
		if err != nil {
			continue
		}
		once := func(b *testing.B, s *Sandbox, caps ...string) {
			b.Helper()
			r, err := s.Run(Process{Args: []string{"/bin/helper", "exit", "0"}, Caps: caps})
			if err != nil {
				b.Fatal(err)
			}
			if status, err := r.Wait(); status != 0 || err != nil {
				b.Fatal(status, err)
			}
		}
		b.Run("start, "+name, func(b *testing.B) {
			for range b.N {
				s, err := Start(b.Context(), Config{IDs: ids, Root: root})
				if err != nil {
					b.Fatal(err)
				}
				once(b, s)
				s.Close()
			}
		})
		s := start(b, Config{IDs: ids, Root: root})
		b.Run("run, "+name, func(b *testing.B) {
			for range b.N {
				once(b, s)
			}
		})
		b.Run("run with CHOWN, "+name, func(b *testing.B) {
			for range b.N {
				once(b, s, "CHOWN")
			}
		})
	}
}

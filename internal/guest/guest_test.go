package guest_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/kimg/kimg/internal/guest"
)

// Files must be what an image can take: the list is another package's input.
func TestFiles(t *testing.T) {
	for _, f := range slices.Concat(guest.Files(), guest.SSHFiles()) {
		if !filepath.IsAbs(f.Path) || (f.Link == "") == (len(f.Data) == 0) {
			t.Errorf("%+v", f)
		}
	}
}

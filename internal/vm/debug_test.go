package vm

import (
	"strings"
	"testing"
)

func TestDebugNotices(t *testing.T) {
	for _, tt := range []struct {
		config Config
		want   []string
	}{
		{Config{"GDB_SCRIPTS": "y"}, nil},
		{Config{"GDB_SCRIPTS": "y", "RANDOMIZE_BASE": "y"}, []string{"nokaslr"}},
		{Config{}, []string{"GDB_SCRIPTS=y"}},
		{Config{"DEBUG_INFO_REDUCED": "y"}, []string{"GDB_SCRIPTS=y", "DEBUG_INFO_REDUCED=n"}},
	} {
		got := debugNotices(tt.config)
		if len(got) != len(tt.want) {
			t.Errorf("%v: %q", tt.config, got)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%v: %q, want %q in it", tt.config, got[i], want)
			}
		}
	}
}

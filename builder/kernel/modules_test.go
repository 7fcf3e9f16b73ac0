package kernel

import "testing"

func TestConfigModules(t *testing.T) {
	set := func(values ...string) (r []Request) {
		for _, v := range values {
			r = append(r, Request{Symbol: "MODULES", Value: v})
		}
		return r
	}
	tests := []struct {
		name   string
		config Config
		want   bool
	}{
		{"vm has none", Config{Base: VM}, false},
		{"asked for", Config{Base: VM, Requests: set("y")}, true},
		{"the last word counts", Config{Base: Defconfig, Requests: set("y", "n")}, false},
		{"a file with", Config{Base: "x.config", File: []byte("CONFIG_MODULES=y\n")}, true},
		{"a file with, turned off", Config{Base: "x.config", File: []byte("CONFIG_MODULES=y\n"), Requests: set("n")},
			false},
		{"a file without", Config{Base: "x.config", File: []byte("# CONFIG_MODULES is not set\n")}, false},
		{"another symbol", Config{Base: VM, Requests: []Request{{Symbol: "DUMMY", Value: "m"}}}, false},
	}
	for _, tt := range tests {
		if got := tt.config.Modules(); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

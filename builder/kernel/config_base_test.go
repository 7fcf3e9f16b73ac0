package kernel

import (
	"strings"
	"testing"
)

func TestCheckBase(t *testing.T) {
	const off = "# CONFIG_SELINUX is not set\n"
	for _, c := range []struct{ text, want string }{
		{off + "CONFIG_A=y\r\n# CONFIG_B is not set\r\n", ""},
		{off + "# what CONFIG_B is about\n", ""},
		{"all of it\n", "read config my.config: not a kernel configuration"},
		{off + "#CONFIG_SWAP is not set\n", `read config my.config:2: "#CONFIG_SWAP is not set" is a comment`},
	} {
		err := Config{Base: "my.config", File: []byte(c.text)}.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

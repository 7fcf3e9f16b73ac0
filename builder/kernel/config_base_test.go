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
		{"#\n# Linux/x86 6.1.0 Kernel Configuration\n#\n" + off, ""},
		{"# Linux/x86_64 5.14.0-427.el9.x86_64 Kernel Configuration\n" + off, ""},
		{"#\n# Linux/arm64 6.1.0 Kernel Configuration\n#\nCONFIG_ARM64=y\n", "read config my.config: " +
			"it was written for arm64, by Linux 6.1.0: this kernel is for amd64 (x86)"},
		{"# Linux/arm 5.10.1 Kernel Configuration\r\nCONFIG_A=y\r\n", "read config my.config: it was written for arm,"},
		{off + "#CONFIG_SWAP is not set\n", `read config my.config:2: "#CONFIG_SWAP is not set" is a comment`},
	} {
		err := Config{Base: "my.config", File: []byte(c.text)}.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

package kernel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/needs"
)

func TestParseSet(t *testing.T) {
	for in, want := range map[string]string{
		"DRM=y": "DRM=y", "CONFIG_DRM=m": "DRM=m", "NR_CPUS=64": "NR_CPUS=64",
		"PHYSICAL_START=0x1000000": "PHYSICAL_START=0x1000000", "X=": `X=""`, `CMDLINE=a "b"`: `CMDLINE="a \"b\""`,
		`LOCALVERSION=-mine`: `LOCALVERSION="-mine"`, `LOCALVERSION="-mine"`: `LOCALVERSION="-mine"`,
	} {
		r, err := ParseSet(in)
		if err != nil || r.String() != want || r.Origin != "set "+in {
			t.Errorf("%s: %s (%s), %v, want %s", in, r, r.Origin, err, want)
		}
	}
	for _, in := range []string{"DRM", "=y", "A B=y", "CONFIG_=y", "A=x\ny"} {
		if r, err := ParseSet(in); err == nil {
			t.Errorf("%q was read as %s", in, r)
		}
	}
}

// TestFragmentOffs has lines that were meant to turn a symbol off.
func TestFragmentOffs(t *testing.T) {
	for line, want := range map[string]string{
		"# CONFIG_SWAP not set":       "CONFIG_SWAP",
		"## CONFIG_SWAP is not set":   "CONFIG_SWAP",
		"# SWAP is not set":           "CONFIG_SWAP",
		"# CONFIG_SWAP is unset":      "CONFIG_SWAP",
		"#CONFIG_SWAP is not set.":    "CONFIG_SWAP",
		"# CONFIG_SWAP is not set":    "",
		"# this one is not set":       "",
		"# CONFIG_SWAP":               "",
		"\ufeff# CONFIG_X is not set": "",
		"\xff\xfeC\x00":               "UTF-16",
	} {
		_, err := ParseFragment(strings.NewReader(line+"\n"), "f", arch.Arch{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestParseFragment(t *testing.T) {
	got, err := ParseFragment(strings.NewReader("# a comment\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x y\"\n"+
		"  CONFIG_D=0x1f\n"), "f", arch.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	want := []Request{{"A", "y", "f:3"}, {"B", "n", "f:4"}, {"C", `"x y"`, "f:5"}, {"D", "0x1f", "f:6"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"A=y", "CONFIG_A", "CONFIG_A=maybe", "CONFIG_A B=y", "CONFIG_A=y # no",
		"#CONFIG_SWAP is not set", "#\tCONFIG_SWAP is not set",
		"#  CONFIG_SWAP is not  set", "# CONFIG_SWAP is not set."} {
		_, err := ParseFragment(strings.NewReader("\n"+bad+"\n"), "f", arch.AMD64)
		if err == nil || !strings.Contains(err.Error(), "f:2") {
			t.Errorf("%q: error %v, want one that names its line", bad, err)
		}
	}
}

// TestFragmentMeant says of what people write how it is written.
func TestFragmentMeant(t *testing.T) {
	for line, want := range map[string]string{
		"CONFIG_LOCALVERSION=-foo":    `want CONFIG_LOCALVERSION="-foo": a text is in quotes`,
		"CONFIG_UBSAN=y # we need it": "want CONFIG_UBSAN=y: a comment is a line of its own",
		"CONFIG_KASAN=yes":            "want CONFIG_KASAN=y",
		"CONFIG_KASAN = y":            "want CONFIG_KASAN=y, without blanks",
		"KASAN=y":                     "want CONFIG_SYMBOL=value or",
		"CONFIG_KASAN":                "want CONFIG_SYMBOL=value or",
		`CONFIG_X="a" "b"`:            "want CONFIG_SYMBOL=value or",
		"CONFIG_A B=y":                "want CONFIG_SYMBOL=value or",
	} {
		_, err := ParseFragment(strings.NewReader(line+"\n"), "f", arch.AMD64)
		if err == nil || !strings.Contains(err.Error(), ": "+want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}

// A whole .config of another architecture is no fragment of this one's.
func TestParseFragmentOfAnotherArch(t *testing.T) {
	const text = "#\n# Linux/arm64 6.1.0 Kernel Configuration\nCONFIG_A=y\n"
	if _, err := ParseFragment(strings.NewReader(text), "f", arch.ARM64); err != nil {
		t.Error(err)
	}
	_, err := ParseFragment(strings.NewReader(text), "f", arch.AMD64)
	if err == nil || !strings.Contains(err.Error(), "config f: it was written for arm64, by Linux 6.1.0") {
		t.Error(err)
	}
}

func TestMerge(t *testing.T) {
	base := "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_AB=y\n# about CONFIG_A\nCONFIG_C=1"
	got := string(merge([]byte(base), []Request{{"A", "n", ""}, {"B", "m", ""}, {"A", "m", ""}, {"NEW", `"s"`, ""}}))
	want := "CONFIG_AB=y\n# about CONFIG_A\nCONFIG_C=1\nCONFIG_B=m\nCONFIG_A=m\nCONFIG_NEW=\"s\"\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestUnmet(t *testing.T) {
	final := kconfig.ParseConfig([]byte("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=0x10\nCONFIG_M=m\n" +
		"CONFIG_S=\"x\"\n"))
	for _, c := range []struct {
		req  Request
		want bool
	}{
		{Request{Symbol: "A", Value: "y"}, false}, {Request{Symbol: "A", Value: "n"}, true},
		{Request{Symbol: "B", Value: "n"}, false}, {Request{Symbol: "B", Value: "y"}, true},
		{Request{Symbol: "GONE", Value: "n"}, false}, {Request{Symbol: "GONE", Value: "y"}, true},
		{Request{Symbol: "N", Value: "16"}, false}, {Request{Symbol: "N", Value: "17"}, true},
		{Request{Symbol: "M", Value: "y"}, true}, {Request{Symbol: "GONE", Value: `""`}, false},
		{Request{Symbol: "S", Value: `"x"`}, false}, {Request{Symbol: "S", Value: `""`}, true},
	} {
		if got := len(Unmets(final, []Request{c.req})) > 0; got != c.want {
			t.Errorf("%s: unmet %v, want %v", c.req, got, c.want)
		}
	}
	if list := Unmets(final, []Request{{"A", "n", ""}, {"A", "y", ""}}); len(list) > 0 {
		t.Errorf("a request that a later one replaced: %v", list)
	}
}

func TestTranslate(t *testing.T) {
	for _, c := range []struct{ version, set, want string }{
		{"6.12", "AUTOFS4_FS=y", "AUTOFS_FS=y"},
		{"4.17", "AUTOFS_FS=y", "AUTOFS4_FS=y"},
		{"6.12", "RETPOLINE=n", "MITIGATION_RETPOLINE=n"},
		{"6.1", "MITIGATION_RETPOLINE=n", "RETPOLINE=n"},
		{"5.10", "DEBUG_INFO=y", "DEBUG_INFO=y"},
		{"6.1", "DEBUG_INFO=y", "DEBUG_INFO=y DEBUG_INFO_NONE=n DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y"},
		{"6.1", "DEBUG_INFO=n", "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=n DEBUG_INFO_DWARF4=n DEBUG_INFO_DWARF5=n " +
			"DEBUG_INFO=n DEBUG_INFO_NONE=y"},
		{"6.1", "DEBUG_INFO=y DEBUG_INFO_DWARF4=y",
			"DEBUG_INFO=y DEBUG_INFO_NONE=n DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=n DEBUG_INFO_DWARF5=n " +
				"DEBUG_INFO_NONE=n DEBUG_INFO_DWARF4=y"},
		{"5.10", "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y", "DEBUG_INFO=y"},
		{"5.10", "DEBUG_INFO_NONE=y", "DEBUG_INFO=n"},
		{"6.12", "DRM=y", "DRM=y"},
	} {
		var in []Request
		for s := range strings.FieldsSeq(c.set) {
			r, err := ParseSet(s)
			if err != nil {
				t.Fatal(err)
			}
			in = append(in, r)
		}
		var got []string
		for _, r := range translate(dialect{KernelVersion: version(t, c.version)}, in) {
			got = append(got, r.String())
		}
		if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s on %s:\n%s", c.set, c.version, d)
		}
	}
}

// TestOwnFragments holds that kimg's own fragments parse and ask for nothing twice.
func TestOwnFragments(t *testing.T) {
	ours := map[string][]byte{"same.config": sameConfig}
	for _, a := range arch.All {
		for _, base := range []string{VM, Defconfig} {
			list := Config{Arch: a, Base: base}.ownBase()
			if want := 1; a != arch.Default && len(list) != want+1 || a == arch.Default && len(list) != want {
				t.Errorf("%s, %s: %d fragments", base, a, len(list))
			}
			var all []byte
			for _, f := range list {
				ours[f.name] = f.text
				all = append(all, f.text...)
			}
			got := needs.Lacks(kconfig.ParseConfig(all).Get, needs.On(a.ConsoleY, needs.Build)...)
			if base == VM && len(got) > 0 {
				t.Errorf("the vm config of %s: %v", a, got)
			}
		}
	}
	for name, text := range ours {
		reqs, err := ParseFragment(strings.NewReader(string(text)), name, arch.Arch{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(last(reqs)); n != len(reqs) {
			t.Errorf("%s asks for %d symbols and names %d", name, n, len(reqs))
		}
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add("CONFIG_A=y\n# CONFIG_B is not set\n")
	f.Fuzz(func(t *testing.T, text string) {
		reqs, err := ParseFragment(strings.NewReader(text), "f", arch.AMD64)
		if err != nil {
			return
		}
		again, err := ParseFragment(strings.NewReader(string(merge(nil, reqs))), "f", arch.AMD64)
		if err != nil || len(again) != len(last(reqs)) {
			t.Errorf("%q reads as %v and back as %v, %v", text, reqs, again, err)
		}
	})
}

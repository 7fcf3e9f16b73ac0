package kernel

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

const choiceKconfig = `
config NET
	bool "net"
config NET_DUMMY
	bool "dummy" if NET
config AUTO
	bool
	default NET
config NAME
	string "name"
choice
	prompt "hz"
config HZ_250
	bool "250"
config HZ_1000
	bool "1000"
endchoice
`

func readTree(t *testing.T, text string) *kconfig.Tree {
	t.Helper()
	tree, err := kconfig.Read(kconfig.Files{"Kconfig": []byte(text)}, "x86", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func texts(reqs []Request) []string {
	var out []string
	for _, r := range reqs {
		out = append(out, r.String())
	}
	return out
}

func TestChanges(t *testing.T) {
	tree := readTree(t, choiceKconfig)
	const from = "CONFIG_HZ_250=y\n# CONFIG_HZ_1000 is not set\n# CONFIG_NET is not set\nCONFIG_NAME=\"a\"\n" +
		"CONFIG_GONE=y\n"
	const to = "# CONFIG_HZ_250 is not set\nCONFIG_HZ_1000=y\nCONFIG_NET=y\nCONFIG_NET_DUMMY=y\nCONFIG_AUTO=y\n" +
		"CONFIG_NAME=\"b \\\" c\"\n"
	all := changes([]byte(from), []byte(to), nil, tree)
	want := []string{"HZ_1000=y", "HZ_250=n", "NAME=\"b \\\" c\"", "NET=y", "NET_DUMMY=y"}
	if diff := cmp.Diff(want, texts(all)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	odd := map[string]bool{"HZ_1000": true, "HZ_250": true, "NET": true, "NAME": true}
	want = []string{"HZ_1000=y", "NAME=\"b \\\" c\"", "NET=y"}
	if diff := cmp.Diff(want, texts(fewer(all, odd, tree))); diff != "" {
		t.Errorf("fewer (-want +got):\n%s", diff)
	}
	if got := changes([]byte(from), []byte(from), nil, tree); got != nil {
		t.Errorf("nothing changed, and changes are %v", got)
	}
	// What a fragment asks for and the editor took away has to be said.
	kept := []Request{{"GONE", "y", "a.config:1"}}
	tree = readTree(t, choiceKconfig+"config GONE\n\tbool \"gone\"\n")
	if got := texts(changes([]byte(from), []byte(to), kept, tree)); !slices.Contains(got, "GONE=n") {
		t.Errorf("changes = %v, want GONE=n among them", got)
	}
	const other = "CONFIG_HZ_1000=y\nCONFIG_NET=y\nCONFIG_AUTO=y\nCONFIG_NAME=\"b \\\" c\"\nCONFIG_X=y\n"
	if got := lost([]byte(to), []byte(other)); !slices.Equal(got, []string{"NET_DUMMY=y", "X=n"}) {
		t.Errorf("lost = %q", got)
	}
}

func TestSplit(t *testing.T) {
	reqs := []Request{{"DEBUG_INFO", "y", ""}, {"KASAN", "y", ""}, {"HZ", "0x3e8", ""}, {"OFF", "n", ""}}
	config := "CONFIG_DEBUG_INFO=y\nCONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y\nCONFIG_HZ=1000\n"
	held, dropped := split(dialect{KernelVersion: units.KernelVersion{Major: 6, Minor: 12}}, reqs, []byte(config))
	if diff := cmp.Diff([]string{"DEBUG_INFO=y", "HZ=0x3e8", "OFF=n"}, texts(held)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"KASAN=y"}, texts(dropped)); diff != "" {
		t.Error(diff)
	}
}

// menuMakefile adds an editor that needs a terminal of a size, and waits for a key.
const menuMakefile = `
menuconfig:
	@test -t 0 && test -t 1 && stty size && echo "TERM $$TERM" && read key && echo "key $$key" && \
	if test "$$key" = b; then sed -i '/CONFIG_B/d' $(KCONFIG_CONFIG) && echo CONFIG_A2=y >> $(KCONFIG_CONFIG); fi && \
	if test "$$key" = f; then echo '*** cannot draw'; exit 1; fi
savedefconfig:
	cp $(KCONFIG_CONFIG) $(O)/defconfig
`

// TestEdit has the editor of a small tree read a key from a terminal.
func TestEdit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dir := fakeTree(t)
	writeFile(t, dir+"/Makefile", fakeMakefile+menuMakefile)
	writeFile(t, dir+"/Kconfig", "config A\n\tbool \"a\"\nconfig A2\n\tbool \"a2\"\n")
	j := f.job(f.pin(dir))
	said := &lines{}
	edit := func(key string) (*Edited, string, error) {
		var screen strings.Builder
		restored := false
		sizes := make(chan container.Winsize, 1)
		sizes <- container.Winsize{Rows: 33, Cols: 77}
		task := progress.Start(said, "config", "")
		e, err := Edit(t.Context(), f.eng, j, Editing{Editor: "menuconfig", Open: func() (Terminal, func(), error) {
			screen := Terminal{In: &slowReader{text: key + "\r"}, Out: &screen, Name: "no-such-terminal", Resize: sizes}
			return screen, func() { restored = true }, nil
		}}, task)
		if !restored {
			t.Errorf("key %s: the terminal was not given back", key)
		}
		return e, screen.String(), err
	}
	if e, screen, err := edit("q"); err != nil || e != nil || !strings.Contains(screen, "TERM xterm-256color") {
		t.Errorf("an editor that is left: %v, %v\n%s", e, err, screen)
	}
	e, screen, err := edit("b")
	if err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	if diff := cmp.Diff([]string{"A2=y"}, texts(e.Added)); diff != "" || len(e.Lost) > 0 {
		t.Errorf("added (-want +got):\n%slost %v", diff, e.Lost)
	}
	if _, _, err := edit("f"); err == nil || !strings.Contains(err.Error(), "cannot draw") {
		t.Errorf("an editor that fails: %v", err)
	}
	// What was edited is not lost where the tree's Kconfig cannot be read, and the user hears of it.
	writeFile(t, dir+"/Kconfig", "source \"Kconfig\"\n")
	j = f.job(f.pin(dir))
	e, screen, err = edit("b")
	if err != nil || !slices.Equal(texts(e.Added), []string{"A2=y"}) {
		t.Errorf("with a Kconfig that cannot be read: %v, %v\n%s", e, err, screen)
	}
	if !slices.ContainsFunc(said.log, func(l string) bool {
		return strings.HasPrefix(l, "warning ") && strings.Contains(l, "too many files included")
	}) {
		t.Errorf("said %q, and not that the tree's Kconfig cannot be read", said.log)
	}
}

// slowReader types once the editor is surely there.
type slowReader struct {
	text string
}

func (r *slowReader) Read(p []byte) (int, error) {
	if r.text == "" {
		time.Sleep(time.Minute)
	}
	time.Sleep(2 * time.Second)
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

package kernel

import (
	"archive/tar"
	"bytes"
	"cmp"
	"io"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/deb"
	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// debianConfigs are a suite's kernel, and its own configurations of it.
var debianConfigs = map[string]string{"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12"}

// TestDistributionConfigs has Debian's own configurations on Debian's own sources, which have to configure; what is
// given up has to have a name. KIMG_TEST_SUITES names suites, with commas, for all flavours; without it, it is trixie's
// own for amd64.
func TestDistributionConfigs(t *testing.T) {
	t.Parallel() // most of it waits for the engine
	if testing.Short() {
		t.Skip("downloads kernels")
	}
	for name := range strings.SplitSeq(cmp.Or(os.Getenv("KIMG_TEST_SUITES"), "trixie"), ",") {
		version, ok := debianConfigs[name]
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			source, configs := debianKernel(t, name, version)
			era, err := EraFor(source.Version, "")
			if err != nil {
				t.Fatal(err)
			}
			f := newFixtureIn(t, toolchain.Target(era.Suite))
			j := f.job(source)
			j.Era = era
			flavours := []string{"none_amd64"}
			if os.Getenv("KIMG_TEST_SUITES") != "" {
				flavours = append(flavours, "none_cloud-amd64", "rt_amd64")
			}
			for _, flavour := range flavours {
				t.Run(flavour, func(t *testing.T) {
					text := configs["config.amd64_"+flavour+".xz"]
					if len(text) == 0 {
						t.Fatalf("linux-config-%s has no such configuration", version)
					}
					j.Config = Config{Base: "config.amd64_" + flavour, File: text}
					configureDebian(t, f.eng, j)
				})
			}
			if name == "trixie" {
				people(t, f.eng, j)
			}
		})
	}
}

func configureDebian(t *testing.T, eng container.Engine, j Job) {
	begun := time.Now()
	said, err := configureOnly(t, eng, j)
	if err != nil {
		t.Error(err)
	}
	t.Logf("configured in %s", time.Since(begun).Round(time.Second))
	for _, w := range said {
		t.Log(w)
		if !strings.Contains(w, " asks for ") {
			continue
		}
		for _, line := range strings.Split(w, "\n")[1:] {
			if !strings.Contains(line, ": by ") {
				t.Errorf("nobody gave it up: %s", line)
			}
		}
	}
}

// configureOnly does all of a build that comes before the compile, and returns what it warned of.
func configureOnly(t *testing.T, eng container.Engine, j Job) (warnings []string, err error) {
	said := &lines{}
	task := progress.Start(said, "config", "configure")
	err = onWorker(t.Context(), eng, j, task, func(w *worker) error {
		_, err := w.configure(t.Context(), j, task)
		return err
	})
	for _, line := range said.log {
		if w, ok := strings.CutPrefix(line, "warning "); ok {
			warnings = append(warnings, w)
		}
	}
	return warnings, err
}

// people are base files as people bring them, on a kernel of their version or of another one.
func people(t *testing.T, eng container.Engine, j Job) {
	v := j.Tree.Version
	head := func(v units.KernelVersion) string {
		return "#\n# Linux/x86 " + v.String() + " Kernel Configuration\n#\n"
	}
	this, before := head(v), v
	before.Patch--
	const kimgs = ": by kimg, so that two builds are the same (MODULE_SIG: embeds a random key); " +
		"--set MODULE_SIG=y to have it"
	for name, c := range map[string]struct {
		text string
		sets []Request
		want []string // of what is told
		err  string
	}{
		"signed modules": {this + "CONFIG_64BIT=y\nCONFIG_MODULES=y\nCONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_SHA512=y\n",
			nil, []string{"my.config asks for 2 options", "\n  MODULE_SIG=y, MODULE_SIG_SHA512=y" + kimgs}, ""},
		"signed modules that are asked for": {this + "CONFIG_64BIT=y\nCONFIG_MODULES=y\nCONFIG_MODULE_SIG_SHA512=y\n",
			[]Request{{"MODULE_SIG", "y", "set MODULE_SIG=y"}},
			[]string{"two builds of the same sources may differ"}, ""},
		"types": {this + "CONFIG_64BIT=y\nCONFIG_MODULES=y\nCONFIG_DEBUG_KERNEL=y\nCONFIG_DEBUG_INFO_DWARF5=y\n" +
			"CONFIG_BPF_SYSCALL=y\nCONFIG_DEBUG_INFO_BTF=y\nCONFIG_DEBUG_INFO_BTF_MODULES=y\n", nil,
			[]string{"DEBUG_INFO_BTF=y, DEBUG_INFO_BTF_MODULES=y: by kimg, so that two builds are the same (" +
				"DEBUG_INFO_BTF: parallel pahole orders types at random); --set DEBUG_INFO_BTF=y to have it"}, ""},
		"another stable release": {head(before) + "CONFIG_64BIT=y\nCONFIG_GONE_SINCE=y\nCONFIG_KASAN_INLINE=y\n", nil,
			[]string{"my.config, written by Linux " + before.String() + ", asks for 2 options that are not taken in " +
				"Linux " + v.String(), "KASAN_INLINE=y: by the kernel: it depends on KASAN (which is n) and ",
				"GONE_SINCE=y: by the kernel: renamed or gone"}, ""},
		"without a head": {"CONFIG_SECURITY_SELINUX_DISABLE=y\n", nil,
			[]string{"SECURITY_SELINUX_DISABLE=y", ": by the kernel: renamed or gone"}, ""},
		"of this version, and changed": {this + "CONFIG_64BIT=y\nCONFIG_KASAN_INLINE=y\n", nil, nil, "configure " +
			"Linux " + v.String() + ": not what was asked for\n  KASAN_INLINE=y (asked by my.config:5) is n: " +
			"it depends on KASAN (which is n) and (KASAN_GENERIC (which is n) or KASAN_SW_TAGS (which is n)); " +
			"--set KASAN=y turns that on"},
		"and less of it": {this + "CONFIG_64BIT=y\nCONFIG_NET=y\nCONFIG_INET=y\nCONFIG_PACKET=y\n",
			[]Request{{"NET", "n", "set NET=n"}}, []string{"INET=y, PACKET=y: by NET=n (set NET=n)"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			j.Config = Config{Base: "my.config", File: []byte(c.text), Requests: c.sets}
			said, err := configureOnly(t, eng, j)
			if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("got  %v\nwant %s", err, c.err)
			}
			all := strings.Join(said, "\n")
			for _, want := range c.want {
				if !strings.Contains(all, want) {
					t.Errorf("told %s\nwant %s", all, want)
				}
			}
		})
	}
}

// debianKernel downloads a suite's kernel source, and the configurations of linux-config by their names.
func debianKernel(t *testing.T, name, version string) (*Tree, map[string][]byte) {
	t.Helper()
	of, err := suite.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	ac, _ := packageArchive(t)
	rel, err := ac.Release(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	index, err := ac.Index(t.Context(), rel, nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []archive.Locked
	for _, pkg := range []string{"linux-source-" + version, "linux-config-" + version} {
		p, ok := index.Lookup(pkg)
		if !ok {
			t.Fatalf("%s has no %s", name, pkg)
		}
		list = append(list, p.Locked())
	}
	if err := ac.Fetch(t.Context(), of, list, rel.Date, nil); err != nil {
		t.Fatal(err)
	}
	source, err := PinPackage(list[0], ac.Store.Path(list[0].SHA256))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(ac.Store.Path(list[1].SHA256))
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := deb.Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string][]byte{}
	for tr := tar.NewReader(bytes.NewReader(pkg.Data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return source, configs
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, ".xz") {
			continue
		}
		plain, err := decompress.NewReader(tr, ".xz")
		if err != nil {
			t.Fatal(err)
		}
		if configs[path.Base(h.Name)], err = io.ReadAll(plain); err != nil {
			t.Fatal(err)
		}
		plain.Close()
	}
}

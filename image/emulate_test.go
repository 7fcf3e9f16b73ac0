package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/sandbox/foreign"
)

// putter is a container that keeps what is copied into it.
type putter struct {
	container.Container
	files map[string]int64
}

func (p *putter) CopyIn(_ context.Context, dir string, r io.Reader) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n, err := io.Copy(io.Discard, tr); err != nil || n != h.Size || h.Mode != 0o755 {
			return errors.Join(err, errors.New("another size or mode"))
		}
		p.files[dir+"/"+h.Name] = h.Size
	}
}

// machine is an engine of an architecture.
type machine struct {
	container.Engine
	arch string
}

func (m machine) Info() container.Info { return container.Info{Arch: m.arch} }

// What emulate.sh takes along goes into containers that emulate, this program only where it is one of theirs.
func TestEmulationIn(t *testing.T) {
	for _, c := range []struct {
		engine string
		of     Arch
	}{{"amd64", arch.AMD64}, {"amd64", arch.RISCV64}, {"arm64", arch.AMD64}, {"arm64", arch.ARM64}, {"", arch.ARM64}} {
		p := &putter{files: map[string]int64{}}
		if err := (Maker{Engine: machine{arch: c.engine}}).emulationIn(t.Context(), p, c.of); err != nil {
			t.Fatal(err)
		}
		emulates := isForeign(c.of, c.engine)
		own := c.engine == runtime.GOARCH || c.engine == "" && runtime.GOARCH == arch.Default.OCI
		traces := emulates && runtime.GOOS == "linux" && own
		_, probed := p.files["/kimg/probe"]
		if probed != emulates || p.files["/kimg/"+foreign.Name] > 0 != traces {
			t.Errorf("%s on %q: %v", c.of, c.engine, p.files)
		}
	}
}

func TestParseEmulation(t *testing.T) {
	for _, name := range []string{"", "namespace", "machine", "trace"} {
		if e, err := ParseEmulation(name); err != nil || string(e) != name {
			t.Errorf("%q: %q, %v", name, e, err)
		}
		e := &ForeignError{arch.ARM64, Emulation(name), errors.New("no")}
		if !strings.Contains(e.Error(), name) || e.Hint() == "" {
			t.Errorf("%v: %s", e, e.Hint())
		}
	}
	if _, err := ParseEmulation("ptrace"); err == nil {
		t.Error("an unknown way passed")
	}
}

// inTree runs the probe in a tree of its own, as debootstrap's second stage, and says who it is there.
const inTree = `mkdir -p /kimg/work/target/dev && cp /kimg/probe /kimg/work/target && chroot /kimg/work/target /probe
echo "$? $(grep -c . /proc/self/uid_map) $(sed -n 's/^CapBnd:\t//p' /proc/self/status)"
chroot --userspec=1234:1234 /kimg/work/target /probe; echo $?
printf '#!/probe\n' >/kimg/work/target/script; chmod +x /kimg/work/target/script
chroot /kimg/work/target /script; echo $?
sleep 1000 & tries=0; while kill -KILL -1 2>/dev/null && test $tries -lt 100; do sleep 0.05; tries=$((tries + 1)); done
test $tries -lt 100 && exec echo alone`

// EmulatesInside has an architecture's probe run in a container of an imaging image, by a way. (The test is in package
// image_test, which knows of such images.)
func EmulatesInside(t *testing.T, eng container.Engine, imaging string, a arch.Arch, by Emulation) {
	t.Helper()
	var out, log bytes.Buffer
	cmd := rootCmd(imaging, eng.Info().Arch, a, by, time.Unix(0, 0), false, []string{"sh", "-c", inTree})
	cmd.Stdout, cmd.Stderr = &out, &log
	c, err := eng.Create(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	err = errors.Join((Maker{Engine: eng}).emulationIn(t.Context(), c, a), c.Start(t.Context()))
	if err == nil {
		err = c.Wait()
	}
	const caps = "00000000800400db" // BootstrapCaps
	if got := strings.Fields(out.String()); err != nil || len(got) != 6 || got[0] != "42" || got[2] != caps ||
		got[3] != "42" || got[4] != "42" || got[5] != "alone" || !strings.HasPrefix(log.String(), runBy) {
		t.Errorf("by %q: %v: %s%s", by, err, out.String(), log.String())
	}
	t.Logf("%s", log.String())
}

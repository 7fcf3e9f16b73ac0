package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// BinDeb is the make target that packs the kernel for dpkg. It needs a toolchain
// image that has dpkg-dev, for the whole of the build; see Era.Target.
const BinDeb = "bindeb-pkg"

// debTools stand before the programs of their names in bindeb-pkg's PATH. They are why nothing is written to the
// source, nothing needs to be root, and the packages are the same bits each time.
//
//go:embed bindeb
var debTools embed.FS

const (
	toolsDir = workDir + "/bindeb"
	debsDir  = workDir + "/debs"
)

// debEnv is the environment of make bindeb-pkg besides the build's. Its
// packages' version is that of the kernel with the revision 1.
func debEnv(release string, epoch time.Time) []string {
	return []string{
		"PATH=" + toolsDir + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"KDEB_PKGVERSION=" + release + "-1", "KDEB_CHANGELOG_DIST=unstable", "KDEB_COMPRESS=xz",
		"DEBFULLNAME=kimg", "DEBEMAIL=kimg@localhost",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()),
		"DEB_RULES_REQUIRES_ROOT=no", "KIMG_DEBS=" + debsDir,
	}
}

// startOver removes all objects but kimg's own files. linux-headers has in it whatever lies in some directories,
// what another configuration left there as well. ccache still knows the objects.
const startOver = `find ` + objDir + ` -mindepth 1 -maxdepth 1 ! -name 'kimg.*' -exec rm -rf {} +`

// debPrepare unpacks the tools from a tar and makes the place for packages. What an
// earlier build left of its debian directory goes: old kernels do not remove it.
const debPrepare = `rm -rf "$1"/debian && mkdir -p "$2" && tar -x -C "$3"`

func (w *worker) bindeb(ctx context.Context, j Job, n int, put Put) error {
	release, err := w.output(ctx, nil, 1<<10, "cat", objDir+"/include/config/kernel.release")
	if err != nil {
		return fmt.Errorf("read the kernel's release: %w", err)
	}
	tools, err := debToolsTar()
	if err != nil {
		return err
	}
	if err := w.run(ctx, tools, nil, "sh", "-c", debPrepare, "sh", objDir, debsDir, workDir); err != nil {
		return fmt.Errorf("prepare the packing: %w", err)
	}
	pack := *w
	pack.env = append(pack.env[:len(pack.env):len(pack.env)], debEnv(strings.TrimSpace(release), j.Epoch)...)
	if err := pack.make(ctx, jobs(n), BinDeb); err != nil {
		return err
	}
	return w.giveDebs(ctx, put)
}

func (w *worker) giveDebs(ctx context.Context, put Put) error {
	list, err := w.output(ctx, nil, 1<<16, "sh", "-c", `cd "$1" && ls -1 && rm -rf "$2"/debian`, "sh", debsDir, objDir)
	if err != nil {
		return fmt.Errorf("list the packages: %w", err)
	}
	names := map[string]string{}
	for name := range strings.Lines(list) {
		name = strings.TrimSuffix(name, "\n")
		names[name] = path.Join(TargetsDir, name)
	}
	if len(names) == 0 {
		return errors.New("make succeeded and left no package")
	}
	return w.give(ctx, debsDir, names, nil, put)
}

func debToolsTar() (io.Reader, error) {
	entries, err := debTools.ReadDir("bindeb")
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		name := "bindeb/" + e.Name()
		text, err := debTools.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := putFile(tw, name, 0o755, string(text)); err != nil {
			return nil, err
		}
	}
	return &buf, tw.Close()
}

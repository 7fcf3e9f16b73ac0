package kernel

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/units"
)

// errNoTree is the answer to a directory or a tarball that holds no kernel.
var errNoTree = errors.New("not a kernel tree: no Makefile with VERSION and PATCHLEVEL at its top")

// maxMakefile bounds how much of a Makefile is read, in bytes: 6.12's has 68 KiB
// and names the version in its first lines.
const maxMakefile = 1 << 20

// ParseMakefile reads the version from the top-level Makefile of a kernel tree,
// which is what the kernel will call itself, whatever its directory is called.
func ParseMakefile(r io.Reader) (units.KernelVersion, error) {
	vars := map[string]string{}
	sc := bufio.NewScanner(io.LimitReader(r, maxMakefile))
	sc.Buffer(nil, 64<<10)
	for len(vars) < 4 && sc.Scan() {
		name, value, ok := strings.Cut(sc.Text(), "=")
		name = strings.TrimSpace(name)
		switch name {
		case "VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION":
			if _, seen := vars[name]; ok && !seen {
				vars[name], _, _ = strings.Cut(strings.TrimSpace(value), "#")
			}
		}
	}
	if err := sc.Err(); err != nil {
		return units.KernelVersion{}, fmt.Errorf("read the tree's Makefile: %w", err)
	}
	major, err1 := strconv.ParseUint(strings.TrimSpace(vars["VERSION"]), 10, 8)
	minor, err2 := strconv.ParseUint(strings.TrimSpace(vars["PATCHLEVEL"]), 10, 16)
	if err1 != nil || err2 != nil {
		return units.KernelVersion{}, errNoTree
	}
	sub := strings.TrimSpace(vars["SUBLEVEL"])
	if sub == "" {
		sub = "0"
	}
	extra := strings.TrimSpace(vars["EXTRAVERSION"])
	return units.ParseKernelVersion(fmt.Sprintf("%d.%d.%s%s", major, minor, sub, extra))
}

type treeInTar struct {
	version units.KernelVersion
	strip   int // leading directories before the tree: 1 in linux-6.12/Makefile
}

// findTree reads a tar until it meets the tree's Makefile. In the order of git
// archive, which kernel.org and Debian use, that is the first eighth of it.
func findTree(r io.Reader) (treeInTar, error) {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return treeInTar{}, errNoTree
		}
		if err != nil {
			return treeInTar{}, fmt.Errorf("read tarball: %w", truncated(err))
		}
		if err := safeName(h.Name); err != nil {
			return treeInTar{}, err
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || path.Base(name) != "Makefile" || strings.Count(name, "/") > 1 {
			continue
		}
		version, err := ParseMakefile(tr)
		switch {
		case errors.Is(err, errNoTree):
			continue
		case err != nil:
			return treeInTar{}, truncated(err)
		}
		// tar counts components as they are spelled: ./linux-6.12/Makefile has two.
		return treeInTar{version, strings.Count(strings.TrimLeft(h.Name, "/"), "/")}, nil
	}
}

// safeName refuses a member that would land outside the tree.
func safeName(name string) error {
	if strings.HasPrefix(name, "/") || name == ".." || strings.HasPrefix(path.Clean(name), "../") {
		return fmt.Errorf("refuse tarball: member %q points out of the tree", name)
	}
	return nil
}

func truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut short: %w", err)
	}
	return err
}

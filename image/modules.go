package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// WithModules returns the tree's tar with a kernel's modules behind it. modules opens a tar of lib/modules/VERSION;
// whatever else is in it is refused. Where the tree's /lib is a link to usr/lib, that is where they go: an entry
// below a link would hide it. Owners are root's, times are the epoch.
func WithModules(tree, modules Tree, epoch time.Time) Tree {
	return func() (io.ReadCloser, error) {
		t, err := tree()
		if err != nil {
			return nil, err
		}
		m, err := modules()
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		r, w := io.Pipe()
		go func() {
			err := addModules(w, t, m, epoch)
			w.CloseWithError(errors.Join(err, t.Close(), m.Close()))
		}()
		return r, nil
	}
}

func addModules(out io.Writer, tree, modules io.Reader, epoch time.Time) error {
	w := tar.NewWriter(out)
	have := map[string]bool{}
	lib := "lib"
	err := eachEntry(tree, func(name string, h *tar.Header, r io.Reader) error {
		have[name] = true
		if name == "lib" && h.Typeflag == tar.TypeSymlink {
			lib = strings.Trim(path.Clean(h.Linkname), "/")
		}
		return writeEntry(w, h, r)
	})
	if err != nil {
		return err
	}
	if lib != "lib" && lib != "usr/lib" {
		return fmt.Errorf("add the modules: /lib is a link to %q", lib)
	}
	err = eachEntry(modules, func(name string, h *tar.Header, r io.Reader) error {
		rest, ok := strings.CutPrefix(name, "lib/modules")
		if !ok || rest != "" && rest[0] != '/' || h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeReg &&
			h.Typeflag != tar.TypeSymlink {
			return fmt.Errorf("add the modules: %q is not a file of lib/modules", name)
		}
		name = lib + "/modules" + rest
		for _, dir := range parents(name) {
			if !have[dir] {
				have[dir] = true
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755,
					ModTime: epoch}); err != nil {
					return err
				}
			}
		}
		if have[name] {
			if h.Typeflag == tar.TypeDir {
				return nil
			}
			return fmt.Errorf("add the modules: the tree has %q already", name)
		}
		have[name] = true
		to := &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode & 0o755,
			ModTime: epoch}
		if to.Typeflag == tar.TypeDir {
			to.Name += "/"
		}
		return writeEntry(w, to, r)
	})
	if err != nil {
		return err
	}
	return w.Close()
}

// parents are the directories above a name, the topmost first.
func parents(name string) []string {
	var dirs []string
	for i, c := range name {
		if c == '/' {
			dirs = append(dirs, name[:i])
		}
	}
	return dirs
}

func eachEntry(r io.Reader, do func(name string, h *tar.Header, r io.Reader) error) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := cleanName(h.Name)
		if err == nil {
			err = do(name, h, tr)
		}
		if err != nil {
			return err
		}
	}
}

func writeEntry(w *tar.Writer, h *tar.Header, r io.Reader) error {
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w, r)
	return err
}

// Package decode gives the frames of a kernel's reports their places in the source: file, line and what was inlined
// there, from the vmlinux and the modules of an out directory. It says where a report is of another build.
package decode

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kimg/kimg/internal/addr2line"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/splat"
)

// Build is what an out directory has to decode with. It is not safe for use by several goroutines at a time.
type Build struct {
	dir     string
	kernel  *addr2line.File
	modules map[string]*module
	names   map[string]string // of modules to their files
}

type module struct {
	file *addr2line.File
	err  error
}

// Open opens the vmlinux of an out directory. The caller closes the Build.
func Open(dir string) (*Build, error) {
	kernel, err := addr2line.Open(filepath.Join(dir, artifact.Vmlinux))
	if err != nil {
		return nil, err
	}
	return &Build{dir: dir, kernel: kernel, modules: map[string]*module{}}, nil
}

// Close closes the files.
func (b *Build) Close() error {
	err := b.kernel.Close()
	for _, m := range b.modules {
		if m.file != nil {
			err = errors.Join(err, m.file.Close())
		}
	}
	return err
}

// Release is the kernel's version.
func (b *Build) Release() string { return release(b.kernel.Banner) }

// ReleaseOf is what a vmlinux calls itself, as uname -r has it; empty: it does not say, or is no kernel.
func ReleaseOf(vmlinux string) string {
	f, err := addr2line.Open(vmlinux)
	if err != nil {
		return ""
	}
	defer f.Close()
	if name := release(f.Banner); releaseRE.MatchString(name) {
		return name
	}
	return ""
}

// releaseRE is what a release may be: make takes whatever the tree's files say. utsname has room for 64 bytes.
var releaseRE = regexp.MustCompile(`^[0-9][-+.~_a-zA-Z0-9]{0,63}$`)

// release is the version in what a kernel says first: "Linux version 6.12.117 (...".
func release(banner string) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(banner, "Linux version "), " ")
	return version
}

// Match says how a report fits the build. The banner is the log's, and may be empty.
func (b *Build) Match(r *splat.Report, banner string) Match {
	other := func(what, theirs, ours string) Match {
		return Match{Why: fmt.Sprintf("the log is of a kernel with %s %s, and %s is one with %s", what, theirs,
			filepath.Join(b.dir, artifact.Vmlinux), ours)}
	}
	version := r.Release
	if version == "" {
		version = release(banner)
	}
	switch {
	case r.BuildID != "" && r.BuildID == b.kernel.BuildID:
		return Match{Same: true}
	case r.BuildID != "" && b.kernel.BuildID != "":
		return other("build ID", r.BuildID, b.kernel.BuildID)
	case banner != "" && strings.TrimSpace(banner) == b.kernel.Banner:
		return Match{Same: true}
	case version != "" && version != b.Release():
		return other("version", version, b.Release())
	case banner != "" && b.kernel.Banner != "":
		return other("the banner", banner, b.kernel.Banner)
	case version != "":
		return Match{Same: true, Why: "the log says the kernel's version and no build ID: another build of " + version +
			" has other lines"}
	}
	return Match{Same: true, Why: "the log does not say which kernel it is of"}
}

// Match is how a report fits a build.
type Match struct {
	Same bool   `json:"same"`
	Why  string `json:"why,omitempty"` // it is not the same, or not certain to be
}

// Fill finds the places of a report's frames, and returns what kept it from that. A function of another size than
// the build's is another one: it gets none.
func (b *Build) Fill(r *splat.Report) error {
	var errs []error
	said := map[string]bool{}
	for f := range r.Frames {
		if err := b.fill(f); err != nil && !said[err.Error()] {
			said[err.Error()] = true
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (b *Build) fill(f *splat.Frame) error {
	file := b.kernel
	if f.Module != "" {
		var err error
		if file, err = b.module(f.Module); err != nil {
			return err
		}
		if f.BuildID != "" && file.BuildID != "" && !strings.HasPrefix(file.BuildID, f.BuildID) {
			return fmt.Errorf("the log's module %s has build ID %s, and this build's has %s",
				f.Module, f.BuildID, file.BuildID)
		}
	}
	at, err := file.Address(f.Function, f.Offset, f.Size)
	if err != nil {
		return err
	}
	if f.Return && f.Offset > 0 || f.Ends() {
		at-- // the call, and not what comes after it
	}
	places, err := file.Places(at)
	if err != nil {
		return err
	}
	if f.Ends() && (len(places) == 0 || places[len(places)-1].Function == "") {
		places = nil // the function's own name would be another's
	}
	f.Source = nil
	for i, p := range places {
		if p.Function == "" && i == len(places)-1 {
			p.Function = f.Function
		}
		f.Source = append(f.Source, splat.Place(p))
	}
	return nil
}

// module opens a module's file, of those with debug information.
func (b *Build) module(name string) (*addr2line.File, error) {
	name = strings.ReplaceAll(name, "-", "_")
	if m := b.modules[name]; m != nil {
		return m.file, m.err
	}
	if b.names == nil {
		b.names = map[string]string{}
		root := filepath.Join(b.dir, artifact.ModulesDir)
		_ = filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				if base, ok := moduleName(e.Name()); ok && b.names[base] == "" {
					b.names[base] = file
				}
			}
			return nil // what cannot be read is not found
		})
	}
	m := &module{}
	if file := b.names[name]; file != "" {
		if m.file, m.err = addr2line.Open(file); m.err == nil {
			m.file.Of(b.kernel)
		}
	} else {
		m.err = fmt.Errorf("there is no module %s in %s", name, filepath.Join(b.dir, artifact.ModulesDir))
	}
	b.modules[name] = m
	return m.file, m.err
}

func moduleName(file string) (string, bool) {
	for _, end := range []string{".ko", ".ko.debug"} {
		if base, ok := strings.CutSuffix(file, end); ok {
			return strings.ReplaceAll(base, "-", "_"), true
		}
	}
	return "", false
}

// FillAll is Fill for reports of a kernel of this directory. What is not found is left out: the reports tell without.
func FillAll(dir string, reports []*splat.Report) {
	if len(reports) == 0 {
		return
	}
	if b, err := Open(dir); err == nil {
		defer b.Close()
		for _, r := range reports {
			_ = b.Fill(r)
		}
	}
}

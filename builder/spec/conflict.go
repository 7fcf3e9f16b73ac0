package spec

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/units"
)

// LockPath is the lock that a Spec names: Lock, or that of its out directory.
func (s Spec) LockPath() string { return cmp.Or(s.Lock, filepath.Join(s.Out, LockFile)) }

// Conflict reports the first of the fields in Given that asks for something else than the lock pins, as an
// *InputError. A --kernel that is a path is none: it says where the locked source is.
func (s Spec) Conflict(l *Lock) error {
	for _, field := range s.Given {
		c, err := s.compare(l, field)
		if err != nil {
			return &InputError{Field: "--" + field, Err: err}
		}
		if !c.same {
			err := fmt.Errorf("asks for %s, and the lock %s pins %s: leave one of them out",
				cmp.Or(c.asked, "nothing"), s.Lock, cmp.Or(c.pinned, "nothing"))
			return &InputError{Field: "--" + field, Err: err}
		}
	}
	return nil
}

// compared is a field that was asked for beside what a lock pins of it, and what users see of the two.
type compared struct {
	same          bool
	asked, pinned string
}

func (s Spec) compare(l *Lock, field string) (compared, error) {
	q := l.Request()
	words := func(asked, pinned string) (compared, error) { return compared{asked == pinned, asked, pinned}, nil }
	switch field {
	case "kernel":
		src, err := kernel.ParseSource(s.Kernel)
		if err != nil || l.Kernel.Local() && src.Path != "" {
			return compared{same: true}, err
		}
		return words(src.String(), q.Kernel)
	case "suite":
		return words(s.Suite, q.Suite)
	case "arch":
		return words(s.Arch, q.Arch.Name)
	case "variant":
		return words(string(s.Variant), string(q.Variant))
	case "size":
		return words(s.Size.String(), q.Size.String())
	case "fs", "initramfs":
		f, err := s.form()
		return compared{f == q.Form, f.String(), q.Form.String()}, err
	case "toolchain":
		return words(s.Toolchain, q.Toolchain)
	case "include":
		// A file says where a locked one is, as --kernel does; what it is is compared when it is read.
		// Packages that kimg.yaml's other keys need are pinned with them.
		names := s.includes()
		asked, pinned := strings.Join(include(names, q.Custom), ","), strings.Join(q.Include, ",")
		debs := s.Debs()
		same := asked == pinned || len(names) == 0 && len(debs) > 0
		return compared{same && len(debs) == len(q.Debs), strings.TrimSpace(asked + " " + debNames(debs)),
			strings.TrimSpace(pinned + " " + debNames(q.Debs))}, nil
	case "components":
		return words(strings.Join(s.components(), ","), strings.Join(q.Components, ","))
	case "archive":
		list, err := readArchives(s.Archives, q.Arch, func(_ string, _ any, err error) error { return err })
		return compared{slices.EqualFunc(list, q.Archives, OtherArchive.same), archiveNames(list),
			archiveNames(q.Archives)}, err
	case "hostname":
		return words(s.Hostname, q.Custom.Hostname)
	case "timezone":
		return words(s.Timezone, q.Custom.Timezone)
	case "locale":
		return words(s.Locale, q.Custom.Locale)
	case "run":
		c, err := s.custom()
		return compared{slices.Equal(c.Run, q.Custom.Run), scriptNames(c.Run), scriptNames(q.Custom.Run)}, err
	case "overlay": // says where the locked ones are, as --kernel does; what they are is compared when they are read
		asked := fmt.Sprintf("%d overlays", len(s.Overlay))
		return compared{len(s.Overlay) == len(q.Custom.Overlays), asked, overlayNames(q.Custom.Overlays)}, nil
	case "target":
		return words(strings.Join(s.Targets, " "), strings.Join(q.Targets, " "))
	case "no-fixes":
		return words(fmt.Sprint(s.NoFixes), fmt.Sprint(q.NoFixes))
	case "set":
		return words(strings.Join(s.Set, " "), strings.Join(q.Config.Set, " "))
	case "patch":
		list, err := ReadPatches(s.Patches)
		show := func(l []PatchLock) string { return PatchNames(l) + short(PatchDigest(l)) }
		return compared{SamePatches(list, q.Patches), show(list), show(q.Patches)}, err
	case "config":
		base := FileLock{Path: q.Config.Base, SHA256: q.Config.SHA256}
		asked := FileLock{Path: s.Config}
		if !kernel.Builtin(s.Config) {
			f, err := lockFile(s.Config)
			if err != nil {
				return compared{}, err
			}
			asked = f
			base.Path, asked.Path = "", "" // what a file is called is not what it is
		}
		same := asked.SHA256 == base.SHA256 && asked.Path == base.Path
		base.Path = q.Config.Base
		return compared{same, named(FileLock{Path: s.Config, SHA256: asked.SHA256}), named(base)}, nil
	case "fragment":
		var list []FileLock
		for _, name := range s.Fragments {
			f, err := lockFile(name)
			if err != nil {
				return compared{}, err
			}
			list = append(list, f)
		}
		same := func(a, b FileLock) bool { return a.SHA256 == b.SHA256 }
		return compared{slices.EqualFunc(list, q.Config.Fragments, same), named(list...),
			named(q.Config.Fragments...)}, nil
	}
	return compared{same: true}, nil // no lock pins it
}

func named(list ...FileLock) string {
	var all []string
	for _, f := range list {
		all = append(all, f.Path+short(f.SHA256))
	}
	return strings.Join(all, " ")
}

// PatchNames names patches for users: the first eight, and how many more.
func PatchNames(list []PatchLock) string {
	const most = 8
	var names []string
	for _, p := range list[:min(most, len(list))] {
		names = append(names, p.Path)
	}
	if n := len(list) - most; n > 0 {
		names = append(names, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(names, " ")
}

// PatchDigest is of all that a list of patches does.
func PatchDigest(list []PatchLock) Digest {
	var all strings.Builder
	for _, p := range list {
		fmt.Fprintln(&all, p.Strip, p.SHA256)
	}
	return units.DigestOf([]byte(all.String()))
}

// FrozenError is a part of what was asked for that the lock does not pin, while --frozen forbids to resolve it.
type FrozenError struct{ What string }

func (e *FrozenError) Error() string {
	return "the lock does not pin " + e.What + " and --frozen forbids to look for it"
}

// Hint says what pins it.
func (e *FrozenError) Hint() string { return "build once without --frozen to have it pinned" }

// Unmoved refuses, with a *FrozenError, what old does not pin as l does, for the parts that l has.
func (l *Lock) Unmoved(old *Lock) error {
	names := func(c ConfigLock) ConfigLock { // an empty list may be nil
		c.Fragments, c.Set = append([]FileLock{}, c.Fragments...), append([]string{}, c.Set...)
		return c
	}
	switch {
	case l.Arch != old.Arch:
		return &FrozenError{"the architecture " + l.Arch.String()}
	case l.Toolchain.Target != old.Toolchain.Target || l.Toolchain.Compiler != old.Toolchain.Compiler:
		return &FrozenError{fmt.Sprintf("the toolchain %s/%s", l.Toolchain.Target, l.Toolchain.Compiler)}
	case !reflect.DeepEqual(names(l.Config), names(old.Config)):
		return &FrozenError{"the kernel's configuration as it is now"}
	case !SamePatches(l.Kernel.Patches, old.Kernel.Patches):
		return &FrozenError{"the patches as they are now"}
	case !slices.Equal(l.Kernel.Fixes, old.Kernel.Fixes):
		return &FrozenError{"the fixes of this kimg"}
	case !slices.Equal(l.Kernel.Targets, old.Kernel.Targets):
		return &FrozenError{"the make targets as they are now"}
	case l.Image.Size != 0 && l.Custom.Digest() != old.Custom.Digest():
		return &FrozenError{"what is done to the root filesystem (files, users, scripts, settings) as it is now"}
	case l.Image.Form != old.Image.Form:
		return &FrozenError{"a root filesystem as " + l.Image.Form.String()}
	case l.Image.Size != 0 && l.Image.Size != old.Image.Size:
		return &FrozenError{"an image of " + l.Image.Size.String()}
	}
	return nil
}

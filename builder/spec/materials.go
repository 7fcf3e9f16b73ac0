package spec

import (
	"path"
	"slices"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Materials are the outside things that a lock names, in the manifest's order.
func (l *Lock) Materials() []attest.Material {
	k := attest.Material{
		Kind: attest.Kernel, Name: l.Kernel.Name(), Version: l.Kernel.Version.String(), Digest: l.Kernel.SHA256,
		For: "kernel", Tree: l.Kernel.Source == string(kernel.Directory),
	}
	if d := l.Kernel.Download; d != nil {
		k.Name, k.URI, k.Unsigned = path.Base(d.URL), d.URL, d.Unsigned
		k.SignedBy = slices.Concat(d.SignedBy, d.TarSignedBy)
	}
	all := []attest.Material{k}
	if p := l.Kernel.Package; p != nil {
		all = []attest.Material{packageMaterial(*p, l.Kernel.Archive.Suite, "kernel")}
		all[0].Kind = attest.Kernel
		all = append(all, indexMaterial(*l.Kernel.Archive, "kernel"))
	}
	for _, f := range l.Kernel.Fixes {
		m := attest.Material{Kind: attest.Fix, Name: f.Name, Version: f.Commit, Digest: f.SHA256, For: "kernel"}
		all = append(all, m)
	}
	for _, p := range l.Kernel.Patches {
		all = append(all, attest.Material{Kind: attest.Patch, Name: p.Path, Digest: p.SHA256, For: "kernel"})
	}
	if l.Config.SHA256 != "" {
		all = append(all, attest.Material{Kind: attest.Config, Name: l.Config.Base, Digest: l.Config.SHA256,
			For: "kernel"})
	}
	for _, f := range l.Config.Fragments {
		all = append(all, attest.Material{Kind: attest.Config, Name: f.Path, Digest: f.SHA256, For: "kernel"})
	}
	all = append(all, indexMaterial(l.Rootfs.Archive, attest.RootFS))
	for _, o := range l.Rootfs.Archives {
		all = append(all, o.material())
	}
	for _, p := range l.Rootfs.Packages() {
		all = append(all, l.Rootfs.rootfsPackage(p))
	}
	own := func(name string, d Digest) {
		all = append(all, attest.Material{Kind: attest.File, Name: name, Digest: d, For: attest.RootFS})
	}
	for _, o := range l.Custom.Overlays {
		own(o.Path, o.SHA256)
	}
	for _, f := range l.Custom.Files {
		own(f.Path, units.DigestOf([]byte(f.Text)))
	}
	for _, s := range l.Custom.Run {
		own(s.Name, units.DigestOf([]byte(s.Text)))
	}
	for _, t := range []ToolchainLock{l.Toolchain, l.Imaging} {
		from := ArchiveLock{Suite: t.Lock.Suite.Name, Date: t.Lock.Date, InRelease: t.Lock.InRelease}
		what := "toolchain " + string(t.Target)
		all = append(all, indexMaterial(from, what))
		for _, p := range slices.Concat(t.Lock.Base, t.Lock.Packages) {
			all = append(all, packageMaterial(p, from.Suite, what))
		}
	}
	return all
}

func packageMaterial(p Package, codename, what string) attest.Material {
	m := attest.Material{
		Kind: attest.Package, Name: p.Name, Version: p.Version, File: p.Filename, Digest: p.SHA256, For: what,
	}
	if s, err := suite.Parse(codename); err == nil {
		m.URI, m.Supplier = attest.DebURL(s.Family.Name, s.Name, p.Name, p.Version, p.Arch), s.Family.Title
	}
	return m
}

// indexMaterial names an index by its permanent address, and not by the mirror's, which is the user's business.
func indexMaterial(a ArchiveLock, what string) attest.Material {
	m := attest.Material{
		Kind: attest.Index, Name: a.Suite, Digest: a.InRelease, Date: a.Date, SignedBy: a.SignedBy, For: what,
	}
	if s, err := suite.Parse(a.Suite); err == nil {
		m.URI = archive.SnapshotURL(s.Family, a.Date) + "/dists/" + s.Name + "/InRelease"
	}
	return m
}

// Requested is what the user asked for, without where on their machine it is.
func (l *Lock) Requested() map[string]any {
	m := map[string]any{
		"kernel": l.Kernel.Name(), "suite": l.Rootfs.Suite, "variant": string(l.Rootfs.Variant),
		"config": l.Config.Base, "size": l.Image.Size.String(),
	}
	var fragments, patches, archives, debs []string
	for _, a := range l.Rootfs.Archives {
		archives = append(archives, a.Line().String())
	}
	for _, d := range l.Rootfs.debs() {
		debs = append(debs, d.Name)
	}
	for _, f := range l.Config.Fragments {
		fragments = append(fragments, f.Path)
	}
	for _, p := range l.Kernel.Patches {
		patches = append(patches, p.Path)
	}
	for name, list := range map[string][]string{
		"include": l.Rootfs.Include, "fragments": fragments, "patches": patches,
		"set": l.Config.Set, "targets": l.Kernel.Targets,
		"components": l.Rootfs.Components, "archives": archives, "debs": debs,
	} {
		if len(list) > 0 {
			m[name] = attest.List(list)
		}
	}
	if l.Arch != arch.Default {
		m["arch"] = l.Arch.Name
	}
	if l.Image.Form != form.Ext4 {
		m["form"] = l.Image.Form.String()
	}
	if l.Kernel.NoFixes {
		m["noFixes"] = true
	}
	if l.Custom.Any() {
		m["custom"] = string(l.Custom.Digest())
	}
	if l.Toolchain.Request != "" {
		m["toolchain"] = l.Toolchain.Request
	}
	return m
}

package attest

import "github.com/package-url/packageurl-go"

// DebURL is the package URL of a binary package of a distribution, such as
// pkg:deb/debian/dpkg@1.22.21?arch=amd64&distro=trixie.
func DebURL(family, suite, name, version, arch string) string {
	q := packageurl.QualifiersFromMap(map[string]string{"arch": arch, "distro": suite})
	return packageurl.NewPackageURL(packageurl.TypeDebian, family, name, version, q, "").ToString()
}

package suite

// Family is who makes a distribution: it decides the archive's layout, the snapshot service and the keys.
type Family struct {
	Name       string   // "debian": also the end of an archive's path, and the name of the file of keys
	Ports      string   // the same of an archive of its own for architectures other than amd64; empty: there is none
	Title      string   // for documents: "Debian"
	Components []string // what a plain installation draws from, in debootstrap's order
	Script     string   // debootstrap's name for what all of its suites share

	MirrorEnv   string // the variable that names a mirror
	PortsEnv    string // the same for Ports
	Snapshot    string // the archive as it was at some time, with its ports; the time comes behind it
	SnapshotEnv string // the variable that names another such service

	// Releases are what a sources.list calls releases that are not in the table of
	// suites. Their archive has the suites of the table beside them.
	Releases []string
}

// String is the name.
func (f *Family) String() string { return f.Name }

// The families.
var (
	Debian = &Family{
		Name: "debian", Title: "Debian", Components: []string{"main"}, Script: "sid",
		MirrorEnv: "KIMG_MIRROR",
		Snapshot:  "https://snapshot.debian.org/archive/debian/", SnapshotEnv: "KIMG_SNAPSHOT",
		Releases: []string{"stable", "oldstable", "oldoldstable", "testing", "unstable",
			"stretch", "buster", "forky", "duke"},
	}
	Ubuntu = &Family{
		Name: "ubuntu", Ports: "ubuntu-ports", Title: "Ubuntu",
		Components: []string{"main", "universe"}, Script: "gutsy",
		MirrorEnv: "KIMG_UBUNTU_MIRROR", PortsEnv: "KIMG_UBUNTU_PORTS_MIRROR",
		Snapshot: "https://snapshot.ubuntu.com/ubuntu/", SnapshotEnv: "KIMG_UBUNTU_SNAPSHOT",
		Releases: []string{"devel", "xenial", "oracular", "plucky", "questing", "resolute"},
	}
)

// Families are all families.
var Families = []*Family{Debian, Ubuntu}

// The keys that sign the archives, by primary fingerprint. Debian's are from the package debian-archive-keyring
// 2025.1, Ubuntu's from Debian's package ubuntu-keyring 2023.11.28.1-0.2; both were fetched from trixie and checked
// by its signed indices. keys/*.asc hold exactly these; a test proves it.
const (
	// Debian Archive Automatic Signing Key and Debian Stable Release Key of each
	// release, until 2029, 2029, 2031, 2031, 2035 and 2033.
	debian11Automatic = "1F89983E0081FDE018F3CC9673A4F27B8DD47936"
	debian11Stable    = "A4285295FC7B1A81600062A9605C66F00D6C9793"
	debian12Automatic = "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"
	debian12Stable    = "4D64FEC119C2029067D6E791F8D2585B8783D481"
	debian13Automatic = "04B54C3CDCA79751B16BC6B5225629DF75B188BD"
	debian13Stable    = "41587F7DB8C774BCCF131416762F67A0B2C39DE4"
	// Ubuntu Archive Automatic Signing Key (2012) and (2018).
	ubuntu2012 = "790BC7277767219C42C86F933B4FE6ACC0B21F32"
	ubuntu2018 = "F6ECB3762474EDA9D21B7022871920D1991BC93C"
)

// sinceE2fsprogs147 are the features that mke2fs turns on since 1.47.
var sinceE2fsprogs147 = []string{"metadata_csum_seed", "orphan_file"}

// mergesUsr is for suites whose /usr debootstrap itself merges (scripts/debian-common), not usrmerge.
var mergesUsr = []string{"usrmerge"}

// The architectures of an archive.
var (
	two   = []string{"amd64", "arm64"}
	three = []string{"amd64", "arm64", "ppc64el"}
	four  = []string{"amd64", "arm64", "riscv64", "ppc64el"}
)

// suites: a release is signed by the keys of the releases around its last update, and by its own stable key.
var suites = []Suite{
	{
		Name: "bullseye", Family: Debian, Arches: two, Kernel: "5.10",
		signers: []string{debian11Automatic, debian11Stable, debian12Automatic},
		Toolchain: &Toolchain{
			Compilers: []string{"gcc-10", "gcc-9"}, Base: []string{"mawk"}, Binutils: 35, Glibc: 31,
			// Without pkg-config: it brings all of Perl there, a sixth of the image, and every user of it in
			// kernels of that era has a default. Without debhelper: no kernel of these compilers calls it.
			Deb: []string{"dpkg-dev", "rsync"}, Engines: []string{"arm64"},
		},
	},
	{
		Name: "bookworm", Family: Debian, Arches: three, Kernel: "6.1",
		signers:   []string{debian11Automatic, debian12Automatic, debian12Stable, debian13Automatic},
		Bootstrap: Bootstrap{Exclude: mergesUsr, Also: []string{"usr-is-merged"}},
		Toolchain: &Toolchain{
			Compilers: []string{"gcc-12"}, Others: []string{"gcc-11"}, Base: []string{"mawk", "usr-is-merged"},
			// No Engines: gcc-12 is 12.2.0-14+deb12u1 there and the cross compiler 12.2.0-14, which compiles arm64's
			// stack protector otherwise (CVE-2023-4039); gcc-11 is -12, and its cross compiler -11.
			Build: []string{"pkgconf"}, Deb: packTools, Cross: []string{"arm64", "riscv64"}, Binutils: 40, Glibc: 36,
		},
	},
	{
		Name: "trixie", Family: Debian, Arches: four, Kernel: "6.12",
		signers:   []string{debian12Automatic, debian13Automatic, debian13Stable},
		Bootstrap: Bootstrap{Exclude: mergesUsr}, Ext4: sinceE2fsprogs147,
		Toolchain: &Toolchain{
			Compilers: []string{"gcc-14"}, Others: []string{"gcc-13", "gcc-12"}, Base: []string{"mawk"},
			Build: []string{"pkgconf"}, Deb: packTools, Cross: []string{"arm64", "riscv64", "ppc64el"},
			Binutils: 44, Glibc: 41, Engines: []string{"arm64"},
		},
	},
	{
		Name: "sid", Family: Debian, Arches: four,
		signers:   []string{debian11Automatic, debian12Automatic, debian13Automatic},
		Bootstrap: Bootstrap{Exclude: mergesUsr}, Ext4: sinceE2fsprogs147,
	},
	{
		Name: "bionic", Family: Ubuntu, Arches: three, signers: []string{ubuntu2012, ubuntu2018},
		// debootstrap goes by the Release file's codename, and an unpack tarball
		// has no Release file: it would merge /usr as it does for later suites.
		Bootstrap: Bootstrap{Options: []string{"--no-merged-usr"}},
	},
	{Name: "focal", Family: Ubuntu, Arches: four, signers: []string{ubuntu2012, ubuntu2018}},
	{Name: "jammy", Family: Ubuntu, Arches: four, signers: []string{ubuntu2012, ubuntu2018}},
	{Name: "noble", Family: Ubuntu, Arches: four, signers: []string{ubuntu2018}},
}

// packTools is what kbuild's bindeb-pkg calls besides what every build does: rsync for the headers (5.10 does, 4.19
// does not), debhelper (6.12 does, 6.1 does not). fakeroot has no part in it; see package kernel.
var packTools = []string{"dpkg-dev", "debhelper", "rsync"}

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/guest"
)

// File is laid over a bootstrapped tree. It belongs to root.
type File struct {
	Path  string      // absolute, in the guest
	Mode  fs.FileMode // permissions, and ModeDir, or ModeDevice|ModeCharDevice; symbolic links need none
	Data  []byte      // of a regular file
	Link  string      // makes it a symbolic link
	Major int64       // of a device
	Minor int64
}

func (f File) node(t time.Time) (*node, error) {
	name, err := cleanName(strings.TrimPrefix(f.Path, "/"))
	if err != nil || !path.IsAbs(f.Path) || name == "." {
		return nil, fmt.Errorf("lay over %q: not a clean absolute path", f.Path)
	}
	n := &node{name: name, mode: int64(f.Mode.Perm()), mtime: t}
	if f.Mode&fs.ModeSticky != 0 {
		n.mode |= 0o1000
	}
	switch {
	case f.Link != "":
		n.typ, n.link, n.mode = tar.TypeSymlink, f.Link, 0o777
	case f.Mode.IsDir():
		n.typ = tar.TypeDir
	case f.Mode&fs.ModeCharDevice != 0:
		n.typ, n.major, n.minor = tar.TypeChar, f.Major, f.Minor
	default:
		n.typ = tar.TypeReg
		n.setContent(f.Data)
	}
	return n, nil
}

// guestFiles is what makes a bootstrapped tree of the suite, as it was at a time, kimg's guest: a name, a root, a
// network, a fast boot, and the agent that the host talks to.
func guestFiles(s Suite, a Arch, components []string, sshd bool, at time.Time) []File {
	files := []File{
		{Path: "/etc/hostname", Mode: 0o644, Data: []byte(Hostname + "\n")},
		{Path: "/etc/hosts", Mode: 0o644, Data: []byte(hosts)},
		{Path: "/etc/fstab", Mode: 0o644, Data: []byte(fstab)},
		{Path: "/etc/resolv.conf", Mode: 0o644, Data: []byte(resolvConf)},
		{Path: "/etc/apt/sources.list", Mode: 0o644, Data: []byte(aptSources(s, components, at))},
		// Empty and not missing: systemd draws an identity at every boot and asks
		// nothing, for the boot does not count as the first (machine-id(5)).
		{Path: "/etc/machine-id", Mode: 0o444},
		{Path: "/etc/systemd/network/80-kimg.network", Mode: 0o644, Data: []byte(network)},
		{Path: "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
			Link: "/lib/systemd/system/systemd-networkd.service"},
		{Path: "/etc/systemd/system/sockets.target.wants/systemd-networkd.socket",
			Link: "/lib/systemd/system/systemd-networkd.socket"},
		{Path: "/etc/systemd/system.conf.d/kimg.conf", Mode: 0o644, Data: []byte(patience)},
		// Not older than /usr, whose time is clamped too: units with ConditionNeedsUpdate= (ldconfig, hwdb, journal
		// catalog, sysusers) have nothing to do at boot (systemd-update-done.service(8)).
		{Path: "/etc/.updated", Mode: 0o644},
		{Path: "/var/.updated", Mode: 0o644},
	}
	for _, u := range masked {
		files = append(files, File{Path: "/etc/systemd/system/" + u.unit, Link: "/dev/null"})
	}
	for _, d := range mountPoints {
		files = append(files, File{Path: d.path, Mode: fs.ModeDir | d.mode})
	}
	for _, d := range devices {
		files = append(files, File{Path: "/dev/" + d.name, Mode: fs.ModeDevice | fs.ModeCharDevice | d.mode,
			Major: d.major, Minor: d.minor})
	}
	agent := guest.Files()
	if sshd {
		agent = append(agent, guest.SSHFiles()...)
	}
	console := archOr(a).Console
	for _, g := range agent {
		data := bytes.ReplaceAll(g.Data, []byte(arch.Default.Console), []byte(console))
		files = append(files, File{Path: g.Path, Mode: g.Mode.Perm(), Data: data, Link: g.Link})
	}
	return files
}

const hosts = `127.0.0.1	localhost
127.0.1.1	` + Hostname + `
::1		localhost ip6-localhost ip6-loopback
ff02::1		ip6-allnodes
ff02::2		ip6-allrouters
`

// fstab finds the root by its label. It asks for no fsck: kimg checks an image
// whenever it writes one, and a check at each boot costs time.
const fstab = `# <file system>	<mount point>	<type>	<options>	<dump>	<pass>
LABEL=` + RootLabel + `	/	ext4	errors=remount-ro	0	0
`

// resolvConf names the resolver of QEMU's user network, which is always there.
// systemd-resolved would be one more daemon to wait for.
const resolvConf = "nameserver 10.0.2.3\n"

// network brings up whatever Ethernet interface the guest has. A TAP without a
// DHCP server still gives IPv6 link-local.
const network = `[Match]
Name=en* eth*

[Network]
DHCP=yes
LinkLocalAddressing=ipv6
IPv6AcceptRA=yes
`

// patience is for emulated guests on busy machines: by systemd's own 90 seconds udev may
// not have seen the serial port yet, and there would never be a prompt on it. Before
// systemd 252 the first limit is that of devices too, and the second one is not known.
const patience = `[Manager]
DefaultTimeoutStartSec=10min
DefaultDeviceTimeoutSec=10min
`

// masked are the units that only cost time in a guest that lives for minutes. systemctl unmask brings each back; a
// mask of a unit that a suite does not have is harmless.
var masked = []struct{ unit, why string }{
	{"apt-daily.timer", "downloads package lists behind the user's back"},
	{"apt-daily-upgrade.timer", "changes the guest behind the user's back"},
	{"dpkg-db-backup.timer", "backs up what is thrown away"},
	{"e2scrub_all.timer", "scrubs LVM volumes; there are none"},
	{"e2scrub_reap.service", "scrubs LVM volumes; there are none"},
	{"fstrim.timer", "the image is sparse already"},
	{"logrotate.timer", "logs do not live long enough"},
	{"man-db.timer", "indexes manual pages"},
	{"motd-news.timer", "Ubuntu: fetches advertising"},
	{"systemd-firstboot.service", "would ask questions on the console"},
	{"systemd-networkd-wait-online.service", "a guest without a network would wait two minutes for it"},
}

// aptSources lets a person install more in the guest, from the archive as it was when the image's own packages were
// chosen: what fits them is there for good. It never names the mirror of the machine that built the image. apt
// verifies signatures; plain http because the image has no certificates to check.
func aptSources(s Suite, components []string, at time.Time) string {
	if len(components) == 0 {
		components = s.Family.Components
	}
	base := strings.Replace(archive.SnapshotURL(s.Family, at), "https://", "http://", 1)
	return fmt.Sprintf("deb [check-valid-until=no] %s/ %s %s\n", base, s.Name, strings.Join(components, " "))
}

// mountPoints are directories that must be there and that the rules empty.
var mountPoints = []struct {
	path string
	mode fs.FileMode
}{
	{"/dev", 0o755}, {"/dev/pts", 0o755}, {"/dev/shm", 0o755 /* a tmpfs with its own mode at boot */},
	{"/proc", 0o555}, {"/run", 0o755}, {"/sys", 0o555},
	{"/tmp", fs.ModeSticky | 0o777}, {"/var/tmp", fs.ModeSticky | 0o777},
}

// devices are the nodes below devtmpfs: what init needs where a kernel does not
// mount it (DEVTMPFS_MOUNT off). Numbers from Linux's devices.txt.
var devices = []struct {
	name         string
	mode         fs.FileMode
	major, minor int64
}{
	{"console", 0o600, 5, 1}, {"full", 0o666, 1, 7}, {"null", 0o666, 1, 3}, {"random", 0o666, 1, 8},
	{"tty", 0o666, 5, 0}, {"urandom", 0o666, 1, 9}, {"zero", 0o666, 1, 5},
}

// Package guest has the files that go into every root filesystem so that a host can run
// commands in the guest ([Files]), and documents the protocol that they speak.
//
// # The protocol
//
// The host gives the guest virtio-serial ports, known by name: [Control] and, for
// commands, [Stdin], [Stdout] and [Stderr]. /usr/lib/kimg/agent, started by systemd when
// there are any such ports (or by the kernel, with init=), finds them in
// /sys/class/virtio-ports. Control carries lines of text. Host to guest:
//
//	run MARK SCRIPT    run a shell script (base64) as root in /root
//	signal NAME        signal the script's process group: INT, TERM, QUIT, HUP, KILL, USR1, USR2
//	winsize ROWS COLS  the size of the user's terminal, for the serial console
//	poweroff           shut down cleanly: everything is on the disk when the guest ends
//	ping               answer pong: a guest that does not has hung
//	rest               the guest is about to be stopped, and kept for later: answer resting, or restless
//	wake SECONDS NANOSECONDS SEED MACHINE-ID AGE
//	                   after rest, in the guest that goes on: set the clock, stir the seed (hexadecimal) into the
//	                   kernel's entropy and renew it, take the machine's id where it is of this boot, and log
//	                   how many seconds ago the guest was kept
//
// Guest to host:
//
//	fault TEXT         something that the host requested at boot failed; before ready
//	can rest           before ready: the agent knows rest
//	ready 1            the agent takes commands; 1 is this protocol's version; also after wake
//	resting            the answer to rest: nothing is done until wake
//	restless WHY       the answer to rest: the guest cannot be kept; WHY completes "it could not"
//	exit N             the script ended; 128+N when signal N ended it, as in a shell
//	pong               the answer to ping
//
// The other ports carry the script's bytes as they are. On stdin the host first sends one empty line, then the
// bytes; the end of the host's connection (a half-close) is the end of file. On stdout and stderr the agent writes
// MARK, a random word that the host chose, behind the script's last byte: ports are not ordered among each other,
// so "exit N" alone does not mean that all output has arrived. Scripts run one at a time. The first one after "wake"
// is run by /usr/lib/kimg/rest, which has a shell waiting for it; then the agent goes on.
//
// Where there is a port [Login], the login shell on the serial console writes the line "login" to it, and "logout
// N" when it ends with status N; the host decides what that means. Without it agetty logs in again.
//
// Where the command line has [SSHWord], the guest's sshd waits at boot for keys from the port [Keys]: lines of a
// name, host_key or authorized_keys, and the file in base64, then "end". The guest answers "taken". The files are
// in memory only, and only root can read them.
package guest

import (
	_ "embed"
	"io/fs"
)

// Names of the ports.
const (
	Control = "kimg.control"
	Stdin   = "kimg.stdin"
	Stdout  = "kimg.stdout"
	Stderr  = "kimg.stderr"
	Login   = "kimg.login"
	Keys    = "kimg.keys"
)

// Agent is where the agent is in the guest; it also serves as init=.
const Agent = "/usr/lib/kimg/agent"

// Words for the kernel's command line that /etc/profile.d/kimg.sh and the agent read.
const (
	TermWord = "kimg.term=" // TERM of the user's terminal
	RowsWord = "kimg.rows=" // its rows
	ColsWord = "kimg.cols=" // its columns

	ShareWord = "kimg.share=" // TAG,MODE,PATH: a 9p tag, ro or rw, and where it is mounted, in base64
	NetWord   = "kimg.net="   // user: the network is QEMU's own; only read where the agent is init
	InitWord  = "kimg.init="  // a shell command in base64, for the console; only read where the agent is init
	SSHWord   = "kimg.ssh=1"  // there are keys for sshd
)

// Overlay is where the first program of a guest is whose root cannot be written to, and InitVariable begins the word of
// the command line that names the init that goes on after it.
const (
	Overlay      = "/usr/lib/kimg/overlay"
	InitVariable = "kimg_init="
)

//go:embed files/overlay
var overlay []byte

// OverlayScript is the program; it goes into roots that cannot be written to, and into no other.
func OverlayScript() []byte { return overlay }

// File is a regular file or, with Link, a symbolic one, of root's. Its parent directories may not exist yet.
type File struct {
	Path string // absolute, in the guest
	Mode fs.FileMode
	Data []byte
	Link string // a symbolic link's target
}

var (
	//go:embed files/agent
	agent []byte
	//go:embed files/rest
	rest []byte
	//go:embed files/kimg-agent.service
	unit []byte
	//go:embed files/kimg-shares.service
	shares []byte
	//go:embed files/kimg.sh
	profile []byte
	//go:embed files/kimg-keys.service
	keys []byte
	//go:embed files/ssh-keys.conf
	sshKeys []byte
)

// Files returns what goes into a root filesystem. The unit is in /etc, whether or not /lib is merged into /usr.
func Files() []File {
	return []File{
		{Path: Agent, Mode: 0o755, Data: agent},
		{Path: "/usr/lib/kimg/rest", Mode: 0o755, Data: rest},
		{Path: "/etc/systemd/system/kimg-agent.service", Mode: 0o644, Data: unit},
		{Path: "/etc/systemd/system/multi-user.target.wants/kimg-agent.service", Mode: fs.ModeSymlink | 0o777,
			Link: "../kimg-agent.service"},
		{Path: "/etc/systemd/system/kimg-shares.service", Mode: 0o644, Data: shares},
		{Path: "/etc/systemd/system/multi-user.target.wants/kimg-shares.service", Mode: fs.ModeSymlink | 0o777,
			Link: "../kimg-shares.service"},
		{Path: "/etc/profile.d/kimg.sh", Mode: 0o644, Data: profile},
	}
}

// KeysUnit is the path of the unit that takes the keys for sshd.
const KeysUnit = "/etc/systemd/system/kimg-keys.service"

// SSHFiles returns what also goes into a root filesystem that has an sshd.
func SSHFiles() []File {
	return []File{
		{Path: KeysUnit, Mode: 0o644, Data: keys},
		{Path: "/etc/systemd/system/multi-user.target.wants/kimg-keys.service", Mode: fs.ModeSymlink | 0o777,
			Link: "../kimg-keys.service"},
		{Path: "/etc/systemd/system/ssh.service.d/kimg-keys.conf", Mode: 0o644, Data: sshKeys},
	}
}

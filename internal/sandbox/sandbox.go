// Package sandbox runs processes in Linux namespaces of their own, without root and without a daemon: [Start] makes
// the namespaces and pid 1 in them, [Sandbox.Run] starts processes beside it, and everything ends with the program
// that called Start, however that ends. [Unpack], [Pack], [Copy] and [Remove] work on the trees that it runs in.
//
// The program executes itself again (/proc/self/exe) as pid 1: an init function of this package sees that and does
// not return. It is to be linked in, and nothing is to be called for it.
//
// It needs Linux 5.12, where a mount and all below it can be made read-only at once. On other systems than Linux all of
// it is errors.ErrUnsupported.
package sandbox

import (
	"os"
)

// Config describes a sandbox. It has no network but a loopback interface of its own.
type Config struct {
	IDs IDs

	// Root is the directory of an unpacked image.
	Root string
	// Layer is a directory for what is written over Root, which is not written to then: an overlay's upper and work
	// directories are made in it, and are found there again. Empty: Root itself is the root.
	Layer    string
	ReadOnly bool // the root cannot be written to; what Mounts and Tmpfs name can

	Hostname string // empty: "kimg"
	Mounts   []Mount
	// Tmpfs is target to mount options, as Docker's: "size=1g,mode=1777,exec". nosuid, nodev and noexec hold unless
	// the options have suid, dev or exec.
	Tmpfs   map[string]string
	Devices []string // device nodes of this machine, such as /dev/kvm, under the same path
}

// Mount makes a directory or a file of this machine visible at Target, which is resolved inside the root, and made
// where it is missing.
type Mount struct {
	Source   string
	Target   string // an absolute path in the sandbox
	ReadOnly bool
	// Fill has an empty directory Source take owner and mode of the root's directory at Target, as a fresh volume of
	// Docker's does.
	Fill bool
}

// Process describes a process of a sandbox, as exec.Cmd does for this machine.
type Process struct {
	Args []string
	Env  []string // the whole environment; a PATH in it is where Args[0] is looked for
	Dir  string   // empty: /

	// User is "uid[:gid]", or names that the root's /etc/passwd and /etc/group know; empty: 0. Where one id is mapped
	// (IDs.One) every process has that one, whatever User is; if it has one of CHOWN, SETUID, SETGID and MKNOD, these
	// calls are answered as if they had been done, and the owners are remembered as long as the sandbox lives: for the
	// processes' stat, and for Pack.
	User       string
	Caps       []string // capabilities that it gets, without CAP_: "CHOWN"
	Privileged bool     // all capabilities, new privileges and no filter of system calls; Caps is not looked at

	// Stdin, Stdout and Stderr are handed over as they are; nil is /dev/null. With TTY they are not looked at.
	Stdin, Stdout, Stderr *os.File
	TTY                   bool // its streams are a new terminal, whose other end is Running.PTY
}

// Package foreign runs a command, and has programs of another architecture that it and all its descendants execute run
// by an emulator, a static program of qemu-user, as binfmt_misc of the kernel would: where that is not to be had. It
// is a tracer (ptrace) that is only stopped for by execve and execveat: where the program, or the interpreter that its
// first line names, is of the other architecture, the call's arguments are changed into the emulator's.
//
// The program that has this package linked in is the tracer when its file is called Name, and a format follows:
//
//	kimg-trace FORMAT COMMAND [ARGUMENT]...
//
// FORMAT is what binfmt_misc's register would be told, with magic numbers and the flags PF. The exit status is the
// command's, 128+n where signal n ended it, and all that the command leaves running is killed.
//
// Changed calls see the emulator where the command's own root has it. In any other root, as debootstrap's tree, a copy
// is put into /dev, which in a tree is the container's and no part of it.
//
// It needs CHROOT, PTRACE for processes that become other users, KILL for kill(-1), which passes the tracer by as it
// does the caller; and Linux 4.8 on amd64 or arm64.
package foreign

// Name is what the file of the program is called where it is to trace.
const Name = "kimg-trace"

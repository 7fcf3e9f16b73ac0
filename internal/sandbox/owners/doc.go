// Package owners lets processes of a user namespace with one id own files as anybody, and be anybody. A seccomp
// filter hands their calls of chown, mknod, stat, setuid, getuid and the like to a supervisor in the same namespace,
// who writes in a Book whose a file is said to be, and answers from it. On disk every file stays the one id's.
//
// A process that became another user owns what it makes, and may give away nothing more; but the kernel still lets it
// read and write what it always could. Not answered: openat2, sockets that bind makes, POSIX ACLs of other users,
// and what /proc and a socket's peer tell of a process's ids. A process that changes a path while a call reads it
// may be told that a file is root's.
//
// It needs Linux 5.9 (on amd64 or arm64), and Yama's ptrace_scope below 3.
package owners

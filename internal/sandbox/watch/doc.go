// Package watch has what programs share that look after other processes' system calls: the instructions of seccomp
// filters, and the memory and the root of a process that waits. All of it is Linux's.
package watch

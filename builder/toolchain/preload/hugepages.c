/*
 * hugepages.so has a program's large anonymous mappings backed by huge pages
 * where the engine's kernel leaves that to the program (transparent_hugepage is
 * "madvise", as on most distributions). The compiler's garbage collector takes
 * its memory in mappings of 2 MiB and touches every page of it: thousands of page
 * faults for each object, which are dear in a virtual machine. glibc does the
 * same for malloc by a tunable from 2.35 on; see builder/kernel/bench.go.
 *
 * It is loaded before libc by LD_PRELOAD. What it does cannot change what a
 * program computes, only where its memory lies.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_PAGE (2ul << 20)

void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	void *p = (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);

	if (p != MAP_FAILED && (flags & MAP_ANONYMOUS) && length >= HUGE_PAGE) {
		int before = errno;

		madvise(p, length, MADV_HUGEPAGE); /* a kernel without them says no */
		errno = before;
	}
	return p;
}

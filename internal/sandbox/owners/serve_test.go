//go:build linux && (amd64 || arm64)

package owners

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	for name, p := range map[string]func([]string){
		"busy": busyProgram, "many": manyProgram, "fuzz": fuzzProgram, "escape": escapeProgram, "fork": forkProgram,
		"magic": magicProgram,
	} {
		programs[name] = p
	}
}

func TestBook(t *testing.T) {
	for fs, dir := range fileSystems(t) {
		b := NewBook()
		d := must1(unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0))
		defer unix.Close(d)
		touch(filepath.Join(dir, "file"), 0o4755)
		must0(unix.Symlink("file", filepath.Join(dir, "link")))
		is := func(name string, want string) {
			t.Helper()
			var x unix.Statx_t
			if err := b.Statx(d, name, noFollow, unix.STATX_BASIC_STATS, &x); err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%o %d:%d %d:%d", x.Mode, x.Uid, x.Gid, x.Rdev_major, x.Rdev_minor)
			if got != want {
				t.Errorf("%s: %s is %s, want %s", fs, name, got, want)
			}
			if x.Mask&unix.STATX_BTIME != 0 {
				t.Errorf("%s: a birth time that was not asked for", fs)
			}
		}
		is("file", "104755 0:0 0:0")
		must0(b.Chown(d, "link", noFollow, 1, same))
		must0(b.Chown(d, "link", 0, same, 2))
		is("link", "120777 1:0 0:0")
		is("file", "100755 0:2 0:0")
		must0(b.Mknod(d, "null", unix.S_IFCHR|0o640, unix.Mkdev(1, 3)))
		is("null", "20640 0:0 1:3")
		if err := b.Mknod(d, "null", unix.S_IFCHR|0o640, 0); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: a second device of the name: %v", fs, err)
		}
		if err := b.Chown(d, "nothing", 0, 1, 1); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: chown of nothing: %v", fs, err)
		}
		// Nothing is held of files that can be told by their time of birth.
		time.Sleep(2 * tick)
		for _, f := range b.files {
			if f.pin != 0 {
				t.Errorf("%s: a descriptor is held", fs)
			}
		}
		if len(b.young) != 0 {
			t.Errorf("%s: %d descriptors are held still", fs, len(b.young))
		}
		must0(b.Chown(d, "file", 0, 0, 0))
		must0(b.Chown(d, "link", noFollow, 0, 0))
		if len(b.files) != 1 { // the device
			t.Errorf("%s: the book has %d files", fs, len(b.files))
		}
	}
}

// A file system that is read-only, and a file that is not the one id's, are so for the book.
func TestBookRefuses(t *testing.T) {
	b, dir := NewBook(), t.TempDir()
	touch(filepath.Join(dir, "file"), 0o644)
	must0(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	must0(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if err := b.Chown(unix.AT_FDCWD, dir+"/file", 0, 1, 1); !errors.Is(err, unix.EROFS) {
		t.Errorf("chown on a read-only file system: %v", err)
	}
	var s unix.Stat_t
	must0(unix.Stat("/etc/passwd", &s)) // another's, unless root runs the test
	if err := b.Chown(unix.AT_FDCWD, "/etc/passwd", 0, 0, 0); s.Uid != 0 && !errors.Is(err, unix.EPERM) {
		t.Errorf("chown of another's file: %v", err)
	}
	if len(b.files) != 0 {
		t.Errorf("the book has %d files", len(b.files))
	}
}

// A processes's ids are those of its parent, whoever forks and executes.
func TestFork(t *testing.T) {
	got := run(t, NewBook(), t.TempDir(), "fork", "3")
	if want := strings.Repeat("33 34\n", 4); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func forkProgram(args []string) {
	n := must1(strconv.Atoi(args[0]))
	if n == 3 {
		must0(raw(unix.SYS_SETRESGID, 34, 34, 34))
		must0(raw(unix.SYS_SETRESUID, 33, 33, 33))
	}
	fmt.Println(os.Getuid(), os.Getgid())
	if n > 0 {
		cmd := programCmd(".", "fork", strconv.Itoa(n-1))
		cmd.Stdout = os.Stdout
		must0(cmd.Run())
	}
}

// Processes that are killed while they are answered leave the book right and its server serving.
func TestKilled(t *testing.T) {
	b, dir := NewBook(), t.TempDir()
	for i := range 30 {
		cmd := programCmd(dir, "busy", strconv.Itoa(i))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		wait := start(t, b, cmd)
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatal(err)
		}
	}
	var x unix.Statx_t
	must0(b.Statx(unix.AT_FDCWD, dir+"/file0", 0, unix.STATX_BASIC_STATS, &x))
	if x.Uid != 5 {
		t.Errorf("the file is %d's", x.Uid)
	}
}

func busyProgram(args []string) {
	name := "file" + args[0]
	touch(name, 0o644)
	must0(unix.Chown(name, 5, 5))
	fmt.Println("ready")
	for i := 0; ; i++ {
		var s unix.Stat_t
		must0(unix.Stat(name, &s))
		must0(unix.Chown(name, 5, 5))
		dev := name + "dev" + strconv.Itoa(i)
		must0(unix.Mknod(dev, unix.S_IFCHR|0o644, 0))
		must0(unix.Unlink(dev))
	}
}

// Many processes and threads at once, each with files of its own, and all with one.
func TestManyAtOnce(t *testing.T) {
	b, dir := NewBook(), t.TempDir()
	touch(filepath.Join(dir, "shared"), 0o644)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if out := run(t, b, dir, "many", strconv.Itoa(i)); out != "" {
				t.Error(out)
			}
		})
	}
	all.Wait()
	var x unix.Statx_t
	must0(b.Statx(unix.AT_FDCWD, dir+"/shared", 0, unix.STATX_BASIC_STATS, &x))
	if x.Uid != x.Gid || x.Uid == 0 {
		t.Errorf("a file that is given to u:u alone is %d:%d's", x.Uid, x.Gid)
	}
}

func manyProgram(args []string) {
	var all sync.WaitGroup
	for j := range 4 {
		all.Go(func() {
			id := 1 + 10*must1(strconv.Atoi(args[0])) + j
			for i := range 100 {
				name := fmt.Sprintf("f%d-%d", id, i)
				touch(name, 0o644)
				must0(unix.Chown(name, id, i))
				must0(unix.Chown("shared", id, id))
				var s unix.Stat_t
				must0(unix.Stat(name, &s))
				if int(s.Uid) != id || int(s.Gid) != i {
					fmt.Println(name, "is", s.Uid, s.Gid)
				}
				must0(unix.Stat("shared", &s))
				if s.Uid != s.Gid {
					fmt.Println("shared is", s.Uid, s.Gid)
				}
				if i%3 == 0 {
					must0(unix.Unlink(name))
				}
			}
		})
	}
	all.Wait()
}

// Calls with arguments of no sense, and memory that comes and goes, neither stop the server nor reach out of a chroot.
func TestFuzz(t *testing.T) {
	b, dir := NewBook(), t.TempDir()
	must0(os.Mkdir(filepath.Join(dir, "root"), 0o755))
	touch(filepath.Join(dir, "outside"), 0o4755)
	run(t, b, dir, "fuzz", "1")
	var x unix.Statx_t
	must0(b.Statx(unix.AT_FDCWD, filepath.Join(dir, "outside"), 0, unix.STATX_BASIC_STATS, &x))
	if x.Uid != 0 || x.Mode&0o7777 != 0o4755 {
		t.Errorf("a file outside is %d's, of mode %o", x.Uid, x.Mode)
	}
	// And it serves on.
	if out := run(t, b, filepath.Join(dir, "root"), "many", "0"); out != "" && !strings.Contains(out, "shared") {
		t.Error(out)
	}
}

func fuzzProgram(args []string) {
	must0(unix.Chroot("root"))
	must0(unix.Chdir("/"))
	touch("shared", 0o644)
	touch("file", 0o644)
	must0(unix.Mkdir("dir", 0o755))
	must0(unix.Symlink("../../../outside", "dir/link"))
	r := rand.New(rand.NewPCG(15, uint64(must1(strconv.Atoi(args[0])))))
	page := os.Getpagesize()
	m := must1(unix.Mmap(-1, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE))
	names := []string{"file", "/file", "dir/link", "../../outside", "dir/../../outside", "/proc/self/root/outside",
		"", "/dev/fd/3", "nothing", strings.Repeat("dir/../", 600)}
	stop := make(chan bool)
	go func() { // the memory changes while it is read
		runtime.LockOSThread()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				copy(m[page-3:], names[i%6]+"\x00")
				prot := []int{unix.PROT_NONE, unix.PROT_READ | unix.PROT_WRITE}[i%2]
				must0(raw(unix.SYS_MPROTECT, uintptr(unsafe.Pointer(&m[2*page])), uintptr(page), uintptr(prot)))
				runtime.Gosched()
			}
		}
	}()
	for range 20000 {
		c := native[r.IntN(len(native))]
		var a [6]uintptr
		for i := range a {
			switch r.IntN(6) {
			case 0:
				a[i] = uintptr(r.Uint64())
			case 1:
				a[i] = uintptr(r.IntN(8))
			case 2:
				a[i] = uintptr(unsafe.Pointer(&m[page-3]))
			case 3:
				a[i] = uintptr(unsafe.Pointer(&m[2*page-r.IntN(200)]))
			case 4:
				cwd := unix.AT_FDCWD
				a[i] = uintptr(cwd)
			case 5:
				a[i] = []uintptr{noFollow, emptyPath, noFollow | emptyPath, unix.STATX_BASIC_STATS,
					unix.S_IFCHR | 0o777, unix.PR_SET_KEEPCAPS}[r.IntN(6)]
			}
		}
		if c.nr == unix.SYS_PRCTL {
			a[0] = unix.PR_SET_KEEPCAPS
		}
		if c.nr == unix.SYS_MKNODAT || c.nr == 133 { // amd64's mknod; a fifo's open would wait
			a[2] = unix.S_IFCHR | 0o777
			if c.nr == 133 {
				a[1] = a[2]
			}
		}
		if c.nr == unix.SYS_SETGROUPS {
			a[0] %= 1000
		}
		_, _, _ = unix.RawSyscall6(uintptr(c.nr), a[0], a[1], a[2], a[3], a[4], a[5])
	}
	stop <- true
}

// What a path means may change at any moment: no file outside a chroot is told about or given away.
func TestEscape(t *testing.T) {
	b, dir := NewBook(), t.TempDir()
	must0(os.MkdirAll(filepath.Join(dir, "root/etc"), 0o755))
	must0(os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	touch(filepath.Join(dir, "etc/shadow"), 0o4755)
	touch(filepath.Join(dir, "root/etc/shadow"), 0o4755)
	must0(b.Chown(unix.AT_FDCWD, filepath.Join(dir, "etc/shadow"), 0, 123, 123))
	if out := run(t, b, dir, "escape"); out != "" {
		t.Error(out)
	}
	var x unix.Statx_t
	must0(b.Statx(unix.AT_FDCWD, filepath.Join(dir, "etc/shadow"), 0, unix.STATX_BASIC_STATS, &x))
	if x.Uid != 123 || x.Gid != 123 {
		t.Errorf("the file outside is %d:%d's", x.Uid, x.Gid)
	}
}

func escapeProgram([]string) {
	must0(unix.Chroot("root"))
	must0(unix.Chdir("/"))
	must0(unix.Mkdir("a", 0o755))
	must0(unix.Mkdir("a/b", 0o755))
	must0(unix.Symlink("/etc", "s1"))
	must0(unix.Symlink("../../etc", "a/b/s"))
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = unix.Rename("a/b", "moved") // while somebody is in it, .. leads elsewhere
				_ = unix.Rename("moved", "a/b")
				_ = unix.Renameat2(unix.AT_FDCWD, "s1", unix.AT_FDCWD, "a/b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	for i := range 3000 {
		for _, name := range []string{"a/b/../../../etc/shadow", "a/b/s/shadow", "s1/shadow", "/../etc/shadow"} {
			var s unix.Stat_t
			if unix.Stat(name, &s) == nil && s.Uid == 123 {
				fmt.Println("told of a file outside:", name)
				os.Exit(0)
			}
			if i%8 == 0 {
				_ = unix.Chown(name, 7, 7)
			}
		}
	}
	close(stop)
	<-done
}

// Links of /proc other than the task's own descriptors would lead to this process's program and directory.
func TestLinksOfProc(t *testing.T) {
	b, dir := NewBook(), t.TempDir()
	touch(filepath.Join(dir, "file"), 0o644)
	t.Chdir(t.TempDir())
	touch("file", 0o4755)
	const want = `program: ELOOP
working directory: ELOOP
another way there: ELOOP
device: ELOOP
descriptor: done
`
	if out := run(t, b, dir, "magic"); out != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
	var x unix.Statx_t
	must0(b.Statx(unix.AT_FDCWD, "file", 0, unix.STATX_BASIC_STATS, &x))
	if x.Uid != 0 || x.Mode&0o4000 == 0 {
		t.Errorf("the file here is %d's, with mode %o", x.Uid, x.Mode)
	}
	if list := must1(os.ReadDir(".")); len(list) != 1 {
		t.Errorf("made here: %v", list)
	}
	must0(b.Statx(unix.AT_FDCWD, filepath.Join(dir, "file"), 0, unix.STATX_BASIC_STATS, &x))
	if x.Uid != 5 {
		t.Errorf("the descriptor's file is %d's, want 5", x.Uid)
	}
}

func magicProgram([]string) {
	say("program", unix.Chown("/proc/self/exe", 5, 5))
	say("working directory", unix.Chown("/proc/self/cwd/file", 5, 5))
	must0(unix.Symlink("/proc/self/cwd", "way"))
	say("another way there", unix.Fchownat(unix.AT_FDCWD, "way/file", 5, 5, noFollow))
	say("device", unix.Mknod("/proc/thread-self/cwd/null", unix.S_IFCHR|0o600, 259))
	fd := must1(unix.Open("file", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	say("descriptor", unix.Chown(fmt.Sprintf("/proc/self/fd/%d", fd), 5, 5))
}

func TestFilterOfOldCalls(t *testing.T) {
	if programs["i386-old"] == nil {
		t.Skip("this machine runs no 32-bit programs")
	}
	out := run(t, NewBook(), t.TempDir(), "i386-old")
	if n := strings.Count(out, "old "); n != len(compatGone) || n != strings.Count(out, ": ENOSYS\n") {
		t.Errorf("not all of %d old calls are refused:\n%s", len(compatGone), out)
	}
}

// Nothing is left of a server whose processes are gone: no thread, no descriptor.
func TestNothingLeft(t *testing.T) {
	count := func() (n [2]int) {
		for i, dir := range []string{"/proc/self/fd", "/proc/self/task"} {
			n[i] = len(must1(os.ReadDir(dir)))
		}
		return n
	}
	dir := t.TempDir()
	for range 3 {
		run(t, NewBook(), dir, "fork", "1")
	}
	before := count()
	for range 20 {
		run(t, NewBook(), dir, "fork", "1")
	}
	time.Sleep(2 * tick)
	if after := count(); after[0] > before[0] || after[1] > before[1]+5 {
		t.Errorf("descriptors and threads: %v before, %v after", before, after)
	}
}

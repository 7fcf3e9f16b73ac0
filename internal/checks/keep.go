package checks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofrs/flock"
)

// The files of a check's directory.
const (
	consoleFile = "console.log"
	gdbFile     = "gdb.log"
	stdoutFile  = "stdout"
	stderrFile  = "stderr"
	outcomeFile = "check.json"

	recordingFile = "recording.kimg-recording"
)

// Keeper keeps what each check leaves in a directory of its own. That appears as a whole, when the check has ended.
type Keeper struct {
	dir   string
	names map[string]string // a check's name to its directory's
	lock  *flock.Flock      // of the directory itself: no file is left behind
}

// NewKeeper keeps the checks of these names below dir, which is made where it is missing. A directory of a check
// that is there and holds anything else than an earlier run left is refused. The caller calls Close.
func NewKeeper(dir string, names []string) (*Keeper, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("make the report's directory: %w", err)
	}
	k := &Keeper{dir: dir, names: directories(names), lock: flock.New(dir, flock.SetFlag(os.O_RDONLY))}
	ok, err := k.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the report's directory: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("write reports to %s: another kimg does so now", dir)
	}
	for _, name := range k.names {
		if err := k.guard(name); err != nil {
			return nil, errors.Join(err, k.lock.Unlock())
		}
	}
	return k, nil
}

// Close lets another kimg have the directory.
func (k *Keeper) Close() error { return k.lock.Unlock() }

// guard refuses to replace what kimg did not make, and removes what a kimg that was killed left.
func (k *Keeper) guard(name string) error {
	entries, err := os.ReadDir(filepath.Join(k.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("write a report: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case consoleFile, gdbFile, stdoutFile, stderrFile, outcomeFile, recordingFile:
		default:
			return fmt.Errorf("write a report to %s: %s is there and kimg did not make it",
				filepath.Join(k.dir, name), e.Name())
		}
	}
	return errors.Join(os.RemoveAll(k.fresh(name)), os.RemoveAll(k.old(name)))
}

func (k *Keeper) fresh(name string) string { return filepath.Join(k.dir, "."+name+".kimg-new") }
func (k *Keeper) old(name string) string   { return filepath.Join(k.dir, "."+name+".kimg-old") }

// begin makes a check's directory, beside where it will be.
func (k *Keeper) begin(c Check) (*kept, error) {
	name, ok := k.names[c.Name]
	if !ok {
		return nil, fmt.Errorf("keep check %s: it was not planned", c.Name)
	}
	r := &kept{k: k, name: name, dir: k.fresh(name)}
	if err := os.Mkdir(r.dir, 0o777); err != nil {
		return nil, fmt.Errorf("write a report: %w", err)
	}
	r.console = r.open(consoleFile)
	if c.Run != "" {
		r.stdout, r.stderr = r.open(stdoutFile), r.open(stderrFile)
	}
	if err := r.err(); err != nil {
		return nil, errors.Join(err, r.drop())
	}
	return r, nil
}

type kept struct {
	k                       *Keeper
	name, dir               string
	console, stdout, stderr *keptFile // nil: there is none
	files                   []*keptFile
}

func (r *kept) open(name string) *keptFile {
	f := &keptFile{}
	f.file, f.err = os.OpenFile(filepath.Join(r.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	r.files = append(r.files, f)
	return f
}

// also writes what goes to the streams to the files too.
func (r *kept) also(s Streams) Streams {
	add := func(w io.Writer, f *keptFile) {
		if f != nil {
			w.(*both).b = f
		}
	}
	add(s.Console, r.console)
	add(s.Stdout, r.stdout)
	add(s.Stderr, r.stderr)
	return s
}

// err is the first error of the files.
func (r *kept) err() error {
	for _, f := range r.files {
		if f.err != nil {
			return fmt.Errorf("write a report: %w", f.err)
		}
	}
	return nil
}

func (r *kept) drop() error {
	for _, f := range r.files {
		f.close()
	}
	return os.RemoveAll(r.dir)
}

// finish writes the rest and moves the directory to where it belongs.
func (r *kept) finish(ctx context.Context, o *Outcome, s Seen) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep check %s: %w", o.Name, errors.Join(err, r.drop()))
		}
	}()
	if o.Break != "" {
		if _, err := io.WriteString(r.open(gdbFile), s.GDBLog); err != nil {
			return err
		}
	}
	if err := r.recording(ctx, o, s.Recording); err != nil {
		return err
	}
	o.Directory = r.name
	b, err := encode(o)
	if err != nil {
		return err
	}
	if _, err := r.open(outcomeFile).Write(b); err != nil {
		return err
	}
	for _, f := range r.files {
		f.close()
	}
	if err := r.err(); err != nil {
		return err
	}
	final := filepath.Join(r.k.dir, r.name)
	if err := os.Rename(final, r.k.old(r.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(r.dir, final); err != nil {
		return err
	}
	return os.RemoveAll(r.k.old(r.name))
}

// maxKept bounds a file of a report, in bytes: a guest may say anything for hours.
const maxKept = 64 << 20

// keptFile is a file of a guest's output. An error waits until the check's end: it must not disturb the guest.
type keptFile struct {
	mu   sync.Mutex
	file *os.File
	size int64
	err  error
	done bool
}

func (f *keptFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil || f.done || f.size > maxKept {
		return len(p), nil
	}
	if f.size += int64(len(p)); f.size > maxKept {
		_, f.err = io.WriteString(f.file, "\n[kimg keeps no more than this]\n")
		return len(p), nil
	}
	_, f.err = f.file.Write(p)
	return len(p), nil
}

func (f *keptFile) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done || f.file == nil {
		return
	}
	f.done = true
	f.err = cmp.Or(f.err, errors.Join(f.file.Sync(), f.file.Close()))
}

// maxDirectory bounds a directory's name, in bytes; NAME_MAX is 255, and the name is longer while it is made.
const maxDirectory = 100

// directories gives each check the name of a directory that every file system accepts: letters, digits, dots,
// dashes and underscores. No two are the same, not even without regard to case.
func directories(names []string) map[string]string {
	taken, all := map[string]bool{}, map[string]string{}
	for _, name := range names {
		base := directory(name)
		dir := base
		for n := 2; taken[strings.ToLower(dir)]; n++ {
			dir = fmt.Sprintf("%s-%d", base, n)
		}
		taken[strings.ToLower(dir)] = true
		all[name] = dir
	}
	return all
}

func directory(name string) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_':
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= maxDirectory {
			break
		}
	}
	return cmp.Or(strings.Trim(b.String(), ".-"), "check")
}

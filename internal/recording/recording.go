// Package recording keeps the recordings of guests: runs that QEMU can replay instruction for instruction. It has
// their files and what they say, and no QEMU: begin with [Create], [Open] and [List]. [Recording.Export] and [Import]
// carry one to another machine.
//
// A recording is a directory of its own below the out directory, for its owner alone: its log has every key, packet
// and random byte that went into the guest. It has the kernel and the disk that were recorded, too, as links, so that
// a later build takes nothing from it.
package recording

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
	"github.com/kimg/kimg/internal/units"
)

// Home is where recordings are, below an out directory.
const Home = "recordings"

// The files of a recording. Tape is the directory of those that QEMU writes while it records.
const (
	recordFile = "record.json"
	lockFile   = ".lock"
	Tape       = "tape"
	Log        = "log"           // what came from outside
	Overlay    = "overlay.qcow2" // the disk, and its state when the recording began
	Script     = "script.img"    // the second disk, with the command
	Console    = "console.log"
	Command    = "command"      // what came of the command, in frames
	Points     = "points.qcow2" // a copy of Overlay with more states, for going back; it can be made again
)

// format is the version of record.json.
const format = 1

// How a recording ended.
const (
	Running     = ""            // it has not, or what recorded was killed
	Off         = "poweroff"    // the guest shut down
	Panic       = "panic"       // its kernel panicked
	Limit       = "limit"       // it had lasted too long, or had grown too large
	Interrupted = "interrupted" // by the user
	Killed      = "killed"      // kimg or QEMU was; the log ends in the middle
)

// Recording is one. What is exported is in record.json.
type Recording struct {
	Format  int       `json:"format"`
	Made    time.Time `json:"made"`
	Command []string  `json:"command"`
	Check   string    `json:"check,omitempty"` // the check that it was recorded for; empty: none

	// The guest's machine; it must be the same in a replay.
	Arch   string     `json:"arch"`
	Memory units.Size `json:"memory"`
	Shift  int        `json:"shift"`          // an instruction has 2^shift ns
	Append string     `json:"append"`         // the kernel's command line
	Card   string     `json:"card,omitempty"` // QEMU's name for the network card; empty: there is none
	NoHPET bool       `json:"no_hpet,omitempty"`
	QEMU   QEMU       `json:"qemu"`

	Parts map[string]Part `json:"parts"`           // by their names; only whole ones have a digest
	Marks []Mark          `json:"marks,omitempty"` // in their order
	End   End             `json:"end"`
	// Beside is a digest of the names and digests of what gdb reads besides, and of the lock; empty: an earlier kimg
	// noted none.
	Beside units.Digest `json:"beside,omitempty"`

	name, dir string
	unlock    func()
}

// QEMU is the one that a recording is bound to.
type QEMU struct {
	Version string       `json:"version"`
	Digest  units.Digest `json:"digest"` // of its program and its ROMs
}

// Mark says how much of the console had been written about when an instruction ran.
type Mark struct {
	Icount uint64 `json:"icount"`
	Lines  int    `json:"lines"` // that had ended
}

// MaxMarks is how many a recording has at most.
const MaxMarks = 1000

// Mark notes how much of the console there is. Of those with as many lines the first and the last are kept.
func (r *Recording) Mark(m Mark) {
	switch n := len(r.Marks); {
	case n >= 2 && r.Marks[n-1].Lines == m.Lines && r.Marks[n-2].Lines == m.Lines:
		r.Marks[n-1] = m
	case n < MaxMarks:
		r.Marks = append(r.Marks, m)
	}
}

// Wrote are instructions before and after which a line of the console, 1 is the first, was written; ok is false where
// that is not known.
func (r *Recording) Wrote(line int) (after, before uint64, ok bool) {
	for _, m := range r.Marks {
		if m.Lines >= line {
			return after, m.Icount, true
		}
		after = m.Icount
	}
	return 0, 0, false
}

// Part is a file that a replay reads.
type Part struct {
	Size   int64        `json:"size"`
	MTime  time.Time    `json:"mtime"` // when the recording began
	Digest units.Digest `json:"digest,omitempty"`
}

// End is how a recording ended.
type End struct {
	How    string `json:"how"`
	Icount uint64 `json:"icount"` // instructions, some thousand more than a replay has; 0: not counted
	// Replayed is the last instruction that every replay has come to; 0: there was none. QEMU lets the processor run on
	// for a moment when it has noted the end, and the log does not have that.
	Replayed uint64       `json:"replayed,omitempty"`
	Status   *int         `json:"status,omitempty"` // the command's
	Console  units.Digest `json:"console,omitempty"`
}

// CheckName is an error for what cannot be a recording's name.
func CheckName(name string) error { return reading.CheckName(name, 120) }

// Error says what keeps a recording from being made or used. What can be done is its hint.
type Error struct {
	Verb, Name, Reason, Help string
}

func (e *Error) Error() string { return fmt.Sprintf("%s recording %s: %s", e.Verb, e.Name, e.Reason) }

// Hint says what can be done.
func (e *Error) Hint() string { return e.Help }

// Name is the recording's.
func (r *Recording) Name() string { return r.name }

// Dir is its directory, absolute.
func (r *Recording) Dir() string { return r.dir }

// Pins is the directory of the lock whose image of tools recorded it; empty: it has none, as one of an earlier kimg.
func (r *Recording) Pins() string {
	if _, err := os.Lstat(r.Path(artifact.Lock)); err != nil {
		return ""
	}
	return r.dir
}

// Explained says whether kimg why can be asked about it.
func (r *Recording) Explained() bool {
	a, err := arch.Parse(r.Arch)
	return err == nil && a.Recorded.Why
}

// Path is where one of its files is.
func (r *Recording) Path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// links are the artifacts that a recording keeps; the image of an architecture comes first.
func links(a arch.Arch) []string {
	return []string{artifact.KernelImage(a), artifact.Disk, artifact.Vmlinux}
}

// inputs are all the files that a replay reads.
func inputs(a arch.Arch) []string {
	return append(links(a), filepath.Join(Tape, Log), filepath.Join(Tape, Overlay), filepath.Join(Tape, Script))
}

// Create makes the directory of a new recording of out's artifacts, and holds it until Close.
func Create(ctx context.Context, out, name string, r Recording) (_ *Recording, err error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("recording %w", err)
	}
	if out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	r.Format, r.name, r.dir = format, name, filepath.Join(out, Home, name)
	r.Parts = map[string]Part{}
	if err := r.claim("make", "kimg recording rm "+name+" removes it"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("make recording %s: %w", name, errors.Join(err, r.discard()))
		}
	}()
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.Path(Tape), 0o700); err != nil {
		return nil, err
	}
	for _, file := range links(a) {
		if err := keep(ctx, filepath.Join(out, file), r.Path(file)); err != nil {
			return nil, err
		}
	}
	if err := keepBeside(ctx, out, r.dir, beside...); err != nil {
		return nil, err
	}
	for _, file := range links(a) {
		info, err := os.Stat(r.Path(file))
		if err != nil {
			return nil, err
		}
		r.Parts[file] = Part{Size: info.Size(), MTime: info.ModTime().UTC()}
	}
	return &r, nil
}

// claim makes the recording's directory and holds it, unless there is one of that name. What was killed before it had
// its record.json makes way.
func (r *Recording) claim(verb, help string) error {
	if err := os.MkdirAll(filepath.Dir(r.dir), 0o700); err != nil {
		return fmt.Errorf("%s recording %s: %w", verb, r.name, err)
	}
	exists := &Error{verb, r.name, "there is one", help}
	err := os.Mkdir(r.dir, 0o700)
	there := errors.Is(err, fs.ErrExist)
	if err != nil && !there {
		return fmt.Errorf("%s recording %s: %w", verb, r.name, err)
	}
	if there && r.begun() {
		return exists
	}
	if err := r.hold(); err != nil {
		return exists // another kimg is just making it
	}
	if !there {
		return nil
	}
	if r.begun() { // meanwhile
		r.Close()
		return exists
	}
	entries, err := os.ReadDir(r.dir)
	for _, e := range entries {
		if e.Name() != lockFile {
			err = errors.Join(err, os.RemoveAll(r.Path(e.Name())))
		}
	}
	if err != nil {
		r.Close()
		return fmt.Errorf("%s recording %s: %w", verb, r.name, err)
	}
	return nil
}

// begun says whether there is a record.json, or anything in its place.
func (r *Recording) begun() bool {
	_, err := os.Lstat(r.Path(recordFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// leftAfter is for how long a directory without a record.json may be one that is just being made.
const leftAfter = time.Minute

// left says whether the recording is what a kill left before there was one, and removes it.
func (r *Recording) left() bool {
	info, err := os.Lstat(r.dir)
	if err != nil || time.Since(info.ModTime()) < leftAfter || r.begun() || r.hold() != nil {
		return false
	}
	if r.begun() {
		r.Close()
		return false
	}
	return r.discard() == nil
}

// hold locks the recording for this process.
func (r *Recording) hold() error {
	f, err := filelock.Try(r.Path(lockFile), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	r.unlock = func() { _ = f.Close() }
	return nil
}

// Use keeps the recording from being removed until done, together with others.
func (r *Recording) Use() (done func(), err error) {
	f, err := filelock.Share(r.Path(lockFile), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("use recording %s: %w", r.name, err)
	}
	return func() { _ = f.Close() }, nil
}

// Close lets others use the recording.
func (r *Recording) Close() {
	if r.unlock != nil {
		r.unlock()
		r.unlock = nil
	}
}

// Discard removes a recording that this process holds.
func (r *Recording) Discard() error { return r.discard() }

func (r *Recording) discard() error {
	err := os.RemoveAll(r.dir)
	r.Close()
	_ = os.Remove(filepath.Dir(r.dir)) // there may be others
	return err
}

// keep makes a file of the out directory one of the recording's: a link, for as long as builds replace files and do
// not write to them, or else a copy.
func keep(ctx context.Context, from, to string) error {
	err := os.Remove(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	return Copy(ctx, from, to)
}

// Copy copies a file with its holes; to must not be there.
func Copy(ctx context.Context, from, to string) (err error) {
	in, err := reading.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return sparse.CopyFile(ctx, out, in, info.Size())
}

// beside are the artifacts that are kept where there are any: gdb's scripts of the kernel, its modules, whose debug
// information names lines, and the lock, whose image of tools has the QEMU.
var beside = []string{artifact.GDBLoader, artifact.GDBScripts, artifact.ModulesDir, artifact.Lock}

// keepBeside keeps some of those.
func keepBeside(ctx context.Context, out, dir string, names ...string) error {
	for _, name := range names {
		from := filepath.Join(out, name)
		err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(out, path)
			if err != nil {
				return err
			}
			to := filepath.Join(dir, rel)
			switch {
			case e.IsDir():
				return os.MkdirAll(to, 0o700)
			case !e.Type().IsRegular():
				return nil
			}
			if name == artifact.ModulesDir { // which are many and large
				return keep(ctx, path, to)
			}
			if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return Copy(ctx, path, to)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Save writes record.json.
func (r *Recording) Save() error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = renameio.WriteFile(r.Path(recordFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write about recording %s: %w", r.name, err)
	}
	return nil
}

// Seal notes the digests of all that a replay reads, and of the console, after the end. Those that are known stay.
func (r *Recording) Seal(ctx context.Context) error {
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return err
	}
	if err := r.digest(ctx, inputs(a)); err != nil {
		return err
	}
	if r.Beside == "" {
		if r.Beside, err = r.digestBeside(ctx); err != nil {
			return err
		}
	}
	if r.End.Console, _, err = digestFile(ctx, r.Path(Tape, Console)); err != nil {
		return err
	}
	return r.Save()
}

// DigestLinks notes the digests of the artifacts.
func (r *Recording) DigestLinks(ctx context.Context) error {
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return err
	}
	if err := r.digest(ctx, links(a)); err != nil {
		return err
	}
	r.Beside, err = r.digestBeside(ctx)
	return err
}

// digestBeside is what Beside should be.
func (r *Recording) digestBeside(ctx context.Context) (units.Digest, error) {
	files := r.beside(beside...)
	slices.Sort(files)
	sums := make([]string, len(files))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		g.Go(func() error {
			digest, _, err := digestFile(ctx, r.Path(file))
			sums[i] = fmt.Sprintf("%s %s\n", digest, filepath.ToSlash(file))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	return units.DigestOf([]byte(strings.Join(sums, ""))), nil
}

func (r *Recording) digest(ctx context.Context, files []string) error {
	found := make([]Part, len(files))
	var g errgroup.Group
	for i, file := range files {
		found[i] = r.Parts[file]
		if found[i].Digest != "" {
			continue
		}
		g.Go(func() (err error) {
			if found[i].Digest, found[i].Size, err = digestFile(ctx, r.Path(file)); err != nil {
				return err
			}
			info, err := os.Stat(r.Path(file))
			if err != nil {
				return err
			}
			found[i].MTime = info.ModTime().UTC()
			if was := r.Parts[file].MTime; !was.IsZero() && !was.Equal(found[i].MTime) {
				return fmt.Errorf("%s was written to while the guest was recorded", file)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, file := range files {
		r.Parts[file] = found[i]
	}
	return nil
}

// Verify reads all that a replay reads, and compares it with what was recorded.
func (r *Recording) Verify(ctx context.Context) error {
	if len(r.Parts) == 0 {
		return &Error{"use", r.name, "it has nothing to replay", ""}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, file := range slices.Sorted(maps.Keys(r.Parts)) {
		part := r.Parts[file]
		g.Go(func() error {
			digest, size, err := digestFile(ctx, r.Path(file))
			switch {
			case err != nil:
				return &Error{"use", r.name, err.Error(), ""}
			case digest != part.Digest || size != part.Size:
				return r.changed(file)
			}
			return nil
		})
	}
	if r.Beside != "" {
		g.Go(func() error {
			digest, err := r.digestBeside(ctx)
			switch {
			case err != nil:
				return &Error{"use", r.name, err.Error(), ""}
			case digest != r.Beside:
				return &Error{"use", r.name,
					"gdb's scripts, the modules or the kimg.lock are not those that were recorded",
					"export it anew where it was recorded; --thin needs the same build in the out directory here"}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return CheckOverlay(r.name, r.Path(Tape, Overlay))
}

func (r *Recording) changed(file string) error {
	e := &Error{"use", r.name, fmt.Sprintf("%s is not the one that was recorded (sha256 %s)",
		file, r.Parts[file].Digest.Short()), ""}
	if file == artifact.Disk {
		e.Help = "kimg run --write has written to it; a replay would hang, so record anew"
	}
	return e
}

// Open opens a recording to be replayed. One whose kimg was killed is mended first, and ends at the kill.
func Open(ctx context.Context, out, name string) (*Recording, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("recording %w", err)
	}
	dir, err := filepath.Abs(filepath.Join(out, Home, name))
	if err != nil {
		return nil, err
	}
	r, err := read(name, dir)
	if err != nil {
		return nil, err
	}
	if r.End.How == Running {
		if err := r.mend(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// noneThere is the reason of an error where there is no recording of a name.
const noneThere = "there is none"

// maxRecord bounds record.json, in bytes.
const maxRecord = 1 << 20

func read(name, dir string) (*Recording, error) {
	b, err := reading.Small(filepath.Join(dir, recordFile), maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{"use", name, noneThere, "kimg recording ls lists them; kimg run --record " + name +
			" -- COMMAND makes one"}
	}
	if err != nil {
		return nil, fmt.Errorf("use recording %s: %w", name, err)
	}
	r, err := parse(b)
	if err != nil {
		return nil, &Error{"use", name, recordFile + ": " + err.Error(), ""}
	}
	r.name, r.dir = name, dir
	return r, nil
}

// parse reads a record.json, which may come from anybody.
func parse(b []byte) (*Recording, error) {
	r := &Recording{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	if r.Format != format {
		return nil, fmt.Errorf("it has format %d, and this kimg reads %d", r.Format, format)
	}
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return nil, err
	}
	if r.Memory < 1<<20 || r.Memory > 1<<40 || r.Shift < 0 || r.Shift > 10 || len(r.Append) >= a.Cmdline {
		return nil, errors.New("no guest has such a machine")
	}
	if !slices.Contains([]string{"", "e1000", "virtio-net-pci"}, r.Card) {
		return nil, fmt.Errorf("no guest has a card %q", r.Card)
	}
	for file := range r.Parts {
		if !slices.Contains(inputs(a), file) {
			return nil, fmt.Errorf("a recording has no part %q", file)
		}
	}
	return r, nil
}

// Remove removes a recording that nobody is making.
func Remove(out, name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("recording %w", err)
	}
	dir, err := filepath.Abs(filepath.Join(out, Home, name))
	if err != nil {
		return err
	}
	r := &Recording{name: name, dir: dir}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return &Error{"remove", name, noneThere, "kimg recording ls lists them"}
	}
	if err := r.hold(); errors.Is(err, filelock.ErrHeld) {
		return &Error{"remove", name, "it is being made or looked at", "end the kimg that uses it"}
	} else if err != nil {
		return fmt.Errorf("remove recording %s: %w", name, err)
	}
	if err := r.discard(); err != nil {
		return fmt.Errorf("remove recording %s: %w", name, err)
	}
	return nil
}

// MakeWay removes the recording of that name that an earlier run of a check has left. One that no check made stays,
// and is an error.
func MakeWay(out, name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("recording %w", err)
	}
	r, err := read(name, filepath.Join(out, Home, name))
	var none *Error
	switch {
	case errors.As(err, &none) && none.Reason == noneThere:
		return nil
	case err != nil:
		return err
	case r.Check == "":
		return &Error{"make", name, "there is one, and no check made it", "kimg recording rm " + name + " removes it"}
	}
	return Remove(out, name)
}

// Listed is a recording, or why it cannot be read.
type Listed struct {
	Name string
	*Recording
	Busy bool // it is being made
	Size int64
	Err  error
}

// List are those of an out directory, by name.
func List(out string) ([]Listed, error) {
	entries, err := os.ReadDir(filepath.Join(out, Home))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list recordings: %w", err)
	}
	var list []Listed
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil {
			continue
		}
		dir, err := filepath.Abs(filepath.Join(out, Home, e.Name()))
		if err != nil {
			return nil, err
		}
		if (&Recording{name: e.Name(), dir: dir}).left() {
			continue
		}
		l := Listed{Name: e.Name()}
		l.Recording, l.Err = read(e.Name(), dir)
		if l.Err == nil {
			l.Busy = l.End.How == Running && l.held()
		}
		l.Size = sizeOf(filepath.Join(dir, Tape))
		if info, err := os.Stat(filepath.Join(dir, Points)); err == nil {
			l.Size += info.Size()
		}
		list = append(list, l)
	}
	return list, nil
}

// held says whether another process holds the recording.
func (r *Recording) held() bool {
	f, err := filelock.Try(r.Path(lockFile), os.O_RDONLY)
	if err == nil {
		_ = f.Close()
	}
	return errors.Is(err, filelock.ErrHeld)
}

func sizeOf(dir string) (size int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
	}
	return size
}

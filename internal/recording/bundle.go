package recording

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
)

// Export writes the recording as one file, a tar that zstd has compressed: record.json first, then the parts,
// gdb's scripts and the lock. With thin the artifacts and the scripts are left out, for who has the same build.
func (r *Recording) Export(ctx context.Context, to io.Writer, thin bool) error {
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return err
	}
	zw, err := zstd.NewWriter(to)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zw)
	files := append(slices.Sorted(maps.Keys(r.Parts)), filepath.Join(Tape, Console))
	if thin {
		files = slices.DeleteFunc(files, func(file string) bool { return slices.Contains(links(a), file) })
		files = append(files, r.beside(artifact.Lock)...)
	} else {
		files = append(files, r.beside(beside...)...)
	}
	for _, file := range append([]string{recordFile}, files...) {
		if err = r.add(ctx, tw, file); err != nil {
			break
		}
	}
	if err = errors.Join(err, tw.Close(), zw.Close()); err != nil {
		return fmt.Errorf("export recording %s: %w", r.name, err)
	}
	return nil
}

// beside are the files that are there of some that are copied.
func (r *Recording) beside(names ...string) (list []string) {
	for _, name := range names {
		_ = filepath.WalkDir(r.Path(name), func(path string, e fs.DirEntry, err error) error {
			if rel, bad := filepath.Rel(r.dir, path); err == nil && bad == nil && e.Type().IsRegular() {
				list = append(list, rel)
			}
			return nil
		})
	}
	return list
}

func (r *Recording) add(ctx context.Context, tw *tar.Writer, file string) error {
	f, err := reading.Open(r.Path(file))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: filepath.ToSlash(file), Mode: 0o600, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, reading.Until(ctx, io.LimitReader(f, info.Size())))
	return err
}

// The bounds of what is imported besides the parts, whose sizes record.json has: of a file in bytes, and of files.
const (
	maxImported = 256 << 20
	maxFiles    = 20000 // a distribution has 5,000 modules
	maxPart     = 1 << 40
)

// Import makes a recording of out from what Export wrote. Artifacts that are not in it are taken from out, where
// they are the ones that were recorded. Everything is compared with what record.json says; nothing stays of a file
// that is not as it should be. Who wrote the file can say what the recording shows, and no more: its disk is looked
// at, its scripts run where gdb does, in a container, and its lock can only name packages of the archive for that
// container.
func Import(ctx context.Context, out, name string, from io.Reader) (_ *Recording, err error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("recording %w", err)
	}
	if out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	dir := filepath.Join(out, Home, name)
	_, noOut := os.Stat(out)
	r := &Recording{name: name, dir: dir}
	if err := r.claim("import", "kimg recording rm "+name+" removes it; --as takes another name"); err != nil {
		return nil, err
	}
	defer r.Close()
	made, err := r.unpack(ctx, from)
	if err != nil && ctx.Err() == nil {
		err = damaged(name, err)
	}
	if err == nil {
		err = made.complete(ctx, out)
	}
	if err == nil {
		err = made.Verify(ctx)
	}
	if err == nil {
		err = made.Save()
	}
	if err != nil {
		_ = r.discard()
		if errors.Is(noOut, fs.ErrNotExist) {
			_ = os.Remove(out)
		}
		var own *Error
		if errors.As(err, &own) {
			own.Verb = "import"
			return nil, own
		}
		return nil, fmt.Errorf("import recording %s: %w", name, err)
	}
	return made, nil
}

// damaged says what an error of unpacking means, where it is the file's.
func damaged(name string, err error) error {
	var own *Error
	var here *fs.PathError // such as a full disk
	if errors.As(err, &own) || errors.As(err, &here) {
		return err
	}
	reason := "the file is damaged, or no recording of kimg's: " + err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		reason = "the file is cut short"
	}
	return &Error{"import", name, reason, "copy it again, or have it exported again"}
}

// notInNames matches what the name of an exported file has that a recording's may not.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// OpenFile opens what Export wrote, as a recording of out: it is imported, unless it has been, under the file's name
// and a part of its digest.
func OpenFile(ctx context.Context, out, file string) (r *Recording, imported bool, err error) {
	digest, _, err := digestFile(ctx, file)
	if err != nil {
		return nil, false, fmt.Errorf("use recording %s: %w", file, err)
	}
	base, _, _ := strings.Cut(filepath.Base(file), ".")
	base = strings.Trim(notInNames.ReplaceAllString(base, "-"), "-")
	name := cmp.Or(base[:min(len(base), maxBase)], "file") + "-" + digest.Short()
	r, err = Open(ctx, out, name)
	var none *Error
	if !errors.As(err, &none) || none.Reason != noneThere {
		return r, false, err
	}
	from, err := reading.Open(file)
	if err != nil {
		return nil, false, fmt.Errorf("use recording %s: %w", file, err)
	}
	defer from.Close()
	r, err = Import(ctx, out, name, from)
	return r, err == nil, err
}

// maxBase bounds what a recording's name has of a file's, in bytes.
const maxBase = 80

// unpack lays the files, in a directory that holds them.
func (r *Recording) unpack(ctx context.Context, from io.Reader) (*Recording, error) {
	zr, err := zstd.NewReader(from, zstd.WithDecoderMaxMemory(maxImported))
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	tr := tar.NewReader(reading.Until(ctx, zr))
	head, err := tr.Next()
	if err != nil {
		return nil, err
	}
	if head.Name != recordFile || head.Size > maxRecord {
		return nil, errors.New("it does not begin with " + recordFile)
	}
	text, err := io.ReadAll(io.LimitReader(tr, maxRecord))
	if err != nil {
		return nil, err
	}
	made, err := parse(text)
	if err != nil {
		return nil, err
	}
	made.name, made.dir = r.name, r.dir
	if made.End.How == Running {
		return nil, errors.New("it was not whole when it was exported")
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for range maxFiles {
		head, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return made, nil
		}
		if err != nil {
			return nil, err
		}
		if err := made.lay(root, head, tr); err != nil {
			return nil, fmt.Errorf("%.200q: %w", head.Name, err)
		}
	}
	return nil, fmt.Errorf("it has more than %d files", maxFiles)
}

// lay writes one file that a recording may have.
func (r *Recording) lay(root *os.Root, head *tar.Header, from io.Reader) error {
	name, most := path.Clean(head.Name), int64(maxImported)
	part, is := r.Parts[name]
	switch {
	case head.Typeflag != tar.TypeReg || name != head.Name || !filepath.IsLocal(name):
		return errors.New("a recording has no such file")
	case is:
		if most = part.Size; most > maxPart || head.Size != most {
			return fmt.Errorf("it has %d bytes, and %s says %d", head.Size, recordFile, part.Size)
		}
	case name == Tape+"/"+Console, name == artifact.GDBLoader, name == artifact.Lock,
		strings.HasPrefix(name, artifact.GDBScripts+"/"), strings.HasPrefix(name, artifact.ModulesDir+"/"):
		if head.Size > most {
			return fmt.Errorf("it has more than %d bytes", most)
		}
	default:
		return errors.New("a recording has no such file")
	}
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = sparse.Copy(f, io.LimitReader(from, most))
	return errors.Join(err, f.Close())
}

// complete takes what a thin file has not from the out directory, where it is the same.
func (r *Recording) complete(ctx context.Context, out string) error {
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return err
	}
	for _, file := range inputs(a) {
		part, ok := r.Parts[file]
		if !ok {
			return &Error{"import", r.name, "it has no " + file, ""}
		}
		if _, err := os.Lstat(r.Path(file)); err == nil {
			continue
		}
		digest, _, err := digestFile(ctx, filepath.Join(out, file))
		if err != nil || digest != part.Digest {
			lacks := fmt.Sprintf("it needs the %s that was recorded (sha256 %s), and %s has another or none",
				file, part.Digest.Short(), out)
			return &Error{"import", r.name, lacks, "build it from the same kimg.lock, or export it without --thin"}
		}
		if err := keep(ctx, filepath.Join(out, file), r.Path(file)); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(r.Path(artifact.GDBLoader)); errors.Is(err, fs.ErrNotExist) {
		return keepBeside(ctx, out, r.dir, artifact.GDBLoader, artifact.GDBScripts, artifact.ModulesDir)
	}
	return nil
}

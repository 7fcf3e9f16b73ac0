package outdir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// Fault is one thing in an out directory that is not as the build left it.
type Fault struct {
	Path string `json:"path"` // relative to the directory, with slashes
	What string `json:"what"` // for users
}

// Verified is what was found in an out directory.
type Verified struct {
	Dir     string  `json:"dir"`
	Checked int     `json:"checked"` // artifacts, and the files that tell of them
	Faults  []Fault `json:"faults"`

	SignedBy []Signer `json:"signed_by,omitempty"` // whose key was given, and signed it
	Notes    []string `json:"notes,omitempty"`     // what was not checked, and why
}

func (v *Verified) fault(path, format string, args ...any) {
	v.Faults = append(v.Faults, Fault{path, fmt.Sprintf(format, args...)})
}

// Verify reads every artifact in dir, the lock and the manifest, and compares them: the manifest has each
// artifact's size, mode and sha256 and the lock's, and both have their own. It reports all faults and not only the
// first. Without keys it shows what was damaged or edited by mistake; with keys, one of which must have signed the
// build, also what somebody changed on purpose.
//
// A directory without a manifest is fs.ErrNotExist. A manifest that cannot be read, or
// is of an unknown version, is the one fault: nothing can be compared with it.
func Verify(ctx context.Context, dir string, keys []*attest.PublicKey) (*Verified, error) {
	v := &Verified{Dir: dir, Faults: []Fault{}}
	info, err := os.Lstat(filepath.Join(dir, artifact.Manifest))
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v.Checked++
	if !info.Mode().IsRegular() { // a link's file may be anybody's
		v.fault(artifact.Manifest, "it is not a plain file but %s", reading.Kind(info.Mode()))
		return v, nil
	}
	m, err := Read(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		v.fault(artifact.Manifest, "%s", reason(err))
		return v, nil
	case err != nil:
		v.fault(artifact.Manifest, "it is damaged: %v", err)
		return v, nil
	}
	d, err := m.digest()
	switch {
	case err != nil:
		return nil, err
	case m.Version != manifestVersion:
		v.fault(artifact.Manifest, "it is damaged, or another kimg made it: its version is %d, and this kimg reads %d",
			m.Version, manifestVersion)
		return v, nil
	case m.Digest == "":
		v.fault(artifact.Manifest, "it is damaged, or an older kimg made it: it does not have its digest; "+
			"a build writes it anew")
		return v, nil
	case d != m.Digest:
		v.fault(artifact.Manifest, "what it says of the build was changed: its sha256 is %s, and it has %.64s",
			d, m.Digest)
	}
	root, err := os.OpenRoot(dir) // a link in the directory leads nowhere else
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	defer root.Close()
	lock := v.lock(root, m)
	for _, a := range m.Build.Artifacts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v.Checked++
		v.artifact(ctx, root, a)
	}
	v.documents(ctx, root, m, lock, keys)
	return v, nil
}

// lock holds the lock against its own digest and the manifest's; nil when it cannot be read.
func (v *Verified) lock(root *os.Root, m *Manifest) *spec.Lock {
	v.Checked++
	b, ok := v.read(root, artifact.Lock, spec.MaxLock)
	if !ok {
		return nil
	}
	l, err := spec.ParseLock(b)
	if err != nil {
		v.fault(artifact.Lock, "%v", err)
	}
	if d := units.DigestOf(b); m.Build.Lock != d {
		v.fault(artifact.Lock, "it is not the lock of this build: its sha256 is %s, and the manifest has %.64s",
			d, cmp.Or(m.Build.Lock, "none"))
	}
	return l
}

func (v *Verified) plain(root *os.Root, path string) (fs.FileInfo, bool) {
	info, err := root.Lstat(filepath.FromSlash(path))
	if err != nil {
		v.fault(path, "%s", reason(err))
		return nil, false
	}
	if !info.Mode().IsRegular() {
		v.fault(path, "it is not a plain file but %s", reading.Kind(info.Mode()))
		return nil, false
	}
	return info, true
}

func (v *Verified) read(root *os.Root, path string, limit int64) ([]byte, bool) {
	info, ok := v.plain(root, path)
	if !ok {
		return nil, false
	}
	if info.Size() > limit {
		v.fault(path, "it has %d bytes: at most %d are read", info.Size(), limit)
		return nil, false
	}
	b, err := root.ReadFile(path)
	if err != nil {
		v.fault(path, "%s", reason(err))
		return nil, false
	}
	return b, true
}

func (v *Verified) artifact(ctx context.Context, root *os.Root, a Artifact) {
	name := filepath.FromSlash(a.Path)
	info, ok := v.plain(root, a.Path)
	if !ok {
		return
	}
	// The umask of who built may have taken from the group and the others; nobody may have more.
	if mode := info.Mode().Perm(); mode&^a.Mode != 0 || mode&0o700 != a.Mode&0o700 {
		v.fault(a.Path, "its mode is %04o, and was %04o", mode, a.Mode)
	}
	if info.Size() != a.Size {
		v.fault(a.Path, "it has %d bytes, and had %d", info.Size(), a.Size)
		return
	}
	f, err := root.Open(name)
	if err != nil {
		v.fault(a.Path, "%s", reason(err))
		return
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, reading.Until(ctx, f)); err != nil {
		v.fault(a.Path, "%s", reason(err))
		return
	}
	if d := units.DigestSum(h); d != a.SHA256 {
		v.fault(a.Path, "its content was changed: its sha256 is %s, and was %s", d, a.SHA256)
	}
}

func reason(err error) string {
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is not there"
	case errors.As(err, &path):
		return "it cannot be read: " + path.Err.Error()
	}
	return "it cannot be read: " + err.Error()
}

package toolchain

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

//go:embed Dockerfile.builder
var dockerfile []byte

//go:embed preload/hugepages.c
var hugepages []byte

//go:embed locks
var shipped embed.FS

// Lock names every package of one image exactly.
type Lock struct {
	Target    Target           `json:"target" yaml:"target"`
	Engine    string           `json:"engine,omitempty" yaml:"engine,omitempty"` // its architecture; "": the default
	Suite     suite.Suite      `json:"suite" yaml:"suite"`
	Date      time.Time        `json:"date" yaml:"date"`           // of the InRelease; dates the base too
	InRelease units.Digest     `json:"inrelease" yaml:"inrelease"` // of the signed file that the packages are from
	Base      []archive.Locked `json:"base" yaml:"base"`           // laid as a tar, in this order
	Packages  []archive.Locked `json:"packages" yaml:"packages"`   // installed by Dockerfile.builder
}

// Arch is the architecture of the engines that the image is for.
func (l *Lock) Arch() arch.Arch {
	a, _ := arch.Parse(l.Engine)
	return a.Or()
}

// LockPath is where the target's shipped lock is in kimg's own source, for engines of an architecture.
func LockPath(t Target, engine arch.Arch) string { return "builder/toolchain/" + lockFile(t, engine) }

func lockFile(t Target, engine arch.Arch) string {
	if engine == arch.Default {
		return path.Join("locks", string(t)+".yaml")
	}
	return path.Join("locks", engine.Name, string(t)+".yaml")
}

// Load returns the lock of a target that ships with kimg, for engines of an architecture; fs.ErrNotExist: there is
// none.
func Load(t Target, engine arch.Arch) (*Lock, error) {
	b, err := shipped.ReadFile(lockFile(t, engine))
	if err != nil {
		return nil, fmt.Errorf("load toolchain lock %s: %w", t, err)
	}
	l, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("load toolchain lock %s: %w", t, err)
	}
	return l, nil
}

// Parse reads what Encode writes. It refuses unknown fields, an unknown target
// or suite, and packages without a digest.
func Parse(b []byte) (*Lock, error) {
	l := &Lock{}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(l); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse toolchain lock: %w", err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("parse toolchain lock: %w", err)
	}
	return l, nil
}

func (l *Lock) check() error {
	if _, err := ParseTarget(string(l.Target)); err != nil {
		return err
	}
	engine := l.Arch()
	if l.Engine != "" && l.Engine != engine.Name || l.Engine == arch.Default.Name {
		return fmt.Errorf("%q is no other architecture of engines", l.Engine)
	}
	if l.Suite.Name == "" || l.Date.IsZero() || len(l.Base) == 0 || len(l.Packages) == 0 {
		return errors.New("it lacks a suite, a date, a base or packages")
	}
	files := map[string]bool{}
	for _, p := range append(l.Base[:len(l.Base):len(l.Base)], l.Packages...) {
		if _, err := units.ParseDigest(string(p.SHA256)); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		file := path.Base(p.Filename)
		if p.Arch != engine.Name && p.Arch != "all" {
			return fmt.Errorf("package %s is of %s, and the engine of %s", p.Name, p.Arch, engine)
		}
		if p.Name == "" || p.Size <= 0 || !strings.HasSuffix(file, ".deb") || files[file] {
			return fmt.Errorf("package %q: it has no name, no size, no file, or is there twice", p.Name)
		}
		files[file] = true
	}
	return nil
}

// Encode writes the lock as YAML, one line to a package, so that a change of
// one package is a change of one line. The same lock gives the same bytes.
func (l *Lock) Encode() ([]byte, error) {
	var doc yaml.Node
	if err := doc.Encode(l); err != nil {
		return nil, fmt.Errorf("encode toolchain lock: %w", err)
	}
	for _, value := range doc.Content {
		if value.Kind == yaml.SequenceNode {
			for _, item := range value.Content {
				item.Style = yaml.FlowStyle
			}
		}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("encode toolchain lock: %w", err)
	}
	return out.Bytes(), nil
}

// Digest is the sha256 of all that goes into the image: the lock's packages, what
// Dockerfile.builder does, hugepages.c and how the base is made.
func (l *Lock) Digest() units.Digest {
	return units.DigestOf(fmt.Appendf(l.baseInputs(), "target %s\n%s%s%s", l.Target, list("package", l.Packages),
		comments.ReplaceAll(dockerfile, nil), hugepages))
}

// comments are the lines of Dockerfile.builder that do nothing.
var comments = regexp.MustCompile(`(?m)^#.*\n`)

// Ref is the image's name. Its tag has the whole Digest: an image of that name is made of these inputs.
func (l *Lock) Ref() string { return fmt.Sprintf("kimg-toolchain:%s-%s", l.Target, l.Digest()) }

// baseRef is the name of the base below it, which targets of one suite may share.
func (l *Lock) baseRef() string {
	return fmt.Sprintf("kimg-base:%s-%s", l.Suite, units.DigestOf(l.baseInputs()))
}

// baseInputs spells out all that the base depends on. Its architecture is that of its packages.
func (l *Lock) baseInputs() []byte {
	return fmt.Appendf(nil, "base %s\ndate %d\ndropped %q\n%s",
		baseVersion, l.Date.Unix(), l.Target.dropped(l.Arch()), list("base", l.Base))
}

func list(kind string, packages []archive.Locked) string {
	var b strings.Builder
	for _, p := range packages {
		fmt.Fprintf(&b, "%s %q %s\n", kind, p.Filename, p.SHA256)
	}
	return b.String()
}

package archive

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/units"
	"pault.ag/go/debian/version"
)

// Index is the package lists of one release.
type Index struct {
	arch     arch.Arch
	packages []Package        // as listed, component after component
	byName   map[string][]int // places in packages, newest version first

	components []string // whose packages they are, for errors

	own      *Index         // of a Join, and of pinned: the suite's own, whose packages come first in packages
	standing map[string]int // of a Join: by Package.From, the least first; see Join
	late     bool           // its archive is NotAutomatic
	foreign  []Package      // those of other architectures, for errors

	once     sync.Once
	provided map[string][]provision // see providers
}

// newIndex orders packages by name.
func newIndex(a arch.Arch, packages []Package) *Index {
	x := &Index{arch: a, packages: packages}
	x.order()
	return x
}

func (x *Index) order() {
	x.byName = make(map[string][]int, len(x.packages))
	for i, p := range x.packages {
		same := append(x.byName[p.Name], i)
		if len(same) > 1 {
			slices.SortStableFunc(same, func(i, j int) int {
				a, b := x.packages[i], x.packages[j]
				return cmp.Or(x.standing[a.From]-x.standing[b.From], compareVersions(b.Version, a.Version))
			})
		}
		x.byName[p.Name] = same
	}
}

// compareVersions orders versions as dpkg does. One that cannot be read comes before all that can.
func compareVersions(a, b string) int {
	va, errA := version.Parse(a)
	vb, errB := version.Parse(b)
	switch {
	case errA != nil && errB != nil:
		return strings.Compare(a, b)
	case errA != nil:
		return -1
	case errB != nil:
		return 1
	}
	return version.Compare(va, vb)
}

// Lookup returns the newest version of the package.
func (x *Index) Lookup(name string) (Package, bool) {
	if same := x.byName[name]; len(same) > 0 {
		return x.packages[same[0]], true
	}
	return Package{}, false
}

// Names are those of all packages, in no order.
func (x *Index) Names() iter.Seq[string] { return maps.Keys(x.byName) }

// Index fetches and reads the package lists of the components (nil: the suite's own), verified by rel.
func (c *Client) Index(ctx context.Context, rel *Release, components []string) (*Index, error) {
	if components == nil {
		components = rel.Suite.Family.Components
	}
	var all []Package
	for _, component := range components {
		packages, err := c.packages(ctx, rel, component+"/binary-"+c.Arch.Name+"/")
		if errors.Is(err, errNotListed) {
			err = rel.lacks(component, c.Arch)
		}
		if err != nil {
			return nil, fmt.Errorf("read packages of %s/%s: %w", rel.Suite, component, err)
		}
		all = append(all, packages...)
	}
	x := newIndex(c.Arch, all)
	x.components = components
	return x, nil
}

// compressions are the forms of a list that kimg reads, the smallest first.
var compressions = []string{".xz", ".gz", ""}

// errNotListed is a list that an InRelease does not have in a form that kimg reads.
var errNotListed = errors.New("its InRelease lists no Packages that are plain, .xz or .gz")

// packages are those of the list in a directory.
func (c *Client) packages(ctx context.Context, rel *Release, dir string) ([]Package, error) {
	text, err := c.list(ctx, rel, dir)
	if err != nil {
		return nil, err
	}
	return parsePackages(text)
}

// list returns the reduced package list in a directory.
func (c *Client) list(ctx context.Context, rel *Release, dir string) (string, error) {
	for _, suffix := range compressions {
		name := dir + "Packages" + suffix
		file, ok := rel.files[name]
		if !ok {
			continue
		}
		plain, ok := rel.files[dir+"Packages"]
		if !ok {
			plain.size = maxList
		}
		if size := max(file.size, plain.size); size > maxList {
			return "", fmt.Errorf("%s has %d bytes, by its InRelease, and kimg reads %d at most", name, size, maxList)
		}
		cached := filepath.Join(c.Cache, string(file.sha256)+".packages")
		if c.Cache != "" {
			if text, ok := readCached(cached); ok {
				return text, nil
			}
		}
		if err := c.fetchList(ctx, rel, dir, "Packages"+suffix, file); err != nil {
			return "", err
		}
		text, err := c.unpackList(file.sha256, suffix, plain.size)
		if err != nil {
			return "", fmt.Errorf("unpack %s: %w", name, err)
		}
		if c.Cache != "" {
			writeCached(cached, text)
		}
		return string(text), nil
	}
	return "", errNotListed
}

// maxList bounds a list, packed and unpacked: the largest of today have 80 MB.
const maxList = 256 << 20

// fetchList downloads a list into the store, by its digest where the mirror serves it so: it may be in an update.
func (c *Client) fetchList(ctx context.Context, rel *Release, dir, name string, file listed) error {
	base := rel.base + "/" + rel.dir + dir
	var urls []string
	if rel.byHash {
		urls = append(urls, base+"by-hash/SHA256/"+string(file.sha256))
	}
	if file.size == 0 { // which a request takes for one that is not known
		return c.keep(nil, file.sha256)
	}
	return c.HTTP.ToStore(ctx, c.Store,
		fetch.Request{URLs: append(urls, base+name), Size: file.size, SHA256: file.sha256})
}

// unpackList reads a list from the store and reduces it.
func (c *Client) unpackList(d units.Digest, suffix string, size int64) ([]byte, error) {
	entry, err := c.Store.Open(d)
	if err != nil {
		return nil, err
	}
	defer entry.Close()
	packed := bufio.NewReaderSize(entry, 256<<10)
	plain, err := decompress.NewReader(packed, suffix)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var text bytes.Buffer
	text.Grow(int(min(size/3, 64<<20)))
	limited := &io.LimitedReader{R: plain, N: size + 1}
	if err := reduce(&text, limited); err != nil {
		return nil, err
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("it is larger than the %d bytes it should have", size)
	}
	if _, err := io.Copy(io.Discard, packed); err != nil { // to the end, where the store checks the digest
		return nil, err
	}
	return text.Bytes(), nil
}

// A cached list is the magic line with its fields, the CRC-32C of the rest, against damage, and the reduced list.
var cacheMagic = "kimg package list of " + strings.Join(fields, " ") + "\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func readCached(name string) (string, bool) {
	cache.Use(name)
	b, err := os.ReadFile(name)
	if err != nil || len(b) < len(cacheMagic)+4 || string(b[:len(cacheMagic)]) != cacheMagic {
		return "", false
	}
	text := b[len(cacheMagic)+4:]
	return string(text), binary.BigEndian.Uint32(b[len(cacheMagic):]) == crc32.Checksum(text, castagnoli)
}

// writeCached keeps a list for the next time. A failure costs only time.
func writeCached(name string, text []byte) {
	b := binary.BigEndian.AppendUint32([]byte(cacheMagic), crc32.Checksum(text, castagnoli))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
		_ = renameio.WriteFile(name, append(b, text...), 0o644)
	}
}

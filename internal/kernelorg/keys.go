package kernelorg

import (
	"embed"
	"fmt"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/reading"
)

// The keys that sign kernels, by primary fingerprint: https://www.kernel.org/signature.html. keys/*.asc hold
// exactly these; a test proves it. The autosigner's came from the git history of linuxkit, the others from
// kernel.org's own collection of its developers' keys (the repository docs/kernel/pgpkeys) and Arch Linux's
// packaging; each was cut to the key and its newest self-signature there, and checked by that and by its
// fingerprint.
const (
	autosigner = "B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1" // Kernel.org checksum autosigner: every sha256sums.asc
	greg       = "647F28654894E3BD457199BE38DBBDC86092693E" // Greg Kroah-Hartman: stable releases
	linus      = "ABAF11C65A2970B130ABE3C479BE3E4300411886" // Linus Torvalds: mainline releases
)

//go:embed keys/*.asc
var keyFiles embed.FS

// Keys says who may sign what.
type Keys struct {
	Sums *pgp.Keyring // lists of digests
	Tar  *pgp.Keyring // tars
}

// ShippedKeys are kernel.org's autosigner for lists, and the stable and mainline maintainers for tars.
func ShippedKeys() (Keys, error) {
	all, err := shipped()
	if err != nil {
		return Keys{}, err
	}
	return Keys{Sums: all.Only(autosigner), Tar: all.Only(greg, linus)}, nil
}

func shipped() (*pgp.Keyring, error) {
	var all openpgp.EntityList
	for _, name := range []string{"autosigner", "greg", "linus"} {
		f, err := keyFiles.Open("keys/" + name + ".asc")
		if err != nil {
			return nil, fmt.Errorf("read kernel.org's keys: %w", err)
		}
		k, err := pgp.ReadKeyring(f)
		_ = f.Close() // of memory
		if err != nil {
			return nil, fmt.Errorf("read kernel.org's key %s: %w", name, err)
		}
		all = append(all, k.Keys...)
	}
	return &pgp.Keyring{Keys: all}, nil
}

// Add returns k with the keys of files, armored or not, added. They may sign lists and tars alike.
func (k Keys) Add(files ...string) (Keys, error) {
	for _, name := range files {
		f, err := reading.Open(name)
		if err != nil {
			return Keys{}, fmt.Errorf("read kernel keyring: %w", err)
		}
		more, err := pgp.ReadKeyring(f)
		_ = f.Close() // only read
		if err != nil {
			return Keys{}, fmt.Errorf("read kernel keyring %s: %w", name, err)
		}
		k = Keys{Sums: join(k.Sums, more), Tar: join(k.Tar, more)}
	}
	return k, nil
}

// CheckKeyrings checks files of keys before anything depends on them.
func CheckKeyrings(files ...string) error {
	_, err := Keys{Sums: &pgp.Keyring{}, Tar: &pgp.Keyring{}}.Add(files...)
	return err
}

func join(a, b *pgp.Keyring) *pgp.Keyring {
	return &pgp.Keyring{Keys: slices.Concat(a.Keys, b.Keys)}
}

package vm

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/kimg/kimg/internal/filelock"
)

// Keys are what the guests of an out directory and their users know each other by. They stay on this machine, and a
// guest gets them when it boots: keys in an image would be no secret, and no two builds would be the same.
type Keys struct {
	User ssh.Signer // logs in as root
	Host ssh.Signer // is the guest's sshd

	dir string
}

// The files of a directory of keys. The known hosts are for other clients than kimg.
const (
	userKeyFile    = "id_ed25519"
	hostKeyFile    = "host_ed25519"
	knownHostsFile = "known_hosts"
	keysLock       = "lock"
)

// HostAlias is the guests' name in the file of known hosts: they are where QEMU is,
// and have no address of their own.
const HostAlias = "kimg"

// UserKeyFile has the key to log in with, as OpenSSH keeps it.
func (k *Keys) UserKeyFile() string { return filepath.Join(k.dir, userKeyFile) }

// KnownHostsFile names the guest's key, as OpenSSH keeps it.
func (k *Keys) KnownHostsFile() string { return filepath.Join(k.dir, knownHostsFile) }

// LoadKeys reads the keys in dir, and makes those that are missing.
func LoadKeys(ctx context.Context, dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	unlock, err := filelock.Take(ctx, filepath.Join(dir, keysLock), func() {}) // for milliseconds
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	defer unlock()
	k := &Keys{dir: dir}
	for name, key := range map[string]*ssh.Signer{userKeyFile: &k.User, hostKeyFile: &k.Host} {
		if *key, err = loadKey(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	line := knownhosts.Line([]string{HostAlias}, k.Host.PublicKey()) + "\n"
	if old, err := os.ReadFile(k.KnownHostsFile()); err != nil || string(old) != line {
		if err := renameio.WriteFile(k.KnownHostsFile(), []byte(line), 0o600); err != nil {
			return nil, fmt.Errorf("make keys: %w", err)
		}
	}
	return k, nil
}

// loadKey reads a private key, or makes it where there is none.
func loadKey(file string) (ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, &KeyError{File: file, Err: err}
	}
	return key, nil
}

func makeKey(file string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "kimg")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	return text, renameio.WriteFile(file, text, 0o600)
}

// KeyError says that a file is not a key of kimg's.
type KeyError struct {
	File string
	Err  error
}

func (e *KeyError) Error() string { return fmt.Sprintf("read the key %s: %v", e.File, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }

func (e *KeyError) Hint() string { return "remove it: kimg makes another one, for the next guest" }

// give writes the keys as a guest takes them (package guest).
func (k *Keys) give(w io.Writer) error {
	host, err := os.ReadFile(filepath.Join(k.dir, hostKeyFile))
	if err != nil {
		return fmt.Errorf("give the guest its keys: %w", err)
	}
	text := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	_, err = fmt.Fprintf(w, "host_key %s\nauthorized_keys %s\nend\n",
		text(host), text(ssh.MarshalAuthorizedKey(k.User.PublicKey())))
	return err
}

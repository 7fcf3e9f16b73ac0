package vm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kimg/kimg/internal/guest"
)

// Share is a directory of this machine that the guest sees.
type Share struct {
	Dir   string // on this machine
	Path  string // in the guest, absolute
	Write bool   // the guest may change it
}

// shareHome is where shares are in the guest that were not given a place.
const shareHome = "/mnt"

// shareName is a place in the guest that is given by a name.
var shareName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// ParseShare reads DIR[:PLACE][:rw], where PLACE is a path in the guest or a name
// below /mnt. Without it the directory's own name is one. A comma serves before
// rw, too. Where all of the words name a directory that exists, they are its name.
func ParseShare(text string) (Share, error) {
	s := Share{Dir: text}
	if !isDir(text) {
		s.cut(text)
	}
	if s.Dir == "" {
		return Share{}, fmt.Errorf("%q: want DIR[:PLACE][:rw]", text)
	}
	if s.Path == "" {
		abs, err := filepath.Abs(s.Dir)
		if err != nil {
			return Share{}, err
		}
		s.Path = shareHome + "/" + filepath.Base(abs)
	}
	s.Path = path.Clean(s.Path)
	return s, checkPlace(s.Path)
}

// cut takes the words behind the directory's name off, from the right.
func (s *Share) cut(text string) {
	if at := strings.LastIndexAny(text, ":,"); at >= 0 && (text[at+1:] == "rw" || text[at+1:] == "ro") {
		text, s.Write = text[:at], text[at+1:] == "rw"
	}
	s.Dir = text
	if isDir(text) {
		return
	}
	if at := strings.LastIndex(text, ":/"); at >= 0 {
		s.Dir, s.Path = text[:at], text[at+1:]
	} else if at := strings.LastIndexByte(text, ':'); at >= 0 && shareName.MatchString(text[at+1:]) {
		s.Dir, s.Path = text[:at], shareHome+"/"+text[at+1:]
	}
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// maxPlace bounds a path in the guest: it stands on the kernel's command line.
const maxPlace = 255

// checkPlace refuses what a shared directory would hide from the guest, and what
// does not travel by the kernel's command line and the agent's shell.
func checkPlace(place string) error {
	top, _, _ := strings.Cut(strings.TrimPrefix(place, "/"), "/")
	switch {
	case !path.IsAbs(place) || place == "/":
		return fmt.Errorf("the place %q in the guest: want a path below /", place)
	case len(place) > maxPlace:
		return fmt.Errorf("the place %.20q... in the guest: want at most %d bytes", place, maxPlace)
	case !utf8.ValidString(place) || strings.ContainsFunc(place, unicode.IsControl):
		return fmt.Errorf("the place %q in the guest: want a name that prints: give one, as in DIR:NAME", place)
	}
	switch top {
	case "dev", "proc", "run", "sys":
		return fmt.Errorf("the place %q in the guest: the guest needs its own /%s", place, top)
	}
	return nil
}

// ShareError says that a directory cannot be shared.
type ShareError struct {
	Dir string
	Err error
}

func (e *ShareError) Error() string { return fmt.Sprintf("share %s: %v", e.Dir, e.Err) }

// Unwrap gives the reason.
func (e *ShareError) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *ShareError) Hint() string {
	if errors.Is(e.Err, errSharePlace) {
		return "give it another place, as in DIR:NAME"
	}
	return "name a directory of this machine that you may read"
}

// errSharePlace says that another directory is where one is to be.
var errSharePlace = errors.New("is there already")

// resolve checks the shares and resolves their directories, as QEMU follows no
// link out of them and an engine none to them.
func resolve(shares []Share) ([]Share, error) {
	var list []Share
	taken := map[string]string{}
	for _, s := range shares {
		dir, err := filepath.Abs(s.Dir)
		if err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		if err != nil {
			return nil, &ShareError{s.Dir, err}
		}
		if !isDir(dir) {
			return nil, &ShareError{s.Dir, errors.New("it is not a directory")}
		}
		d, err := os.Open(dir)
		if err != nil {
			return nil, &ShareError{s.Dir, err}
		}
		d.Close()
		if other, is := taken[s.Path]; is {
			return nil, &ShareError{s.Dir, fmt.Errorf("at %s in the guest %s %w", s.Path, other, errSharePlace)}
		}
		taken[s.Path] = s.Dir
		list = append(list, Share{Dir: dir, Path: s.Path, Write: s.Write})
	}
	return list, nil
}

// shareTag names the share of a number to the guest.
func shareTag(n int) string { return "kimg" + strconv.Itoa(n) }

// word is what the guest's agent is told of the share of a number.
func (s Share) word(n int) string {
	mode := "ro"
	if s.Write {
		mode = "rw"
	}
	return guest.ShareWord + shareTag(n) + "," + mode + "," + base64.StdEncoding.EncodeToString([]byte(s.Path))
}

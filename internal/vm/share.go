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

// shareHome is where shares are in the guest that name no path.
const shareHome = "/mnt"

// shareName is a name for a directory below shareHome.
var shareName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// ParseShare reads DIR[:PLACE][:rw], where PLACE is a path in the guest or a name
// below /mnt. By default it is the directory's own name. There may be a comma before rw.
// A text that is the name of an existing directory is taken as that.
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

// cut splits what follows the directory's name off, from the right.
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

// maxPlace bounds a path in the guest: it is on the kernel's command line.
const maxPlace = 255

// checkPlace refuses paths that the guest needs itself, or that command line or shell would not carry.
func checkPlace(place string) error {
	top, _, _ := strings.Cut(strings.TrimPrefix(place, "/"), "/")
	switch {
	case !path.IsAbs(place) || place == "/":
		return fmt.Errorf("the path %q in the guest: want one below /", place)
	case len(place) > maxPlace:
		return fmt.Errorf("the path %.20q... in the guest: want at most %d bytes", place, maxPlace)
	case !utf8.ValidString(place) || strings.ContainsFunc(place, unicode.IsControl):
		return fmt.Errorf("the path %q in the guest: want a name that prints, as in DIR:NAME", place)
	}
	switch top {
	case "dev", "proc", "run", "sys":
		return fmt.Errorf("the path %q in the guest: the guest needs its own /%s", place, top)
	}
	return nil
}

// ShareError says that a directory cannot be shared.
type ShareError struct {
	Dir string
	Err error
}

func (e *ShareError) Error() string { return fmt.Sprintf("share %s: %v", e.Dir, e.Err) }

func (e *ShareError) Unwrap() error { return e.Err }

func (e *ShareError) Hint() string {
	if errors.Is(e.Err, errSharePlace) {
		return "give it another path in the guest, as in DIR:NAME"
	}
	return "name a directory of this machine that you may read"
}

// errSharePlace says that another directory is shared there.
var errSharePlace = errors.New("is there already")

// resolve checks the shares and resolves links to their directories, which engines do not follow.
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

// shareTag is the 9p tag of the share of a number.
func shareTag(n int) string { return "kimg" + strconv.Itoa(n) }

// word tells the guest's agent about the share of a number.
func (s Share) word(n int) string {
	mode := "ro"
	if s.Write {
		mode = "rw"
	}
	return guest.ShareWord + shareTag(n) + "," + mode + "," + base64.StdEncoding.EncodeToString([]byte(s.Path))
}

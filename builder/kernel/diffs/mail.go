package diffs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"regexp"
	"slices"
	"strings"
)

// mboxFrom begins a mail in a mailbox, and what git format-patch writes (RFC 4155).
var mboxFrom = regexp.MustCompile(`(?m)^From \S+ .*\d{4}\r?\n`)

// encodedRE is a header of what is not read as it is (RFC 2045, 6.1).
var encodedRE = regexp.MustCompile(`(?mi)^Content-Transfer-Encoding:\s*(quoted-printable|base64)\b`)

// mailHTMLRE is a header of a mail that is HTML, or that has its text as HTML, too (RFC 2046, 5.1.4).
var mailHTMLRE = regexp.MustCompile(`(?mi)^Content-Type:\s*(text/html|multipart/alternative)\b`)

var errHTML = errors.New("it is HTML, in which < and & are written otherwise: " +
	"save it as plain text, as an archive's raw page has it")

// flowedRE is a header of what a mailer may have broken lines in (RFC 3676, 4).
var flowedRE = regexp.MustCompile(`(?mi)^Content-Type:[^\n]*(\n[ \t][^\n]*)*\bformat="?flowed\b`)

// Decode returns the patch of a mail, or of a mailbox, that is in quoted-printable or base64, or format=flowed; any
// other text as it is, but for a byte order mark. A patch in HTML is an error.
func Decode(name, text string) (string, error) {
	text = strings.TrimPrefix(text, "\ufeff") // an editor's mark of UTF-8
	if htmlRE.MatchString(text) && hasHunk(text) {
		return "", &Error{name, 0, errHTML}
	}
	if strings.Contains(text, "-----BEGIN PGP SIGNED MESSAGE-----") && strings.Contains(text, "\n- --- ") {
		return "", &Error{name, 0, errors.New("it is signed by PGP, which changes lines that begin with a dash: " +
			"gpg --decrypt gives the patch back")}
	}
	if !encodedRE.MatchString(text) && !flowedRE.MatchString(text) && !mailHTMLRE.MatchString(text) {
		return text, nil
	}
	var b strings.Builder
	at := mboxFrom.FindAllStringIndex(text, -1)
	if len(at) == 0 || at[0][0] > 0 {
		at = slices.Insert(at, 0, []int{0, 0})
	}
	for i, a := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		one := text[a[1]:end]
		m, err := mail.ReadMessage(strings.NewReader(one))
		if err != nil {
			b.WriteString(one) // no mail: a patch may have such a line in it
			continue
		}
		if err := decodePart(&b, m.Header.Get, m.Body); err != nil {
			return "", &Error{name, 0, fmt.Errorf("decode the mail: %w", err)}
		}
	}
	return b.String(), nil
}

// decodePart writes a mail, or a part of one, decoded, and a line's end.
func decodePart(w *strings.Builder, header func(string) string, body io.Reader) error {
	kind, params, err := mime.ParseMediaType(header("Content-Type"))
	if err == nil && strings.HasPrefix(kind, "multipart/") {
		return decodeParts(w, kind == "multipart/alternative", multipart.NewReader(body, params["boundary"]))
	}
	switch strings.ToLower(strings.TrimSpace(header("Content-Transfer-Encoding"))) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	switch {
	case err != nil:
		return err
	case kind == "text/html" && hasHunk(string(text)):
		return errHTML
	case kind == "text/html":
		return nil // a letter
	case !strings.EqualFold(params["format"], "flowed"):
		w.WriteString(string(text) + "\n")
		return nil
	}
	plain, err := unflow(string(text), strings.EqualFold(params["delsp"], "yes"))
	w.WriteString(plain + "\n")
	return err
}

// decodeParts writes the parts of a mail, or one of them, where they are the same in several forms.
func decodeParts(w *strings.Builder, alternative bool, parts *multipart.Reader) error {
	var html error
	plain := false
	for {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = decodePart(w, p.Header.Get, p)
		}
		if alternative && errors.Is(err, errHTML) {
			html = err
			continue
		}
		if err != nil {
			return err
		}
		plain = true
	}
	if plain {
		return nil
	}
	return html
}

// hasHunk reports whether there is a patch in a text.
func hasHunk(text string) bool {
	return strings.Contains(text, "\n@@ -") || strings.Contains("\n"+text, "\ndiff --git ")
}

var errFlowed = errors.New("it is format=flowed, which breaks lines and adds blanks, and that cannot be undone here: " +
	"have it sent as an attachment, or by git send-email")

// unflow undoes format=flowed (RFC 3676, 4.1): a blank at a line's begin is a stuffed one, and one at its end says
// that the line goes on. A patch has such ends of its own, and some mailers say flowed and do nothing of the sort: the
// reading counts that is a whole patch.
func unflow(text string, delsp bool) (string, error) {
	read := func(unstuff, join bool) string {
		var b strings.Builder
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\r\n")
			if line == "-- " { // a signature
				b.WriteString(line + "\n")
				continue
			}
			if unstuff {
				line = strings.TrimPrefix(line, " ")
			}
			if join && strings.HasSuffix(line, " ") {
				if delsp {
					line = line[:len(line)-1]
				}
				b.WriteString(line)
				continue
			}
			b.WriteString(line + "\n")
		}
		return b.String()
	}
	whole := read(true, true)
	if !hasHunk(text) {
		return whole, nil // a letter
	}
	for _, way := range []string{whole, read(true, false), text} {
		if _, err := Parse("", way, Strip(way)); err == nil {
			return way, nil
		}
	}
	return "", errFlowed
}

// topDirs are the directories at the top of a kernel tree, of all versions.
var topDirs = strings.Fields("Documentation LICENSES arch block certs crypto drivers firmware fs include init " +
	"io_uring ipc kernel lib mm net rust samples scripts security sound tools usr virt")

// Strip is the -p that a patch wants which does not say: 1, or 0 where no name has a prefix (diff.noprefix of git).
// A name is one of the tree's own where both are alike and begin with a directory of a kernel's.
func Strip(text string) int {
	n := 0
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = strings.TrimRight(line, "\r")
		if names, ok := strings.CutPrefix(line, "diff --git "); ok {
			name, err := gitNames(names, 0)
			if err != nil || !ofTree(name) {
				return 1
			}
			n++
		}
		old, ok := strings.CutPrefix(line, "--- ")
		if !ok || i+2 >= len(lines) || !strings.HasPrefix(lines[i+1], "+++ ") || !hunkRE.MatchString(lines[i+2]) {
			continue
		}
		a, _, errA := headerName(old)
		b, _, errB := headerName(strings.TrimRight(lines[i+1][4:], "\r"))
		if a == devNull {
			a = b
		}
		if b == devNull {
			b = a
		}
		if errA != nil || errB != nil || a != b || !ofTree(a) {
			return 1
		}
		n++
	}
	if n == 0 {
		return 1
	}
	return 0
}

// ofTree reports whether a path is one of a kernel tree, and not of a directory that such a tree is in.
func ofTree(name string) bool {
	first, rest, _ := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	second, _, deep := strings.Cut(rest, "/")
	switch {
	case rest == "":
		return first == "Makefile" || first == "Kconfig" || first == "Kbuild" || first == "MAINTAINERS"
	case first == "kernel" && deep && slices.Contains(topDirs, second):
		return false // a tree in a directory that is called kernel
	}
	return slices.Contains(topDirs, first)
}

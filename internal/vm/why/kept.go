package why

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/units"
)

// kept is an answer as far as it has been found, and what is still to be looked for.
type kept struct {
	Answer
	Key   units.Digest `json:"key"` // of the recording, and of what was asked
	Begun bool         `json:"begun"`
	Queue []question   `json:"queue"`
}

// Done says whether nothing is left to be looked for.
func (k *kept) Done() bool { return k.Begun && len(k.Queue) == 0 }

// open names what is left.
func (k *kept) open() {
	k.Open = nil
	if !k.Begun {
		k.Open = []string{"what it is about"}
	}
	for _, q := range k.Queue {
		k.Open = append(k.Open, q.asks())
	}
}

// asks is the question in words.
func (q question) asks() string {
	switch {
	case q.Freed:
		return q.What
	case q.Reg != 0:
		return "where " + q.What + " came from"
	case q.Before:
		return fmt.Sprintf("who wrote to %#x before instruction %d", q.Address, q.Icount)
	}
	return fmt.Sprintf("who wrote %s (%#x)", q.What, q.Address)
}

// maxKept bounds the file of an answer, in bytes.
const maxKept = 16 << 20

// keptFile is where the answer to a question is kept.
func keptFile(r *recording.Recording, expr string) string {
	if expr == "" {
		return r.Path("why.json")
	}
	return r.Path("why-" + units.DigestOf([]byte(expr)).Short() + ".json")
}

// keyOf is a digest of all that an answer follows from.
func keyOf(r *recording.Recording, expr string) units.Digest {
	text := fmt.Sprintf("%d\n%s\n", answerVersion, expr)
	for _, file := range slices.Sorted(maps.Keys(r.Parts)) {
		text += fmt.Sprintf("%s %s\n", file, r.Parts[file].Digest)
	}
	return units.DigestOf([]byte(text))
}

// load reads what was found before. What cannot be read, or is of another recording, is looked for anew.
func load(r *recording.Recording, expr string) (*kept, error) {
	k, fresh := &kept{}, &kept{Key: keyOf(r, expr), Answer: Answer{Version: answerVersion, Expr: expr, Steps: []Step{}}}
	b, err := reading.Small(keptFile(r, expr), maxKept)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // another's, who lets us read the recording
		return fresh, nil
	case err != nil:
		return nil, fmt.Errorf("ask why of recording %s: %w", r.Name(), err)
	}
	if json.Unmarshal(b, k) != nil || k.Key != fresh.Key {
		return fresh, nil
	}
	return k, nil
}

func (k *kept) save(r *recording.Recording) error {
	b, err := json.Marshal(k)
	if err == nil {
		err = renameio.WriteFile(keptFile(r, k.Expr), b, 0o600)
	}
	if errors.Is(err, fs.ErrPermission) { // another's: it is looked for anew the next time
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep why of recording %s: %w", r.Name(), err)
	}
	return nil
}

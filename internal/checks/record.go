package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Records says which recordings of the checks' guests are kept.
type Records string

// The ones that are kept; none: empty.
const (
	RecordFailed Records = "failed"
	RecordAll    Records = "all"
)

// AllRecords are the values that a user can choose from.
var AllRecords = []string{string(RecordFailed), string(RecordAll)}

// ParseRecords reads Records.
func ParseRecords(text string) (Records, error) {
	if slices.Contains(AllRecords, text) {
		return Records(text), nil
	}
	return "", fmt.Errorf("%q: want failed or all", text)
}

// Recording is that of a check's guest.
type Recording interface {
	Name() string
	// Export writes it as one file.
	Export(ctx context.Context, to io.Writer, thin bool) error
	Discard() error
	// Explained says whether kimg why can be asked about it.
	Explained() bool
}

// RecordingNames are names for the recordings of checks, by the checks' names: no two are the same.
func RecordingNames(names []string) map[string]string {
	all := directories(names)
	for name, dir := range all {
		all[name] = "check-" + dir
	}
	return all
}

// settleRecording drops a recording that is not to be kept. Of one that is, the outcome has the name.
func (r *Runner) settleRecording(o *Outcome, made Recording) error {
	if made == nil {
		return nil
	}
	if o.Verdict == Failed || o.Verdict == Passed && r.Record == RecordAll {
		o.Recording, o.unexplained = made.Name(), !made.Explained()
		return nil
	}
	return made.Discard()
}

// recording writes the check's recording beside its report.
func (r *kept) recording(ctx context.Context, o *Outcome, made Recording) (err error) {
	if made == nil || o.Recording == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(r.dir, recordingFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write a report: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return made.Export(ctx, f, false)
}

// recorded is the line about a check's recording; empty: there is none.
func (o *Outcome) recorded() string {
	if o.Recording == "" {
		return ""
	}
	if o.unexplained {
		return fmt.Sprintf("recording %s: kimg debug --replay %[1]s", o.Recording)
	}
	return fmt.Sprintf("recording %s: kimg why %[1]s; kimg debug --replay %[1]s", o.Recording)
}

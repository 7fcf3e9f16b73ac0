package checks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // & and < are C's
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// JSON is the report as JSON.
func (r *Report) JSON() ([]byte, error) { return encode(r) }

// CheckReportFile is an error where a report could not be written. It makes the report's directory.
func CheckReportFile(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("write %s: it is not a file", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	probe, err := os.CreateTemp(filepath.Dir(name), ".kimg-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// WriteReport writes a report; an error leaves the old one.
func WriteReport(name string, b []byte) error {
	if err := renameio.WriteFile(name, b, 0o666); err != nil {
		return fmt.Errorf("write report %s: %w", name, err)
	}
	return nil
}

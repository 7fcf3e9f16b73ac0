package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/keep"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
)

func TestBuildTrimsTheCache(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, fails := range []bool{false, true} {
		trimmed := 0
		a, read := testApp(t, table{
			build: func(context.Context, builder.Env, spec.Spec) (*outdir.Manifest, error) {
				if fails {
					return nil, errors.New("it fails")
				}
				return &outdir.Manifest{}, nil
			},
			trim: func(context.Context, builder.Env) ([]keep.Item, error) {
				trimmed++
				return []keep.Item{{Kind: "log", Size: 3 << 20}}, errors.New("a log stays")
			},
		})
		root := a.root()
		root.SetArgs([]string{"build", "--progress", "plain"})
		if err := root.ExecuteContext(t.Context()); (err != nil) != fails {
			t.Errorf("a build that fails (%v): %v", fails, err)
		}
		_, stderr := read()
		if says := strings.Contains(stderr, "freed 3MiB") && strings.Contains(stderr, "a log stays"); says == fails ||
			trimmed == 1 == fails {
			t.Errorf("a build that fails (%v): trimmed %d times, %q", fails, trimmed, stderr)
		}
	}
}

func TestDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30d": 30 * 24 * time.Hour, "0d": 0, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute,
		"": -1, "d": -1, "-1d": -1, "-1h": -1, "1.5d": -1, "70000d": -1, "soon": -1,
	} {
		var d days
		if err := d.Set(text); (err != nil) != (want < 0) || err == nil && time.Duration(d) != want {
			t.Errorf("%q is %v, %v; want %v", text, time.Duration(d), err, want)
		}
	}
	if d := days(keep.Unused); d.String() != "30d" {
		t.Errorf("the default is %s", d.String())
	}
}

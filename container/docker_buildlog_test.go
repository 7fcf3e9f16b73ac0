package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestStepWatchNotesTheNewestImage(t *testing.T) {
	var log bytes.Buffer
	s := &stepWatch{w: &log}
	said := "Step 1/4 : ARG BASE\nStep 2/4 : FROM ${BASE} AS installed\n ---> 01dafa186c69\n" +
		"Step 3/4 : COPY debs /debs\n"
	for _, c := range said {
		fmt.Fprintf(s, "%c", c)
	}
	if s.last() != "" {
		t.Errorf("the base %q is taken for an image of the build", s.last())
	}
	fmt.Fprint(s, " ---> 5fa383d96c3d\nStep 4/4 : RUN x\n ---> Running in aaaaaaaaaaaa\n--> 7131aa52b56\n")
	if s.last() != "5fa383d96c3d" {
		t.Errorf("the newest image is %q", s.last())
	}
	fmt.Fprint(s, strings.Repeat("x", 1<<20)+"\n ---> 0123456789ab"+strings.Repeat("c", 60)+"\n")
	if s.last() != "5fa383d96c3d" || cap(s.line) > 2*maxStepLine {
		t.Errorf("after long lines the newest image is %q, and %d bytes are kept", s.last(), cap(s.line))
	}
	if !strings.HasPrefix(log.String(), said) {
		t.Errorf("the log is %q", log.String())
	}
}

// A failed build under Podman 4.3, in its words: they tell of the images and, beside the error, of the reason.
func TestPodmanBuildFails(t *testing.T) {
	script := strings.Repeat("dpkg --configure -a; ", 70)
	for _, test := range []struct {
		name, log, failed string
		tags              string // of the newest image
		want              string
		removed           string
		hint              bool
	}{
		{"a command", `"STEP 2/3: RUN x\n"} {"stream":"--> 7131aa52b56\n"} {"stream":"STEP 3/3: RUN y\n"`,
			`while running runtime: exit status 3\n`, "", "exit status 3", "7131aa52b56", false},
		{"a cached step", `"--> Using cache 7131aa52b560\n"} {"stream":"--> 7131aa52b56\n"`, "exit status 3", "",
			"exit status 3", "7131aa52b56", false},
		{"an image with a name", `"--> 7131aa52b56\n"`, "exit status 3", `"localhost/mine:1"`, "exit status 3", "",
			false},
		{"the first step", `"STEP 2/3: RUN x\n"`, "exit status 3", "", "exit status 3", "", false},
		{"the runtime", `"STEP 2/3: RUN x\n"} {"stream":"error running container: from /usr/bin/crun creating ` +
			`container for [/bin/sh -c x]: cgroups in hybrid mode not supported\n: exit status 1\n"`,
			`while running runtime: exit status 1\n`, "", "cgroups in hybrid mode not supported", "", true},
	} {
		var mu sync.Mutex
		var removed []string
		host := fakeAPI(t, map[string]http.HandlerFunc{
			"/version": says(podmanVersion), "/info": says("{}"),
			"/build": func(w http.ResponseWriter, r *http.Request) {
				if got := r.URL.Query().Get("networkmode"); got != "NetworkDisabled" {
					t.Errorf("networkmode=%s, and its steps have a network", got)
				}
				says(`{"stream":`+test.log+`} {"errorDetail":{"message":"building at STEP \"RUN `+script+`\": `+
					test.failed+`"}}`)(w, r)
			},
			"/images/7131aa52b56/json": says(`{"Id": "7131aa52b56", "RepoTags": [` + test.tags + `]}`),
			"/images/7131aa52b56": func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				removed = append(removed, r.Method)
				mu.Unlock()
				w.Write([]byte("[]"))
			},
		})
		e, err := dial(t.Context(), endpoint{host: host})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		err = e.Build(context.WithoutCancel(t.Context()), BuildSpec{Context: &bytes.Buffer{}, Tag: "t", Log: &log})
		e.Close()
		if err == nil || !strings.HasSuffix(err.Error(), test.want) || len(err.Error()) > 350 {
			t.Errorf("%s: %v", test.name, err)
		}
		if strings.Join(removed, " ") != strings.Repeat("DELETE", min(1, len(test.removed))) {
			t.Errorf("%s: removed %q, want %q", test.name, removed, test.removed)
		}
		var refused *RuntimeError
		if errors.As(err, &refused) != test.hint {
			t.Errorf("%s: %T", test.name, err)
		}
	}
}

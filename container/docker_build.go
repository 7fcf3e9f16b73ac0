package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
)

// Build uses the engine's classic builder: BuildKit shows no progress to a client
// that has no session with it.
func (e *docker) Build(ctx context.Context, spec BuildSpec) error {
	doing := "build image " + spec.Tag
	labels := map[string]string{labelKimg: "1"}
	maps.Copy(labels, spec.Labels)
	args := map[string]*string{}
	for k, v := range spec.Args {
		args[k] = &v
	}
	log := spec.Log
	if log == nil {
		log = io.Discard
	}
	body := acquire(spec.Context)
	defer body.release()
	// The line for /etc/hosts is for removeSteps. Podman does not know "none": steps would have the host's network.
	mark := newName()
	network, hosts := "none", []string{mark + ":127.0.0.1"}
	if e.info.Name == podman {
		network, hosts = "NetworkDisabled", nil
	}
	steps := &stepWatch{w: log, body: body, podman: e.info.Name == podman}
	work, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	defer context.AfterFunc(ctx, func() {
		steps.settle()
		hangUp()
	})()
	resp, err := e.api.ImageBuild(work, body, build.ImageBuildOptions{
		Version:     build.BuilderV1,
		Tags:        []string{spec.Tag},
		Dockerfile:  spec.Dockerfile,
		Target:      spec.Target,
		BuildArgs:   args,
		Labels:      labels,
		NetworkMode: network,
		ExtraHosts:  hosts,
		Remove:      true,
		ForceRemove: true,
	})
	if err == nil {
		err = readMessages(resp.Body, steps)
		resp.Body.Close()
	}
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad
	}
	if err != nil {
		var reported failure
		if errors.As(err, &reported) && steps.refused != "" {
			err = &RuntimeError{fmt.Errorf("%w: %s", err, steps.refused)}
		}
		return errors.Join(fault(ctx, doing, err), e.removeSteps(ctx, mark, reported != ""),
			e.removeLayers(ctx, steps.last()))
	}
	_, ok, err := e.ImageID(ctx, spec.Tag)
	if err == nil && !ok {
		err = errors.New("the engine reported no failure, but there is no image")
	}
	return fault(ctx, doing, err)
}

// message is one object of the stream that builds and imports answer with. Source: Docker Engine API, "ImageBuild".
type message struct {
	Stream string `json:"stream"`
	Status string `json:"status"`
	Error  string `json:"error"`
	Detail *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// failure is what an engine says of a build or an import that failed.
type failure string

func (f failure) Error() string { return string(f) }

// brief takes the middle out of a long message: it has the whole text of a step, which may be a script, and before and
// after that what it is about.
func brief(text string) string {
	const head, tail = 100, 120 // bytes
	text = strings.TrimSpace(text)
	if len(text) <= head+tail {
		return text
	}
	return strings.ToValidUTF8(text[:head], "") + " ... " + strings.ToValidUTF8(text[len(text)-tail:], "")
}

// readMessages writes what the stream says to log. A failure is in the stream
// and nowhere else: the request itself has succeeded.
func readMessages(r io.Reader, log io.Writer) error {
	for dec := json.NewDecoder(r); ; {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the engine's answer: %w", err)
		}
		if m.Detail != nil && m.Detail.Message != "" {
			return failure(brief(m.Detail.Message))
		}
		if m.Error != "" {
			return failure(brief(m.Error))
		}
		text := m.Stream
		if m.Status != "" {
			text += m.Status + "\n"
		}
		if _, err := io.WriteString(log, text); err != nil {
			return fmt.Errorf("write log: %w", err)
		}
	}
}

// stepWatch passes a builder's log on and reads in it. It knows when the engine may be making a container that it has
// not reported yet: hanging up then would leave it to the engine to remove it, some seconds later on a busy machine.
// And it knows which image the last step made, and why Podman could not run one: that is not in the error.
type stepWatch struct {
	w      io.Writer
	body   *lease
	podman bool // the builder is Podman's

	mu      sync.Mutex
	spoken  bool   // the builder has said something
	making  bool   // a step has begun and has not said what it runs in
	line    []byte // the beginning of the last line, as much as is needed
	images  int
	image   string // the newest one
	refused string // what the runtime said that did not run a step
}

// maxStepLine is more than a line that is looked for has, in bytes: a build may write lines without end.
const maxStepLine = 1 << 10

func (s *stepWatch) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.spoken = true
	if text := strings.TrimSpace(string(p)); text != "" { // the end of a step's line comes by itself
		_, step, begins := strings.Cut(text, " : ")
		s.making = begins && strings.HasPrefix(text, "Step ") && !hasNoContainer.MatchString(step)
	}
	for _, c := range p {
		if c != '\n' {
			if len(s.line) < maxStepLine {
				s.line = append(s.line, c)
			}
			continue
		}
		if m := stepImage.FindSubmatch(s.line); m != nil && (m[1] == nil) == s.podman {
			s.image, s.images = string(m[2]), s.images+1
		}
		if m := notRun.FindSubmatch(s.line); m != nil && s.podman {
			s.refused = brief(string(m[1]))
		}
		s.line = s.line[:0]
	}
	s.mu.Unlock()
	return s.w.Write(p)
}

// stepImage is how a step's image is named: " ---> 0123456789ab" by Docker, "--> 0123456789a" by Podman.
var stepImage = regexp.MustCompile(`^( -)?--> ([0-9a-f]{11,64})$`)

// notRun is how Podman's builder passes on what its runtime said.
var notRun = regexp.MustCompile(`^error running container: .*creating container for \[.*\]: (.+)$`)

// last is the newest image that the build made; "" while there is none. Docker names the base first, as a step's.
func (s *stepWatch) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.podman && s.images < 2 {
		return ""
	}
	return s.image
}

// hasNoContainer are the steps that the classic builder does itself.
var hasNoContainer = regexp.MustCompile(`^(?i:COPY|ADD|FROM)\s`)

// settle waits until it is safe to hang up: moments, as a rule.
func (s *stepWatch) settle() {
	for range 1000 {
		s.mu.Lock()
		safe := !s.making && (s.spoken || !s.body.ended())
		s.mu.Unlock()
		if safe {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// removeLayers removes the newest image of a build that failed, and those below it that nothing else needs: the engine
// would keep them for a next build that may never come.
func (e *docker) removeLayers(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	work, cancel := detached(ctx)
	defer cancel()
	is, err := e.api.ImageInspect(work, id)
	if err == nil && len(is.RepoTags) == 0 { // else it has an owner
		err = e.RemoveImage(work, is.ID)
	}
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) { // below another image, which is no news for the user
		return nil
	}
	return fault(work, "remove what the build left", err)
}

// quietTime is how long no container of a cancelled build must have been seen.
const quietTime = 300 * time.Millisecond

// removeSteps removes the containers that a build's steps ran in. An engine that has reported a failure has done so
// itself. One whose client has gone away does so too, but a little later. Such a container has neither labels nor a
// name that this process could choose; what it does get is the line for /etc/hosts that Build asks for, which no
// image keeps.
//
// Podman refuses to be asked for that line in the form that Docker wants, and its builder's containers are in no list
// of the engine's: it removes them itself. Podman 4.3 first lets the step that runs come to its end, and nothing in
// its API ends it sooner.
func (e *docker) removeSteps(ctx context.Context, mark string, reported bool) error {
	if e.info.Name == podman {
		return nil
	}
	work, cancel := detached(ctx)
	defer cancel()
	for quiet := time.Now(); ; {
		steps, err := e.steps(work, mark)
		if err != nil {
			return fault(work, "list containers", err)
		}
		for _, id := range steps {
			if err := e.removeContainer(work, id); err != nil {
				return err
			}
			quiet = time.Now()
		}
		if reported || time.Since(quiet) > quietTime {
			return nil
		}
		select {
		case <-time.After(quietTime / 10):
		case <-work.Done():
			return fmt.Errorf("remove the build's containers: %w", work.Err())
		}
	}
}

// steps lists the containers of the build that carries mark.
func (e *docker) steps(ctx context.Context, mark string) ([]string, error) {
	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range list {
		if c.Labels[labelOwner] != "" {
			continue
		}
		is, err := e.api.ContainerInspect(ctx, c.ID)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		if err == nil && is.HostConfig != nil && strings.Contains(strings.Join(is.HostConfig.ExtraHosts, " "), mark) {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

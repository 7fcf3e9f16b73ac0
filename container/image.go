package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/image"
)

// ImageID returns the id of the image that ref names; ok is false when there is none.
func (e *Engine) ImageID(ctx context.Context, ref string) (id string, ok bool, err error) {
	img, err := e.api.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fault(ctx, "look for image "+ref, err)
	}
	return img.ID, true, nil
}

// RemoveImage removes a tag, and the image when that was its last; that there is
// none is no error.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	_, err := e.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return fault(ctx, "remove image "+ref, err)
}

// Import makes an image of one layer from a tar of a root filesystem. changes
// are Dockerfile instructions (CMD, ENV, LABEL, USER, WORKDIR ...).
func (e *Engine) Import(ctx context.Context, ref string, tar io.Reader, changes []string) error {
	doing := "import image " + ref
	body := lend(tar)
	defer body.takeBack()
	answer, err := e.api.ImageImport(ctx, image.ImportSource{Source: body, SourceName: "-"}, ref,
		image.ImportOptions{Changes: append([]string{"LABEL " + labelKimg + "=1"}, changes...)})
	if err == nil {
		defer answer.Close()
		err = readMessages(answer, io.Discard)
	}
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad // the engine only saw its end
	}
	return fault(ctx, doing, err)
}

// Build makes an image with the engine's classic builder: BuildKit shows no
// progress to a client that has no session with it. No stage has a network. A
// failed or cancelled build leaves no container; layers that were done stay in
// the engine's build cache.
func (e *Engine) Build(ctx context.Context, spec BuildSpec) error {
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
	body := lend(spec.Context)
	defer body.takeBack()
	seen := &stepContainers{w: log}
	resp, err := e.api.ImageBuild(ctx, body, build.ImageBuildOptions{
		Version:     build.BuilderV1,
		Tags:        []string{spec.Tag},
		Dockerfile:  spec.Dockerfile,
		Target:      spec.Target,
		BuildArgs:   args,
		Labels:      labels,
		NetworkMode: "none",
		Remove:      true,
		ForceRemove: true,
	})
	if err == nil {
		err = readMessages(resp.Body, seen)
		resp.Body.Close()
	}
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad
	}
	if err != nil {
		return errors.Join(fault(ctx, doing, err), e.removeStepContainers(ctx, seen.ids))
	}
	if _, ok, err := e.ImageID(ctx, spec.Tag); err != nil || !ok {
		return errors.Join(fmt.Errorf("%s: the engine said nothing of a failure, and there is no image", doing), err)
	}
	return nil
}

// message is one object of the stream that builds and imports answer with.
// Source: Docker Engine API, "ImageBuild".
type message struct {
	Stream string `json:"stream"`
	Status string `json:"status"`
	Error  string `json:"error"`
	Detail *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
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
			return errors.New(m.Detail.Message)
		}
		if m.Error != "" {
			return errors.New(m.Error)
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

// stepContainers passes a builder's log on and keeps the ids of the containers
// that its steps ran in: a step that is cancelled says nothing more.
type stepContainers struct {
	w   io.Writer
	ids []string
}

var runningIn = regexp.MustCompile(`Running in ([0-9a-f]{12,64})`)

func (s *stepContainers) Write(p []byte) (int, error) {
	if m := runningIn.FindSubmatch(p); m != nil {
		s.ids = append(s.ids, string(m[1]))
	}
	return s.w.Write(p)
}

// removeStepContainers waits for the engine to have taken a build's containers
// away, or does it.
func (e *Engine) removeStepContainers(ctx context.Context, ids []string) error {
	var errs []error
	for _, id := range ids {
		errs = append(errs, e.removeContainer(ctx, id))
	}
	return errors.Join(errs...)
}

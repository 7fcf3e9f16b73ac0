package container

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/decompress"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sandbox"
	"github.com/kimg/kimg/internal/units"
)

// buildCaps are the capabilities of a RUN: what Docker gives it, without those that are for networks and logs.
var buildCaps = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "SETFCAP", "SETGID", "SETPCAP",
	"SETUID", "SYS_CHROOT"}

// maxDockerfile bounds a Dockerfile, in bytes.
const maxDockerfile = 1 << 20

// contextFile is the build's context, in the entry of an image that is being made.
const contextFile = "context.tar"

// Build runs all of a recipe in one copy of its base: there are no layers, and no image of half a build.
func (e *embedded) Build(ctx context.Context, spec BuildSpec) error {
	body := acquire(spec.Context)
	defer body.release()
	err := ctx.Err()
	if err == nil {
		err = e.build(ctx, spec, body)
	}
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad
	}
	return fault(ctx, "build image "+spec.Tag, err)
}

func (e *embedded) build(ctx context.Context, spec BuildSpec, body io.Reader) (err error) {
	log := spec.Log
	if log == nil {
		log = io.Discard
	}
	c, err := e.claim(images)
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, e.drop(ctx, c))
		}
	}()
	sum, err := spool(filepath.Join(c.path, contextFile), reading.Until(ctx, body))
	if err != nil {
		return err
	}
	text, err := fromTar(filepath.Join(c.path, contextFile), spec.Dockerfile)
	if err != nil {
		return err
	}
	recipe, err := parseDockerfile(text, spec.Target, spec.Args)
	if err != nil {
		return err
	}
	baseID, base, err := e.useImage(ctx, recipe.base)
	if err != nil {
		return err
	}
	defer base.release()
	id := imageID(baseID, recipe, spec, sum)

	unlock, err := filelock.Take(ctx, filepath.Join(e.dir, locks, string(id)), func() {
		fmt.Fprintln(log, "Waiting for another process that builds this image")
	})
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := e.use(ctx, e.imagePath(id)); err == nil {
		defer there.release()
		fmt.Fprintf(log, "The image is there already\n")
		return e.write(e.refPath(spec.Tag), []byte(id))
	}
	fmt.Fprintf(log, "Step 1/%d : FROM %s\n ---> %s\n", recipe.count(), recipe.base, baseID.Short())
	root := filepath.Join(c.path, rootDir)
	if err := sandbox.Copy(ctx, e.ids, filepath.Join(base.path, rootDir), root); err != nil {
		return err
	}
	if err := e.follow(ctx, recipe, root, filepath.Join(c.path, contextFile), spec.Args, log); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(c.path, contextFile)); err != nil {
		return err
	}
	kept = true
	if err := e.keepImage(ctx, c, id, spec.Tag, spec.Labels); err != nil {
		return err
	}
	_, err = fmt.Fprintf(log, "Successfully built %s\nSuccessfully tagged %s\n", id.Short(), spec.Tag)
	return err
}

// imageID names an image by all that it is made of.
func imageID(base units.Digest, r *recipe, spec BuildSpec, context units.Digest) units.Digest {
	var steps [][]string
	for _, stage := range r.stages {
		lines := []string{}
		for _, i := range stage {
			lines = append(lines, i.String())
		}
		steps = append(steps, lines)
	}
	b, _ := json.Marshal([]any{"image 1", base, steps, spec.Args, spec.Labels, context}) // all of it can be
	return units.DigestOf(b)
}

// follow does the steps of a recipe in the tree root.
func (e *embedded) follow(ctx context.Context, r *recipe, root, file string, given map[string]string, log io.Writer) (
	err error) {
	box, err := sandbox.Start(ctx, sandbox.Config{IDs: e.ids, Root: root})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	step := 1
	for _, stage := range r.stages {
		args := map[string]string{}
		for _, i := range stage {
			step++
			if _, err := fmt.Fprintf(log, "Step %d/%d : %s\n", step, r.count(), i); err != nil {
				return err
			}
			switch i.name {
			case "ARG":
				r.used[i.declare(given, args)] = true
			case "COPY":
				err = copyStep(ctx, box, i, args, file)
			case "RUN":
				err = runStep(ctx, box, i, args, log)
			}
			if err != nil {
				return err
			}
		}
	}
	for name := range given {
		if !r.used[name] {
			fmt.Fprintf(log, "[Warning] The argument %s was not consumed\n", name)
		}
	}
	return nil
}

func runStep(ctx context.Context, box *sandbox.Sandbox, i instruction, env map[string]string, log io.Writer) error {
	p := sandbox.Process{Args: i.argv(), Env: []string{defaultPath, "HOME=/root"}, User: "0:0", Caps: buildCaps}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		p.Env = append(p.Env, name+"="+env[name])
	}
	j, err := startJob(ctx, box, p, streams{stdout: log, stderr: log}, box.KillAll)
	if err != nil {
		return err
	}
	status, err := j.wait(box.KillAll)
	if err == nil && status != 0 {
		err = fmt.Errorf("the command '%s' returned a non-zero code: %d", strings.Join(i.argv(), " "), status)
	}
	return err
}

// copyStep is COPY: files of the context, and what is in directories of it, become root's.
func copyStep(
	ctx context.Context, box *sandbox.Sandbox, i instruction, env map[string]string, file string,
) error {
	text, err := expand(i, i.rest, env)
	if err != nil {
		return err
	}
	f := strings.Fields(text)
	if len(f) < 2 || strings.HasPrefix(text, "[") || len(f) > 2 && !strings.HasSuffix(f[len(f)-1], "/") {
		return i.errorf("want COPY SOURCE DESTINATION or COPY SOURCE... DIRECTORY/, not %q", i)
	}
	sources, to := f[:len(f)-1], f[len(f)-1]
	return reading.Pipe(func(w io.Writer) error {
		return selectFrom(file, sources, to, w)
	}, func(r io.Reader) error {
		return box.Unpack(ctx, "/", r)
	})
}

// selectFrom writes a tar of what COPY takes from the context, under the names that it gives.
func selectFrom(file string, sources []string, to string, w io.Writer) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	found := map[string]bool{}
	name := func(h string) (string, bool) {
		h = path.Join("/", h)
		for _, s := range sources {
			from := path.Join("/", s)
			switch rest, below := strings.CutPrefix(h, strings.TrimSuffix(from, "/")+"/"); {
			case below:
				found[s] = true
				return path.Join("/", to, rest)[1:], true
			case h == from && strings.HasSuffix(to, "/"):
				found[s] = true
				return path.Join("/", to, path.Base(h))[1:], true
			case h == from:
				found[s] = true
				return path.Join("/", to)[1:], true
			}
		}
		return "", false
	}
	tw := tar.NewWriter(w)
	for tr := tar.NewReader(bufio.NewReaderSize(in, 1<<20)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		to, ok := name(h.Name)
		if !ok || h.Typeflag == tar.TypeDir && slices.ContainsFunc(sources, func(s string) bool {
			return path.Join("/", s) == path.Join("/", h.Name) // the destination stays what it is
		}) {
			continue
		}
		h.Name = to
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, ok = name(h.Linkname); !ok {
				return fmt.Errorf("COPY %s: it is a link to what is not copied", to)
			}
		}
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
	for _, s := range sources {
		if !found[s] {
			return fmt.Errorf("COPY failed: %s is not in the build context", s)
		}
	}
	return tw.Close()
}

// spool keeps a tar in a file, without its compression, and returns the file's digest.
func spool(file string, from io.Reader) (units.Digest, error) {
	plain, err := plainTar(from)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), plain)
	return units.DigestSum(sum), errors.Join(err, f.Close())
}

// plainTar undoes a tar's compression.
func plainTar(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(decompress.HeadSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	suffix, _ := decompress.Suffix(head)
	return decompress.NewReader(b, suffix)
}

// fromTar returns the Dockerfile from a context.
func fromTar(file, name string) (string, error) {
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close()
	if name == "" {
		name = "Dockerfile"
	}
	for tr := tar.NewReader(bufio.NewReaderSize(in, 1<<20)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return "", fmt.Errorf("the build context has no dockerfile %s", name)
		}
		if err != nil {
			return "", fmt.Errorf("read build context: %w", err)
		}
		if path.Join("/", h.Name) == path.Join("/", name) && h.Typeflag == tar.TypeReg {
			b, err := io.ReadAll(reading.Bounded(tr, maxDockerfile, errors.New("the dockerfile is too large")))
			return string(b), err
		}
	}
}

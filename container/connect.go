package container

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The engines that a Choice names.
const (
	AutoEngine     = "auto"     // the first of the two that answers
	DockerEngine   = "docker"   // the Docker Engine API, which Podman's service answers to as well
	EmbeddedEngine = "embedded" // kimg's own: no daemon and no root
)

// EngineNames are all names that a Choice may have.
var EngineNames = []string{AutoEngine, EmbeddedEngine, DockerEngine}

// Choice says which engine is wanted.
type Choice struct {
	Engine string // one of EngineNames; empty: AutoEngine
	Dir    string // the embedded engine's images and volumes; empty: kimg/engine in the user's cache directory
}

// Connect is Choice.Connect of the zero Choice.
func Connect(ctx context.Context) (Engine, error) { return Choice{}.Connect(ctx) }

// Connect finds an engine. AutoEngine is the one that DOCKER_HOST or the Docker context in use names, else the first
// of the usual sockets that answers, else the embedded one. An engine that was named and does not answer is not
// replaced by another. The error is a *ConnectError.
func (c Choice) Connect(ctx context.Context) (Engine, error) {
	list, err := c.candidates(os.Getenv)
	if err != nil {
		return nil, err
	}
	failed := &ConnectError{kind: ErrNoEngine}
	for _, at := range list {
		e, err := at.open(ctx)
		if own, ok := e.(*embedded); ok && err == nil {
			own.warnOf(failed.Tried)
		}
		if err == nil {
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, fault(ctx, "connect to a container engine", err)
		}
		failed.Tried = append(failed.Tried, Attempt{Host: at.String(), Err: err})
		switch {
		case at.dir != "": // and it needs nobody's permission
			failed.kind = ErrNoEngine
		case errors.Is(err, fs.ErrPermission):
			failed.kind = ErrPermission
		}
	}
	return nil, failed
}

// warnOf warns of engines that are there and do not answer: they may have been meant.
func (e *embedded) warnOf(tried []Attempt) {
	for _, a := range tried {
		if !errors.Is(a.Err, errNoSocket) && !errors.Is(a.Err, fs.ErrPermission) {
			e.info.Warnings = append(e.info.Warnings, fmt.Sprintf("%s: %v: the embedded engine is used", a.Host, a.Err))
		}
	}
}

// Found is an engine that was looked for.
type Found struct {
	Attempt
	Info Info // where Err is nil
	Used bool // it is the one that Connect returns
}

// Look tries every engine that there may be, and not only up to the first that answers. The embedded engine is among
// them even where another one is named.
func (c Choice) Look(ctx context.Context) ([]Found, error) {
	list, err := c.candidates(os.Getenv)
	if err != nil {
		return nil, err
	}
	chosen := len(list)
	for _, other := range (Choice{Dir: c.Dir}).usual(os.Getenv) {
		if !slices.ContainsFunc(list, func(at endpoint) bool { return at.host == other.host }) {
			list = append(list, other)
		}
	}
	var all []Found
	used := false
	for i, at := range list {
		f := Found{Attempt: Attempt{Host: at.String()}}
		var e Engine
		if e, f.Err = at.open(ctx); f.Err == nil {
			f.Info, f.Used = e.Info(), i < chosen && !used
			used = used || f.Used
			f.Err = e.Close()
		}
		if ctx.Err() != nil {
			return nil, fault(ctx, "look for container engines", ctx.Err())
		}
		all = append(all, f)
	}
	return all, nil
}

// ConnectError says which engines were tried. It is ErrPermission when one of
// them was there and refused this user, and else ErrNoEngine.
type ConnectError struct {
	Tried []Attempt
	kind  error
}

// Attempt is one engine that was tried.
type Attempt struct {
	Host string // an address, and in parentheses where it comes from
	Err  error
}

func (e *ConnectError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connect to a container engine: %v", e.kind)
	for _, a := range e.Tried {
		fmt.Fprintf(&b, "\n  %s: %v", a.Host, a.Err)
	}
	return b.String()
}

func (e *ConnectError) Unwrap() error { return e.kind }

// Hint says what the user can do about it.
func (e *ConnectError) Hint() string {
	const rootless = `without root's rights, use rootless Podman: "systemctl --user enable --now podman.socket", ` +
		`once an administrator has installed it (on Debian and Ubuntu: "apt install podman uidmap")`
	const install = `have one installed (on Debian and Ubuntu: "sudo apt install docker.io"), ` +
		`or name one that runs elsewhere in DOCKER_HOST`
	if len(e.Tried) == 1 {
		return e.Tried[0].Hint()
	}
	var hints []string
	for _, a := range slices.Backward(e.Tried) { // the embedded engine takes the least
		if h := a.Hint(); h != "" && !slices.Contains(hints, h) {
			hints = append(hints, h)
		}
	}
	if e.kind == ErrNoEngine {
		hints = append(hints, install)
	}
	hints = append(hints, rootless)
	return strings.Join(hints, "; or ")
}

// Hint says what the user can do to have this engine.
func (a Attempt) Hint() string {
	var own interface{ Hint() string }
	switch {
	case errors.As(a.Err, &own):
		return own.Hint()
	case errors.Is(a.Err, fs.ErrPermission):
		return `add yourself to the engine's group ("sudo usermod -aG docker $USER", then log in again), ` +
			`which equals giving yourself root`
	case errors.Is(a.Err, errAddress):
		return "want ssh://[USER@]HOST[:PORT][/SOCKET]"
	case strings.HasPrefix(a.Host, "ssh://"):
		return `"ssh [USER@]HOST docker version" has to work without asking for a password`
	case noAddress(a.Host) != "":
		return "write it as an address: " + noAddress(a.Host)
	case strings.HasSuffix(a.Host, ")"): // it was named
		return "start it" + starter(a.Host) + ", or unset what names it"
	}
	return ""
}

// noAddress is how a host is written that is no address as Docker's client wants it; empty: it is one, or is like none.
func noAddress(host string) string {
	host, _, _ = strings.Cut(host, " (")
	scheme, rest, ok := strings.Cut(host, "://")
	switch {
	case strings.HasPrefix(host, "/"):
		return "unix://" + host
	case strings.HasPrefix(host, "unix:/") && !ok:
		return "unix://" + strings.TrimPrefix(host, "unix:")
	case scheme == "unix" && ok && rest != "" && !strings.HasPrefix(rest, "/"):
		return "unix:///" + rest
	case !ok && hostPort.MatchString(host):
		return "tcp://" + host
	case !ok || scheme == "fd":
		return "unix:///SOCKET, tcp://HOST:PORT or ssh://USER@HOST"
	}
	return ""
}

// hostPort matches an address of the network without its scheme.
var hostPort = regexp.MustCompile(`^[A-Za-z0-9.-]+:\d+$`)

// starter is how the service of a usual socket is started, in parentheses; empty: not known.
func starter(host string) string {
	path, local := strings.CutPrefix(host, "unix://")
	path, _, _ = strings.Cut(path, " (")
	unit, ok := map[string]string{"docker.sock": "docker", "podman.sock": "podman.socket"}[filepath.Base(path)]
	switch {
	case !local || !ok:
		return ""
	case strings.HasPrefix(path, "/run/user/") || strings.HasPrefix(path, os.Getenv("HOME")+"/"):
		return fmt.Sprintf(` ("systemctl --user start %s")`, unit)
	}
	return fmt.Sprintf(` ("sudo systemctl start %s")`, unit)
}

// endpoint is an engine that may be there.
type endpoint struct {
	host string
	from string // what names it; empty for a usual socket
	tls  string // a directory with ca.pem, cert.pem and key.pem; empty: none
	dir  string // the embedded engine's; empty: host is a Docker Engine API's
}

func (at endpoint) String() string {
	if at.from == "" {
		return at.host
	}
	return at.host + " (" + at.from + ")"
}

func (at endpoint) open(ctx context.Context) (Engine, error) {
	if at.dir != "" {
		return Embedded(ctx, at.dir)
	}
	e, err := dial(ctx, at)
	if err != nil {
		return nil, err // and no *docker that is nil
	}
	return e, nil
}

// candidates lists what Connect is to try, best first.
func (c Choice) candidates(getenv func(string) string) ([]endpoint, error) {
	switch c.Engine {
	case EmbeddedEngine:
		list := c.usual(getenv)
		return list[len(list)-1:], nil
	case "", AutoEngine, DockerEngine:
	default:
		return nil, fmt.Errorf("there is no engine %q: want one of %s", c.Engine, strings.Join(EngineNames, ", "))
	}
	at, named, err := namedEndpoint(getenv, dockerConfigDir(getenv))
	if err != nil || named {
		return []endpoint{at}, err
	}
	list := c.usual(getenv)
	if c.Engine == DockerEngine {
		list = list[:len(list)-1]
	}
	return list, nil
}

// usual lists the engines that nothing has to name: the usual sockets, and the embedded one at the end.
func (c Choice) usual(getenv func(string) string) []endpoint {
	runtime := cmp.Or(getenv("XDG_RUNTIME_DIR"), fmt.Sprint("/run/user/", os.Getuid()))
	var list []endpoint
	for _, sock := range []string{
		"/var/run/docker.sock",
		runtime + "/docker.sock",                    // rootless Docker
		getenv("HOME") + "/.docker/run/docker.sock", // Docker Desktop
		runtime + "/podman/podman.sock",             // rootless Podman
		"/run/podman/podman.sock",
	} {
		list = append(list, endpoint{host: "unix://" + sock})
	}
	return append(list, endpoint{host: EmbeddedEngine, dir: c.dir()})
}

func (c Choice) dir() string {
	if c.Dir != "" {
		return c.Dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "kimg", "engine")
}

// namedEndpoint is the engine that DOCKER_HOST or a Docker context names.
func namedEndpoint(getenv func(string) string, config string) (at endpoint, named bool, err error) {
	if h := getenv("DOCKER_HOST"); h != "" {
		at := endpoint{host: h, from: "DOCKER_HOST"}
		if getenv("DOCKER_TLS_VERIFY") != "" || getenv("DOCKER_TLS") != "" {
			at.tls = cmp.Or(getenv("DOCKER_CERT_PATH"), config)
		}
		return at, true, nil
	}
	return contextEndpoint(getenv, config)
}

func dockerConfigDir(getenv func(string) string) string {
	return cmp.Or(getenv("DOCKER_CONFIG"), filepath.Join(getenv("HOME"), ".docker"))
}

// contextEndpoint reads the Docker command's own choice of an engine ("docker
// context use"). Source: the layout of docker/cli's cli/context/store.
func contextEndpoint(getenv func(string) string, config string) (at endpoint, named bool, err error) {
	name := getenv("DOCKER_CONTEXT")
	from := "DOCKER_CONTEXT"
	if name == "" {
		from = filepath.Join(config, "config.json")
		var file struct {
			CurrentContext string `json:"currentContext"`
		}
		b, err := os.ReadFile(from)
		if err == nil {
			err = inWords(json.Unmarshal(b, &file))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return endpoint{}, false, &ContextError{From: from, Err: err}
		}
		name = file.CurrentContext
	}
	if name == "" || name == "default" {
		return endpoint{}, false, nil
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	b, err := os.ReadFile(filepath.Join(config, "contexts", "meta", id, "meta.json"))
	if err == nil {
		err = inWords(json.Unmarshal(b, &meta))
	}
	if err == nil && meta.Endpoints["docker"].Host == "" {
		err = errors.New("it names no host")
	}
	if err != nil {
		return endpoint{}, false, &ContextError{Name: name, From: from, Err: err}
	}
	at = endpoint{host: meta.Endpoints["docker"].Host, from: "docker context " + name}
	if dir := filepath.Join(config, "contexts", "tls", id, "docker"); isDir(dir) {
		at.tls = dir
	}
	return at, true, nil
}

// ContextError says that the Docker context in use cannot be read. It is ErrNoEngine.
type ContextError struct {
	Name string // empty: the file that would name it cannot be read
	From string // what names it: a file or a variable
	Err  error
}

func (e *ContextError) Error() string {
	switch {
	case e.Name == "":
		return fmt.Sprintf("read which docker context is in use, in %s: %v", e.From, e.Err)
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("docker context %q, which %s names, does not exist", e.Name, e.From)
	}
	return fmt.Sprintf("read docker context %q, which %s names: %v", e.Name, e.From, e.Err)
}

// inWords is an error of reading JSON without Go's types.
func inWords(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return fmt.Errorf("%s is a %s there: want a text", kind.Field, kind.Value)
	case err != nil:
		return fmt.Errorf("it is no JSON, or cut short: %w", err)
	}
	return nil
}

func (e *ContextError) Unwrap() []error { return []error{ErrNoEngine, e.Err} }

// Hint says what the user can do about it.
func (e *ContextError) Hint() string {
	if e.Name == "" {
		return "mend that file, or name the engine in DOCKER_HOST or --engine"
	}
	return `"docker context ls" lists those that there are; "docker context use default" takes this machine's engine`
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

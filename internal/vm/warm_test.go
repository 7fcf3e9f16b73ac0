package vm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm/kept"
)

// qemuSpy is a toolbox whose QEMUs end at once. It has their command lines.
type qemuSpy struct {
	waitsForInput
	image string
	dir   string // of this machine, for sockets
	argv  [][]string
	kept  []toolbox.Mounts
}

func (q *qemuSpy) QEMU() (file, image string) { return "", q.image }

func (q *qemuSpy) Open(_ context.Context, m toolbox.Mounts) (*toolbox.Tools, error) {
	q.kept = append(q.kept, m)
	t := &toolbox.Tools{Dir: "/out", Sockets: "/run/kimg", RunDir: q.dir, Accel: qemu.TCG, Isolated: true, Runner: q}
	if m.Keep {
		t.Memory = t.Socket("ram")
	}
	if m.Kept != "" {
		t.Kept = "/kept"
	}
	return t, nil
}

func (q *qemuSpy) Start(_ context.Context, p toolbox.Program) (func() error, error) {
	q.argv = append(q.argv, p.Args)
	_, _ = io.WriteString(p.Stderr, "it ended\n")
	return func() error { return errors.New("ended") }, nil
}

// warmOptions are those of a guest that can be kept.
func warmOptions(t *testing.T) (Options, *qemuSpy) {
	t.Helper()
	if qemu.ProbeKVM(arch.Default) == nil {
		t.Skip("the spy emulates, and this machine need not")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		artifact.Config: "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=y\nCONFIG_VIRTIO_CONSOLE=y\n" +
			"CONFIG_EXT4_FS=y\nCONFIG_BINFMT_ELF=y\n" +
			"CONFIG_VMGENID=y\nCONFIG_9P_FS=y\nCONFIG_NET_9P=y\nCONFIG_NET_9P_VIRTIO=y\n",
		artifact.KernelImage(arch.Default): "kernel", artifact.Disk: "disk",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q := &qemuSpy{image: "imaging-1", dir: t.TempDir()}
	keys, err := LoadKeys(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: dir, Toolbox: q, KeepItself: true, Kept: filepath.Join(t.TempDir(), "guests"), Keys: keys}, q
}

func (o Options) testKey(t *testing.T) string {
	t.Helper()
	config, err := ReadConfig(filepath.Join(o.Dir, artifact.Config))
	if err != nil {
		t.Fatal(err)
	}
	reads, err := o.keptReads(config, qemu.TCG)
	if err != nil {
		t.Fatal(err)
	}
	return kept.Key(reads)
}

// What a guest that boots depends on is in its key; what is only about one run is not. A new option must be put on
// one of the two sides.
func TestKeyHasAllOptions(t *testing.T) {
	base, _ := warmOptions(t)
	same := base.testKey(t)
	otherKeys, err := LoadKeys(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(base.Dir)); err != nil {
		t.Fatal(err)
	}
	inKey := map[string]func(*Options){
		"Dir":     func(o *Options) { o.Dir = copied },
		"Arch":    func(o *Options) { o.Arch = arch.Default; o.Arch.CPU = "qemu64" },
		"Toolbox": func(o *Options) { o.Toolbox = &qemuSpy{image: "imaging-2"} },
		"Memory":  func(o *Options) { o.Memory = units.Size(512 << 20) },
		"CPUs":    func(o *Options) { o.CPUs = 2 },
		"Append":  func(o *Options) { o.Append = "quiet" },
		"Direct":  func(o *Options) { o.Direct = true },
		"Session": func(o *Options) { o.Direct, o.Session = true, "sh" },
		"Network": func(o *Options) { o.Network.Mode = NoNet },
		"Keys":    func(o *Options) { o.Keys = otherKeys },
		"form":    func(o *Options) { o.form = form.Squashfs },

		"use":      func(o *Options) { o.use = ForDebug },
		"terminal": func(o *Options) { o.terminal.Term = "xterm" },
	}
	apart := map[string]string{
		"Write": "it boots", "Snapshot": "it boots", "Shares": "it boots", "QEMU": "it boots",
		"User": "of the run", "Console": "of the run", "Say": "of the run", "alone": "of the run", "took": "of the run",
		"Later": "it makes one", "KeepItself": "it makes one", "Cold": "it boots",
		"Kept": "where it is kept", "Watch": "a kept guest's boot is told again",
	}
	seen := map[string]string{same: "the base"}
	for i := range reflect.TypeFor[Options]().NumField() {
		name := reflect.TypeFor[Options]().Field(i).Name
		change := inKey[name]
		if (change == nil) == (apart[name] == "") {
			t.Errorf("%s: is it in the key?", name)
		}
		if change == nil {
			continue
		}
		o := base
		change(&o)
		key := o.testKey(t)
		if other := seen[key]; other != "" {
			t.Errorf("%s: the key is that of %s", name, other)
		}
		seen[key] = name
	}
	o := base
	o.Network.Forwards = []qemu.Forward{{Host: 2222, Guest: 22}}
	o.Network.Mode = UserNet
	if o.testKey(t) != same {
		t.Error("a forward makes it another guest")
	}
	for _, name := range []string{artifact.Disk, artifact.KernelImage(arch.Default)} {
		if err := os.WriteFile(filepath.Join(base.Dir, name), []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
		if key := base.testKey(t); seen[key] != "" {
			t.Errorf("with another %s the key is that of %s", name, seen[key])
		} else {
			seen[key] = name
		}
	}
}

var hostSide = regexp.MustCompile(`,hostfwd=[^,]*`)

// plainArgv is a command line without what the key leaves out.
func plainArgv(argv []string) []string {
	var list []string
	for _, arg := range argv {
		arg = strings.NewReplacer("/run/kimg/", "", "/out/", "/").Replace(hostSide.ReplaceAllString(arg, ""))
		list = append(list, arg)
	}
	return list
}

// The machine that is made is the one that the key describes.
func TestKeptMachineIsTheOneThatBoots(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"systemd": func(*Options) {}, "direct": func(o *Options) { o.Direct = true },
		"no ssh": func(o *Options) { o.Keys = nil },
		"no net": func(o *Options) { o.Network.Mode = NoNet },
		"forward": func(o *Options) {
			o.Network = Network{Mode: UserNet, Forwards: []qemu.Forward{{Host: 0, Guest: 80}}}
		},
	} {
		o, q := warmOptions(t)
		change(&o)
		config, err := ReadConfig(filepath.Join(o.Dir, artifact.Config))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Exec(t.Context(), o, []string{"true"}); err == nil {
			t.Fatalf("%s: a QEMU that ended ran a command", name)
		}
		if len(q.argv) != 1 || !q.kept[0].Keep {
			t.Fatalf("%s: %d starts, %+v", name, len(q.argv), q.kept)
		}
		if diff := cmp.Diff(o.keptMachine(config, qemu.TCG).Argv(), plainArgv(q.argv[0])); diff != "" {
			t.Errorf("%s: the key's machine, and the one that boots:\n%s", name, diff)
		}
		if left, _ := os.ReadDir(filepath.Join(o.Kept, "growing")); len(left) > 0 {
			t.Errorf("%s: left: %v", name, left)
		}
	}
}

// A kept guest that cannot be used is dropped, and the guest boots.
func TestUnusableKeptGuest(t *testing.T) {
	o, q := warmOptions(t)
	var said []string
	var watched bytes.Buffer
	o.Say, o.Watch = func(text string) { said = append(said, text) }, &watched
	key := o.testKey(t)
	p, err := kept.Store(o.Kept).Make(key, kept.Maker{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{kept.RAM, kept.Devices, kept.Disk} {
		if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err = p.Commit(t.Context(), kept.About{QEMU: qemu.Version{Major: 10}}, []byte("WARNING: of its boot\n"))
	if err := errors.Join(err, p.Close()); err != nil {
		t.Fatal(err)
	}
	var stale *staleError
	if _, err := Exec(t.Context(), o, []string{"true"}); err == nil || errors.As(err, &stale) {
		t.Fatalf("%v is for no user's eyes", err)
	}
	if len(q.argv) != 2 {
		t.Fatalf("%d starts, want the kept one and one that boots", len(q.argv))
	}
	first := strings.Join(q.argv[0], " ")
	for _, want := range []string{
		"-incoming defer", "mem-path=/kept/ram,readonly=on", "file=/kept/disk.qcow2,backing",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("the first QEMU lacks %s: %s", want, first)
		}
	}
	if slices.Contains(q.argv[1], "-incoming") || strings.Contains(strings.Join(q.argv[1], " "), "memory-backend") {
		t.Errorf("the second one does not boot: %q", q.argv[1])
	}
	if q.kept[0].Kept == "" || q.kept[0].Keep || q.kept[1].Kept != "" {
		t.Errorf("the tools saw %+v", q.kept)
	}
	if watched.Len() > 0 { // the guest that boots instead tells its own
		t.Errorf("the boot of one that does not go on is told: %q", watched.String())
	}
	if _, ok := kept.Store(o.Kept).Find(key); ok {
		t.Error("it is still kept")
	}
	if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "cannot be used") }) {
		t.Errorf("said %q", said)
	}
}

// What keeps the guest's writes, or is connected with this machine, boots.
func TestGuestsThatBoot(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"cold":     func(o *Options) { o.Cold = true },
		"no cache": func(o *Options) { o.Kept = "" },
		"write":    func(o *Options) { o.Write = true },
		"snapshot": func(o *Options) { o.Snapshot = "a" },
		"share":    func(o *Options) { o.Shares = []Share{{Dir: os.TempDir(), Path: "/mnt/a"}} },
		"qemu-arg": func(o *Options) { o.QEMU = []string{"-s"} },
		"remote":   func(o *Options) { o.Toolbox.(*qemuSpy).image = "" },
	} {
		o, q := warmOptions(t)
		change(&o)
		_, _ = Exec(t.Context(), o, []string{"true"})
		if len(q.kept) != 1 || len(q.argv) == 0 || q.kept[0].Kept != "" || slices.Contains(q.argv[0], "-object") {
			t.Errorf("%s: %q", name, q.argv)
		}
	}
}

// A guest that another process only boots to keep it is waited for where that takes less than half a boot.
func TestWaitsForAGuest(t *testing.T) {
	const usual = 10 * time.Second
	begun := time.Now().Add(-12 * time.Second)
	for name, tt := range map[string]struct {
		by    kept.Maker
		alone bool
		waits bool
	}{
		"just begun":       {by: kept.Maker{Aside: true, Boot: usual}},
		"about to be done": {by: kept.Maker{Aside: true, Boot: usual, Began: begun}, waits: true},
		"nobody knows":     {by: kept.Maker{Aside: true, Began: begun}},
		"it has a command": {by: kept.Maker{Boot: usual, Began: begun}},
		"by another such":  {by: kept.Maker{Aside: true, Boot: usual, Began: begun}, alone: true},
	} {
		o, store := Options{alone: tt.alone}, kept.Store(t.TempDir())
		p, err := store.Make("a", tt.by)
		if err != nil {
			t.Fatal(err)
		}
		o.Say = func(text string) {
			if !tt.waits {
				t.Errorf("%s: %s", name, text)
			}
			go func() {
				for _, file := range []string{kept.RAM, kept.Devices, kept.Disk} {
					_ = os.WriteFile(filepath.Join(p.Dir, file), []byte(file), 0o600)
				}
				_ = p.Commit(context.Background(), kept.About{}, nil)
			}()
		}
		if _, ok, err := o.find(t.Context(), store, "a"); ok != tt.waits || err != nil {
			t.Errorf("%s: found %v, %v", name, ok, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	// One that is given up is waited for no longer.
	store := kept.Store(t.TempDir())
	p, err := store.Make("a", kept.Maker{Aside: true, Boot: time.Hour, Began: time.Now().Add(-75 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Say: func(string) { _ = p.Close() }}
	if _, ok, err := o.find(t.Context(), store, "a"); ok || err != nil {
		t.Errorf("given up: %v, %v", ok, err)
	}
}

// Without KeepItself a guest boots as one that has nothing to do with kept ones, and what is used of it is none.
func TestKeptLater(t *testing.T) {
	o, q := warmOptions(t)
	o.KeepItself = false
	_, _ = Exec(t.Context(), o, []string{"true"})
	if len(q.argv) != 1 || q.kept[0].Kept != "" || slices.Contains(q.argv[0], "-object") {
		t.Errorf("%q", q.argv)
	}
	config, err := ReadConfig(filepath.Join(o.Dir, artifact.Config))
	if err != nil {
		t.Fatal(err)
	}
	o.use = ForCommand
	var made []Keeping
	o.Later = func(_ Options, k Keeping) { made = append(made, k) }
	leave := func(rests bool) {
		k, err := o.keeping(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		(&instance{o: &o, keeping: k, rests: rests, took: time.Second, tools: &toolbox.Tools{}}).leave()
	}
	leave(false) // its agent is an old one
	if len(made) > 0 {
		t.Errorf("made: %+v", made)
	}
	leave(true)
	if want := []Keeping{{Use: ForCommand, Boot: time.Second}}; !slices.Equal(made, want) {
		t.Errorf("made: %+v", made)
	}
	store, key := kept.Store(o.Kept), o.testKey(t)
	p, err := store.Make(key, kept.Maker{})
	if err != nil {
		t.Fatal(err)
	}
	leave(true) // it is being made
	if err := errors.Join(p.Close(), store.Refuse(key, "no room")); err != nil {
		t.Fatal(err)
	}
	leave(true) // nor can it be
	o.Cold = true
	leave(true)
	if len(made) != 1 {
		t.Errorf("made: %+v", made)
	}
}

// What only boots a guest to keep it notes that it could not, and leaves nothing.
func TestKeepThatFails(t *testing.T) {
	o, q := warmOptions(t)
	if err := Keep(t.Context(), o, Keeping{Use: ForCommand}); err == nil {
		t.Error("a QEMU that ended was kept")
	}
	if len(q.argv) != 1 || !slices.Equal(q.argv[0][:3], []string{"nice", "-n", "5"}) {
		t.Errorf("%q", q.argv)
	}
	config, err := ReadConfig(filepath.Join(o.Dir, artifact.Config))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o.keptMachine(config, qemu.TCG).Argv(), plainArgv(q.argv[0][3:])); diff != "" {
		t.Errorf("the key's machine, and the one that boots:\n%s", diff)
	}
	if !kept.Store(o.Kept).Refused(o.testKey(t)) {
		t.Error("it would be tried again at once")
	}
	if left, _ := os.ReadDir(filepath.Join(o.Kept, "growing")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What only keeps a guest waits for another that makes it, and makes it itself where that one gave up.
func TestKeepWaits(t *testing.T) {
	o, q := warmOptions(t)
	other, err := kept.Store(o.Kept).Make(o.testKey(t), kept.Maker{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Keep(t.Context(), o, Keeping{Use: ForCommand}) }()
	select {
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || len(q.argv) != 1 {
		t.Errorf("%v, after %d boots of a QEMU that ends", err, len(q.argv))
	}
}

// Nowhere to keep a guest is an error for what only keeps one; a command is run nevertheless.
func TestKeepNowhere(t *testing.T) {
	o, q := warmOptions(t)
	if err := os.WriteFile(o.Kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Keep(t.Context(), o, Keeping{Use: ForCommand}); err == nil || len(q.argv) > 0 {
		t.Errorf("%v; it booted: %q", err, q.argv)
	}
}

// The console of a kept guest is told to a report, and its last line to a person.
func TestRecall(t *testing.T) {
	var screen, watched bytes.Buffer
	c := &tail{also: &screen, watch: &watched}
	c.recall([]byte("Linux\r\nlogin\r\nroot@kimg:~# "), true)()
	_, _ = c.Write([]byte("ls\r\n"))
	if screen.String() != "root@kimg:~# ls\r\n" || watched.String() != "Linux\r\nlogin\r\nroot@kimg:~# ls\r\n" {
		t.Errorf("the person saw %q, the report %q", screen.String(), watched.String())
	}
}

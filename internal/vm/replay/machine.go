// Package replay records guests and replays them, forwards and back: begin with [Record], [Verify] and [Debug]. What
// a recording has is in package recording.
//
// QEMU's record and replay bears one emulated processor and few devices, and a replay whose machine differs from the
// recording's in anything hangs without a word. So the machine is written in one place, [argv], from what the recording
// says; QEMU is the container's, by digest; and every file is compared before a replay starts.
package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
)

// shift makes an instruction 32 ns: with less, logs grow a hundredfold; with more, the guest's time runs away.
const shift = 5

// begin is the state of the guest that QEMU keeps when a recording begins.
const begin = "init"

// The sockets, and the second disk in the guest.
const (
	qmpSocket  = "qmp"
	gdbSocket  = "gdb"
	scriptDisk = "/dev/vdb"
)

// place is where QEMU finds and puts things.
type place struct {
	tools  *toolbox.Tools
	log    string
	disk   string // the overlay
	below  string // the qcow2 that it lies over; empty: none
	output string // a directory for the console and the command's output
	typed  string // what the console reads while it is recorded; empty: nothing
	from   string // the state to begin in; empty: this is the recording
	stub   bool   // gdb's
}

// argv is QEMU's command line. Nothing but the place may differ between a recording and its replays.
func argv(r *recording.Recording, p place) ([]string, error) {
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return nil, err
	}
	rr := qemu.Replay{Log: p.log, Shift: r.Shift, Snapshot: begin, Global: a.Recorded.Global, NoHPET: r.NoHPET}
	if p.from != "" {
		rr.Replay, rr.Snapshot = true, p.from
	}
	devices := []qemu.Device{
		qemu.Base{Machine: a.Machine}, rr, qemu.RNG{}, qemu.CPU{Model: a.CPU, Count: 1}, qemu.Memory(r.Memory),
		qemu.Kernel{Image: p.tools.Path(artifact.KernelImage(a)), Append: r.Append},
		qemu.ReplayDisk{Image: p.tools.Path(artifact.Disk), Overlay: p.disk, Below: p.below,
			Script: p.tools.Path(recording.Tape + "/" + recording.Script)},
	}
	if r.Card != "" {
		devices = append(devices, qemu.ReplayNet{Card: qemu.Card{Model: r.Card}})
	}
	devices = append(devices, qemu.SerialFiles{{Output: p.output + "/" + recording.Console, Input: p.typed},
		{Output: p.output + "/" + recording.Command, Device: a.Recorded.Device}},
		qemu.QMP{Socket: p.tools.Socket(qmpSocket)})
	args := qemu.Argv(a, devices...)
	switch {
	case p.stub:
		args = append(args, qemu.GDBStub{Socket: p.tools.Socket(gdbSocket)}.Args()...)
	case rr.Replay:
		args = append(args, "-S")
	}
	return args, nil
}

// RefusedError says what cannot be recorded.
type RefusedError struct{ What, Help string }

func (e *RefusedError) Error() string { return "record the guest: " + e.What }

// Hint says what can be done.
func (e *RefusedError) Hint() string { return e.Help }

// Check is an error, before anything is made, for options whose guest cannot be recorded: one that runs a command, or
// with console has the user at its serial console.
func Check(o *vm.Options, command []string, console bool) error {
	refuse := func(what, help string) error { return &RefusedError{what, help} }
	_, inContainer := o.Toolbox.(toolbox.Container)
	switch {
	case !inContainer:
		return refuse("a recording is bound to the QEMU of kimg's container", "KIMG_TOOLS=container has it used")
	case o.Arch.Or().Recorded.Port == "":
		return refuse(fmt.Sprintf("guests of %s cannot be recorded yet, those of %s can", o.Arch,
			strings.Join(recordable(), ", ")), "leave --record out")
	case len(command) == 0 && !console:
		return refuse("a recorded guest runs a command, and none is given",
			"kimg run --record NAME -- COMMAND; kimg debug --record NAME records the serial console")
	case o.CPUs > 1:
		return refuse("QEMU records one processor, and --cpus asks for more", "leave --cpus out")
	case len(o.Shares) > 0:
		return refuse("what is read from a shared directory is not in a recording", "leave --share out")
	case o.Network.Mode == vm.TAPNet:
		return refuse("what comes over a TAP is not in a recording", "use --net user or --net none")
	case len(o.Network.Forwards) > 0:
		return refuse("connections to a forwarded port are not in a recording", "leave --forward out")
	case o.Write || o.Snapshot != "":
		return refuse("a recording begins with the disk of the build, and keeps nothing else that is written to it",
			"leave --write and --snapshot out")
	case len(o.QEMU) > 0:
		return refuse("a device of --qemu-arg may not replay", "leave --qemu-arg out")
	}
	return nil
}

// recordable are the names of the architectures whose guests can be recorded.
func recordable() (names []string) {
	for _, a := range arch.All {
		if a.Recorded.Port != "" {
			names = append(names, a.Name)
		}
	}
	return names
}

// Ready is an error, before anything is made, where these options' guest or this build cannot be recorded.
func Ready(o *vm.Options, command []string) error {
	if err := Check(o, command, false); err != nil {
		return err
	}
	_, err := machineOf(o, Request{Command: command})
	return err
}

// ReadyConsole is as Ready, for a guest whose serial console the user has.
func ReadyConsole(o *vm.Options) error {
	err := Check(o, nil, true)
	if err == nil {
		_, err = machineOf(o, Request{})
	}
	return err
}

// machineOf is the machine of a new recording.
func machineOf(o *vm.Options, q Request) (recording.Recording, error) {
	m, config, err := vm.Describe(o.Dir)
	if err != nil {
		return recording.Recording{}, err
	}
	if m.Form.ReadOnly() {
		return recording.Recording{}, &RefusedError{
			fmt.Sprintf("it begins with a disk that can be written to, and the root filesystem of this build is %s",
				m.Form), "kimg build --fs ext4 makes one"}
	}
	has := func(symbol string) string { return config[symbol] }
	if lack := needs.Record(m.Arch.Recorded.Driver).Lack(has); lack != nil {
		return recording.Recording{}, &vm.MissingConfigError{Lack: *lack}
	}
	r := recording.Recording{Command: q.Command, Arch: m.Arch.Name, Memory: m.Memory, Shift: shift,
		NoHPET: m.Arch.Recorded.HPET}
	if o.Memory > 0 {
		r.Memory = o.Memory
	}
	if o.Network.Mode != vm.NoNet {
		r.Card = m.CardModel()
	}
	if q.Typed != nil {
		m.Kernel.Terminal = q.Typed.Terminal
	}
	words := []string{}
	switch timer := m.Arch.Recorded.Timer; {
	case q.APICTimer && timer == "":
		return r, &RefusedError{fmt.Sprintf("--record-apic-timer keeps a timer of processors of %s, and this guest is "+
			"of %s", arch.AMD64, m.Arch), "leave it out: other guests keep the timers that they have"}
	case !q.APICTimer && timer != "":
		words = append(words, timer)
	}
	if extra := strings.TrimSpace(o.Append); extra != "" {
		words = append(words, extra)
	}
	// The words for the first process end the kernel's own.
	m.Kernel.Extra = strings.Join(append(words, guest.RecordedWords(scriptDisk)), " ")
	r.Append = m.Kernel.String()
	if n, most := len(r.Append), m.Arch.Cmdline-1; n > most {
		return r, fmt.Errorf("record the guest: the kernel's command line has %d bytes, and the kernel takes %d: "+
			"use less --append", n, most)
	}
	return r, nil
}

// identify finds out which QEMU the tools have: its version, and one digest of it and of the ROMs that its guests use.
func identify(ctx context.Context, tools *toolbox.Tools, a arch.Arch) (recording.QEMU, error) {
	const script = `"$0" --version | head -n 1 && sha256sum "$(command -v "$0")" "$@"`
	out, err := output(ctx, tools,
		append([]string{"sh", "-c", script, a.QEMU}, strings.Fields(a.Recorded.ROMs)...)...)
	if err != nil {
		return recording.QEMU{}, fmt.Errorf("look at QEMU: %w", err)
	}
	version, sums, _ := strings.Cut(out, "\n")
	return recording.QEMU{
		Version: strings.TrimPrefix(version, "QEMU emulator version "), Digest: units.DigestOf([]byte(sums)),
	}, nil
}

// output runs a program to its end.
func output(ctx context.Context, tools *toolbox.Tools, args ...string) (string, error) {
	var said, errs bytes.Buffer
	wait, err := tools.Start(ctx, toolbox.Program{Args: args, Stdout: &said, Stderr: &errs})
	if err == nil {
		err = wait()
	}
	if err != nil {
		return "", errors.Join(err, errors.New(strings.TrimSpace(errs.String())))
	}
	return said.String(), nil
}

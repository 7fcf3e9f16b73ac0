package guest

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"strings"
)

//go:embed files/recorded
var recorded []byte

// agentMain is the line of the agent where its functions end.
const agentMain = "\nif [ \"${1-}\" = shares ]; then"

// ScriptBlock is what a disk with a script is a multiple of, in bytes.
const ScriptBlock = 4096

// RecordedWords are the last words on the command line of a kernel whose first process is to read its script from
// the disk: "--" ends the kernel's own.
func RecordedWords(disk string) string {
	return fmt.Sprintf(`init=/bin/sh -- -c "[ -b %s ] || mount -t devtmpfs none /dev; exec sh %[1]s"`, disk)
}

// Recorded is what a recorded guest does.
type Recorded struct {
	Disk    string // the device that its [Recorded.Image] is
	Serial  string // the device of the serial console: /dev/ttyS0
	Frames  string // that of the other serial port
	Script  string // a shell's
	Direct  bool   // it boots without systemd
	UserNet bool   // the network is QEMU's own
	Console bool   // the script has the serial console, as a login shell has, and no frames for its output
}

// Image is a disk that is a shell script. As the first process it boots the guest, and has it run Script once. To the
// port for Frames go lines "o N" and "e N", each a line with N bytes of output or of errors behind it, and at the
// end "x N", the status. Then the guest is powered off. A script without the Console has no input; before one with it
// reads, "l 0" is said.
//
// That needs no virtio-serial port, whose QEMU does not replay, and nothing of kimg's in the image.
func (r Recorded) Image() ([]byte, error) {
	functions, _, ok := strings.Cut(string(agent), agentMain)
	if !ok {
		return nil, fmt.Errorf("read the agent: it has no line %q", strings.TrimSpace(agentMain))
	}
	word := func(b bool) string {
		if b {
			return "1"
		}
		return ""
	}
	text := functions + fmt.Sprintf("\ndisk=%s serial=%s frames=%s direct=%s user_net=%s console=%s\ncommand=%s\n",
		r.Disk, r.Serial, r.Frames, word(r.Direct), word(r.UserNet), word(r.Console),
		base64.StdEncoding.EncodeToString([]byte(r.Script))) + string(recorded)
	rest := (ScriptBlock - len(text)%ScriptBlock) % ScriptBlock
	return []byte(text + strings.Repeat("\n", rest)), nil
}

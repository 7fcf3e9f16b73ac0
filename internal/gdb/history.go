package gdb

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/terminal"
)

// Back lets a guest that is replayed run backwards: the stop is the last of a breakpoint or watchpoint before, or its
// first instruction. [Debugger.AwaitStop] waits for it.
func (d *Debugger) Back(ctx context.Context) error {
	return d.resume(ctx, "-exec-continue --reverse")
}

// Step runs one instruction, or takes it back. [Debugger.AwaitStop] waits for the stop.
func (d *Debugger) Step(ctx context.Context, back bool) error {
	if back {
		return d.resume(ctx, "-exec-step-instruction --reverse")
	}
	return d.resume(ctx, "-exec-step-instruction")
}

func (d *Debugger) resume(ctx context.Context, command string) error {
	for len(d.stops) > 0 {
		<-d.stops
	}
	_, _, err := d.do(ctx, command)
	return err
}

// Watch stops the guest where it writes to the bytes at an address: 1, 2, 4 or 8.
func (d *Debugger) Watch(ctx context.Context, address uint64, size int) (Breakpoint, error) {
	kind := map[int]string{1: "char", 2: "short", 4: "int", 8: "long"}[size]
	if kind == "" {
		return Breakpoint{}, fmt.Errorf("watch %d bytes at %#x: want 1, 2, 4 or 8", size, address)
	}
	data, _, err := d.do(ctx, "-break-watch "+miQuote(fmt.Sprintf("*(unsigned %s *)%#x", kind, address)))
	if err != nil {
		return Breakpoint{}, fmt.Errorf("watch %#x: %w", address, err)
	}
	number := data.text("wpt", "number")
	if number == "" {
		return Breakpoint{}, fmt.Errorf("watch %#x: gdb has no watchpoint in hardware for it", address)
	}
	return Breakpoint{number: number, Locations: 1}, nil
}

// Number evaluates an expression to a number.
func (d *Debugger) Number(ctx context.Context, expr string) (uint64, error) {
	data, _, err := d.do(ctx, "-data-evaluate-expression "+miQuote("(unsigned long)("+expr+")"))
	if err != nil {
		return 0, fmt.Errorf("evaluate %s: %w", expr, err)
	}
	n, err := strconv.ParseUint(data.text("value"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("evaluate %s: %q is no number", expr, data.text("value"))
	}
	return n, nil
}

// Memory reads some bytes.
func (d *Debugger) Memory(ctx context.Context, address uint64, size int) ([]byte, error) {
	data, _, err := d.do(ctx, fmt.Sprintf("-data-read-memory-bytes %#x %d", address, size))
	if err != nil {
		return nil, fmt.Errorf("read memory at %#x: %w", address, err)
	}
	list, _ := data["memory"].([]any)
	if len(list) == 1 {
		if part, ok := list[0].(miTuple); ok {
			if b, err := hex.DecodeString(part.text("contents")); err == nil && len(b) == size {
				return b, nil
			}
		}
	}
	return nil, fmt.Errorf("read memory at %#x: it has not %d bytes", address, size)
}

// Symbol is the name of a global object at an address, as "jiffies_64" or "init_task + 8"; empty: it is of none.
func (d *Debugger) Symbol(ctx context.Context, address uint64) (string, error) {
	_, said, err := d.do(ctx, "-interpreter-exec console "+miQuote(fmt.Sprintf("info symbol %#x", address)))
	if err != nil {
		return "", fmt.Errorf("name %#x: %w", address, err)
	}
	name, _, ok := strings.Cut(said, " in section ")
	if !ok {
		return "", nil // "No symbol matches ..."
	}
	return terminal.Plain(name), nil
}

// Instruction is one of a function's, as it is in memory.
type Instruction struct {
	Address uint64
	Text    string // in AT&T's syntax
	Code    []byte
}

// Disassemble are the instructions of the part of a function that an address is in, with the function's name.
func (d *Debugger) Disassemble(ctx context.Context, at uint64) (function string, list []Instruction, err error) {
	data, _, err := d.do(ctx, fmt.Sprintf("-data-disassemble -a %#x -- 2", at))
	if err != nil {
		return "", nil, fmt.Errorf("disassemble %#x: %w", at, err)
	}
	lines, _ := data["asm_insns"].([]any)
	for _, l := range lines {
		line, _ := l.(miTuple)
		address, err := strconv.ParseUint(line.text("address"), 0, 64)
		if err != nil {
			continue
		}
		code, err := hex.DecodeString(strings.ReplaceAll(line.text("opcodes"), " ", ""))
		if err != nil {
			continue
		}
		if function == "" {
			function = terminal.Plain(line.text("func-name"))
		}
		list = append(list, Instruction{address, terminal.Plain(line.text("inst")), code})
	}
	if len(list) == 0 {
		return "", nil, fmt.Errorf("disassemble %#x: there is no function", at)
	}
	return function, list, nil
}

// Local is a variable of a frame, an argument or not.
type Local struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

// maxLocal bounds what is kept of a variable's value, in bytes.
const maxLocal = 200

// Locals are the variables of a frame, by its number, that have a value there and are no structures.
func (d *Debugger) Locals(ctx context.Context, frame int) ([]Local, error) {
	data, _, err := d.do(ctx, fmt.Sprintf("-stack-list-variables --thread 1 --frame %d --simple-values", frame))
	if err != nil {
		return nil, fmt.Errorf("list the variables of frame %d: %w", frame, err)
	}
	vars, _ := data["variables"].([]any)
	var list []Local
	for _, v := range vars {
		one, _ := v.(miTuple)
		say := func(key string) string { return terminal.Plain(one.text(key)) }
		l := Local{say("name"), say("type"), say("value")}
		if l.Value == "" || l.Value == "<optimized out>" || strings.HasPrefix(l.Value, "<error") ||
			strings.HasSuffix(l.Name, "@entry") {
			continue
		}
		if len(l.Value) > maxLocal {
			l.Value = strings.ToValidUTF8(l.Value[:maxLocal], "") + "..."
		}
		list = append(list, l)
	}
	return list, nil
}

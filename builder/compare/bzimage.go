package compare

import (
	"bytes"
	"cmp"
	"compress/bzip2"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// headerField is a field of the setup header, as the kernel's Documentation/arch/x86/boot.rst has it; n is in bytes.
type headerField struct {
	name  string
	at, n int
	cause Cause
}

// headerFields are those of sizes and offsets in the file, which follow from the rest, and the others.
var headerFields = []headerField{
	{"setup_sects", 0x1F1, 1, Follows}, {"root_flags", 0x1F2, 2, ""}, {"syssize", 0x1F4, 4, Follows},
	{"ram_size", 0x1F8, 2, ""}, {"vid_mode", 0x1FA, 2, ""}, {"root_dev", 0x1FC, 2, ""},
	{"version", 0x206, 2, ""}, {"realmode_swtch", 0x208, 4, ""}, {"start_sys_seg", 0x20C, 2, ""},
	{"kernel_version", 0x20E, 2, Follows}, {"type_of_loader", 0x210, 1, ""}, {"loadflags", 0x211, 1, ""},
	{"setup_move_size", 0x212, 2, ""}, {"code32_start", 0x214, 4, ""}, {"ramdisk_image", 0x218, 4, ""},
	{"ramdisk_size", 0x21C, 4, ""}, {"bootsect_kludge", 0x220, 4, ""}, {"heap_end_ptr", 0x224, 2, ""},
	{"ext_loader_ver", 0x226, 1, ""}, {"ext_loader_type", 0x227, 1, ""}, {"cmd_line_ptr", 0x228, 4, ""},
	{"initrd_addr_max", 0x22C, 4, ""}, {"kernel_alignment", 0x230, 4, ""},
	{"relocatable_kernel", 0x234, 1, ""}, {"min_alignment", 0x235, 1, ""}, {"xloadflags", 0x236, 2, ""},
	{"cmdline_size", 0x238, 4, ""}, {"hardware_subarch", 0x23C, 4, ""},
	{"hardware_subarch_data", 0x240, 8, ""}, {"payload_offset", 0x248, 4, Follows},
	{"payload_length", 0x24C, 4, Follows}, {"setup_data", 0x250, 8, ""}, {"pref_address", 0x258, 8, ""},
	{"init_size", 0x260, 4, Follows}, {"handover_offset", 0x264, 4, Follows},
	{"kernel_info_offset", 0x268, 4, Follows},
}

const headerEnd = 0x26C

func isBzImage(_ thing, head []byte) bool {
	return len(head) > headerEnd && string(head[0x1FE:0x200]) == "\x55\xAA" && string(head[0x202:0x206]) == "HdrS"
}

type setup struct {
	blob
	head    []byte
	version string // as uname has it, with who built it and when
	payload blob   // the compressed kernel
	code    int64  // where the protected-mode code begins
}

func readSetup(b blob) setup {
	s := setup{blob: b, head: b.head(headerEnd)}
	le := binary.LittleEndian
	s.code = (cmp.Or(int64(s.head[0x1F1]), 4) + 1) * 512 // boot.rst: "a setup_sects of 0 means 4"
	if at := int64(le.Uint16(s.head[0x20E:])); at > 0 {
		v, _, _ := bytes.Cut(b.part(at+0x200, 1024).head(1024), []byte{0})
		s.version = string(v)
	}
	s.payload = b.part(s.code+int64(le.Uint32(s.head[0x248:])), int64(le.Uint32(s.head[0x24C:])))
	return s
}

// bzImages compares two bzImages: the header by its fields, the version, and the kernel in the payload.
func (r *Report) bzImages(ctx context.Context, t thing, a, b blob, _ changes) error {
	x, y := readSetup(a), readSetup(b)
	if x.version != y.version {
		causes := causesOf(x.version, y.version)
		if len(causes) == 0 {
			causes = []Cause{""}
		}
		for _, c := range causes {
			r.report(t, "kernel version", strconv.Quote(x.version), strconv.Quote(y.version), c)
		}
	}
	for _, f := range headerFields {
		if v, w := x.head[f.at:f.at+f.n], y.head[f.at:f.at+f.n]; !bytes.Equal(v, w) {
			r.report(t, "header field "+f.name, littleEndian(v), littleEndian(w), f.cause)
		}
	}
	c, err := differ(ctx, x.payload, y.payload)
	if err != nil {
		return err
	}
	if len(c.spans) > 0 || x.payload.size != y.payload.size {
		if err := r.payloads(ctx, t, x.payload, y.payload); err != nil {
			return err
		}
	}
	// The rest: the 16-bit code, and the decompressor around the payload.
	for _, part := range []struct {
		name  string
		p, q  blob
		cause Cause
	}{
		{"setup code", x.part(headerEnd, x.code-headerEnd), y.part(headerEnd, y.code-headerEnd), ""},
		{"decompressor before the payload", before(x), before(y), ""},
		{"decompressor behind the payload, and checksum", behind(x), behind(y), Follows},
	} {
		c, err := differ(ctx, part.p, part.q)
		if err != nil {
			return err
		}
		if len(c.spans) == 0 && part.p.size == part.q.size {
			continue
		}
		if part.name == "setup code" && x.version != y.version {
			part.cause = Follows // it holds the version
		}
		r.sizes(t, fmt.Sprintf("%s: %d bytes differ", part.name, c.bytes), part.p, part.q, part.cause)
	}
	return nil
}

func before(s setup) blob {
	return s.part(s.code, int64(binary.LittleEndian.Uint32(s.head[0x248:])))
}

func behind(s setup) blob {
	at := s.code + int64(binary.LittleEndian.Uint32(s.head[0x248:])) + s.payload.size
	return s.part(at, s.size)
}

func littleEndian(b []byte) string {
	b = slices.Clone(b)
	slices.Reverse(b)
	return fmt.Sprintf("0x%x", b)
}

// maxPayload bounds a kernel that is unpacked, in bytes.
const maxPayload = 256 << 20

func (r *Report) payloads(ctx context.Context, t thing, a, b blob) error {
	if slices.ContainsFunc(r.Differences, func(d Difference) bool { return d.Artifact == artifact.Vmlinux }) {
		_, kind, _ := unpack(a, 0)                      // only to name its form
		r.sizes(t, "payload ("+kind+")", a, b, Follows) // the same kernel, without its symbols
		return nil
	}
	x, kind, err := unpack(a, maxPayload)
	if err != nil {
		r.note("%s: payload: %v", t.artifact, err)
		r.sizes(t, "payload ("+kind+")", a, b, "")
		return nil
	}
	y, other, err := unpack(b, maxPayload)
	if err != nil || kind != other {
		r.report(t, "payload", kind, other, Config)
		return nil
	}
	from := len(r.Differences)
	in := thing{artifact: t.artifact, where: t.at("payload"), base: artifact.Vmlinux, depth: t.depth + 1}
	if err := r.blobs(ctx, in, memory(x), memory(y)); err != nil {
		return err
	}
	if len(r.Differences) == from { // the same, packed otherwise
		r.sizes(t, "payload ("+kind+")", a, b, Compiler)
	}
	return nil
}

// unpack unpacks a blob in a form that there is a reader of, and names the form.
func unpack(b blob, limit int64) (p []byte, kind string, err error) {
	head := b.head(6)
	var r io.Reader
	switch in := io.NewSectionReader(b.r, 0, b.size); {
	case bytes.HasPrefix(head, []byte{0x1F, 0x8B}):
		kind = "gzip"
		var z *gzip.Reader
		if z, err = gzip.NewReader(in); err == nil {
			z.Multistream(false) // the kernel's is followed by its size
			r = z
		}
	case bytes.HasPrefix(head, []byte{0x28, 0xB5, 0x2F, 0xFD}):
		kind = "zstd"
		var z *zstd.Decoder
		z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
		if err == nil {
			defer z.Close()
			r = z
		}
	case bytes.HasPrefix(head, []byte("BZh")):
		kind, r = "bzip2", bzip2.NewReader(in)
	case bytes.HasPrefix(head, []byte("\xFD7zXZ\x00")):
		return nil, "xz", errors.New("it is compressed with xz, which kimg diff does not unpack")
	case bytes.HasPrefix(head, []byte{0x02, 0x21, 0x4C, 0x18}):
		kind, r = "lz4", lz4.NewReader(in)
	default:
		return nil, "unknown", errors.New("its compression is not known")
	}
	if err != nil {
		return nil, kind, fmt.Errorf("unpack %s: %w", kind, err)
	}
	p, err = io.ReadAll(io.LimitReader(r, limit+1))
	if len(p) > 0 && int64(len(p)) <= limit && (kind == "zstd" || kind == "lz4") {
		err = nil // of what follows the frame: the kernel's size
	}
	if err == nil && int64(len(p)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	if err != nil {
		return nil, kind, fmt.Errorf("unpack %s: %w", kind, err)
	}
	return p, kind, nil
}

// maxUnpacked bounds a packed file in an image, in bytes when unpacked; maxDepth is how deep one may be in another.
const (
	maxUnpacked = 64 << 20
	maxDepth    = 3
)

func isGzip(t thing, head []byte) bool {
	return t.depth < maxDepth && len(head) > 10 && head[0] == 0x1F && head[1] == 0x8B
}

// gzips compares two gzip files: the time in their headers (RFC 1952), then what is in them.
func (r *Report) gzips(ctx context.Context, t thing, a, b blob, _ changes) error {
	before := len(r.Differences)
	x, y := a.head(10), b.head(10)
	if v, w := binary.LittleEndian.Uint32(x[4:]), binary.LittleEndian.Uint32(y[4:]); v != w {
		r.report(t, "gzip's time", clockText(time.Unix(int64(v), 0)), clockText(time.Unix(int64(w), 0)), Time)
	}
	p, q, err := two(a, b, func(b blob) ([]byte, error) {
		p, _, err := unpack(b, maxUnpacked)
		return p, err
	})
	if err != nil {
		return err
	}
	if bytes.Equal(p, q) {
		if len(r.Differences) == before {
			r.sizes(t, "gzip: the same content, compressed in another way", a, b, Compiler)
		}
		return nil
	}
	return r.blobs(ctx, thing{t.artifact, t.at("unpacked"), t.base, t.depth + 1}, memory(p), memory(q))
}

package kernel

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
)

// NeedError says that a configuration asks for what a compile would look for in vain: a program that the toolchain's
// image lacks, or a file that the tree lacks.
type NeedError struct {
	Version, Symbol, Origin string
	Lacks                   string // "wants lzop, which the toolchain's image does not have"
	Way                     string // the hint
}

func (e *NeedError) Error() string {
	return fmt.Sprintf("configure Linux %s: %s (%s) %s", e.Version, e.Symbol, e.Origin, e.Lacks)
}

// TellsAll has what make said left out.
func (e *NeedError) TellsAll() {}

func (e *NeedError) Hint() string { return e.Way }

// programs are those that a symbol has make run, any of them. Symbols of the same group stand for each other.
var programs = []struct {
	group, symbol string
	any           []string
}{
	{"KERNEL_", "KERNEL_GZIP", []string{"gzip"}},
	{"KERNEL_", "KERNEL_BZIP2", []string{"bzip2"}},
	{"KERNEL_", "KERNEL_LZMA", []string{"lzma", "xz"}},
	{"KERNEL_", "KERNEL_XZ", []string{"xz"}},
	{"KERNEL_", "KERNEL_LZO", []string{"lzop"}},
	{"KERNEL_", "KERNEL_LZ4", []string{"lz4", "lz4c"}},
	{"KERNEL_", "KERNEL_ZSTD", []string{"zstd"}},
	{"MODULE_COMPRESS_", "MODULE_COMPRESS_GZIP", []string{"gzip"}},
	{"MODULE_COMPRESS_", "MODULE_COMPRESS_XZ", []string{"xz"}},
	{"MODULE_COMPRESS_", "MODULE_COMPRESS_ZSTD", []string{"zstd"}},
	{"INITRAMFS_COMPRESSION_", "INITRAMFS_COMPRESSION_BZIP2", []string{"bzip2"}},
	{"INITRAMFS_COMPRESSION_", "INITRAMFS_COMPRESSION_LZMA", []string{"lzma", "xz"}},
	{"INITRAMFS_COMPRESSION_", "INITRAMFS_COMPRESSION_XZ", []string{"xz"}},
	{"INITRAMFS_COMPRESSION_", "INITRAMFS_COMPRESSION_LZO", []string{"lzop"}},
	{"INITRAMFS_COMPRESSION_", "INITRAMFS_COMPRESSION_LZ4", []string{"lz4", "lz4c"}},
	{"INITRAMFS_COMPRESSION_", "INITRAMFS_COMPRESSION_ZSTD", []string{"zstd"}},
	{"", "DEBUG_INFO_BTF", []string{"pahole"}},
	{"", "MODULE_SIG", []string{"openssl"}},
	{"", "IKHEADERS", []string{"cpio"}},
}

// files are symbols that name files, or several, for the compile to read; below is the symbol of their directory.
var files = []struct{ symbol, below string }{
	{"SYSTEM_TRUSTED_KEYS", ""},
	{"SYSTEM_REVOCATION_KEYS", ""},
	{"SYSTEM_BLACKLIST_HASH_LIST", ""},
	{"MODULE_SIG_KEY", ""},
	{"EXTRA_FIRMWARE", "EXTRA_FIRMWARE_DIR"},
	{"INITRAMFS_SOURCE", ""},
	{"BOOT_CONFIG_EMBED_FILE", ""},
	{"CFG80211_EXTRA_REGDB_KEYDIR", ""},
	{"ACPI_CUSTOM_DSDT_FILE", ""},
}

// needs refuses a configuration that names what is not there.
func (w *worker) needs(ctx context.Context, c Config, version dialect, final kconfig.Config) error {
	wrong := func(symbol, lacks, way string) error {
		return &NeedError{version.String(), symbol + "=" + final.Get(symbol), c.origin(version, symbol), lacks, way}
	}
	there, err := w.programs(ctx, final)
	if err != nil {
		return err
	}
	for _, p := range programs {
		if !runs(final, p.symbol) || slices.ContainsFunc(p.any, there.has) {
			continue
		}
		way := fmt.Sprintf("--set %s=n", p.symbol)
		if p.group != "" {
			way = "take another one: --set " + list(others(p.group, there))
		}
		return wrong(p.symbol, "wants "+p.any[0]+", which the toolchain's image does not have", way)
	}
	for _, f := range files {
		missing, err := w.missing(ctx, final, f.symbol, f.below)
		if err != nil {
			return err
		}
		if missing != "" {
			return wrong(f.symbol, fmt.Sprintf("names %q, which is not in the kernel's tree", missing),
				fmt.Sprintf("put it there, or leave it out: --set %s=", f.symbol))
		}
	}
	return nil
}

// origin says who asked for a symbol.
func (c Config) origin(version dialect, symbol string) string {
	var reqs []Request
	if !Builtin(c.Base) {
		reqs = c.fileRequests(version)
	}
	if r, ok := bySymbol(slices.Concat(reqs, translate(version, c.Requests)))[symbol]; ok {
		return "asked by " + r.Origin
	}
	return "of the tree's own choice"
}

// runs reports whether make runs a symbol's program: an initramfs that is empty is not compressed.
func runs(c kconfig.Config, symbol string) bool {
	if source := c.Get("INITRAMFS_SOURCE"); strings.HasPrefix(symbol, "INITRAMFS_COMPRESSION_") &&
		(source == "n" || source == `""`) {
		return false
	}
	return c.Get(symbol) == "y"
}

type wordSet map[string]bool

func (s wordSet) has(word string) bool { return s[word] }

// programs are those of the image that the configuration's symbols, and others of their groups, run.
func (w *worker) programs(ctx context.Context, final kconfig.Config) (wordSet, error) {
	groups, want := map[string]bool{}, []string{}
	for _, p := range programs {
		groups[p.group] = groups[p.group] || runs(final, p.symbol)
	}
	for _, p := range programs {
		if groups[p.group] {
			want = append(want, p.any...)
		}
	}
	out, err := w.output(ctx, nil, 64<<10, append([]string{"sh", "-c",
		`for p; do command -v "$p" >/dev/null && echo "$p"; done; true`, "sh"}, want...)...)
	if err != nil {
		return nil, fmt.Errorf("look for programs of the toolchain: %w", err)
	}
	there := wordSet{}
	for p := range strings.FieldsSeq(out) {
		there[p] = true
	}
	return there, nil
}

// others are the settings of a group whose programs are there.
func others(group string, there wordSet) (sets []string) {
	for _, p := range programs {
		if p.group == group && slices.ContainsFunc(p.any, there.has) {
			sets = append(sets, p.symbol+"=y")
		}
	}
	return sets
}

func list(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}

// signingKey is a MODULE_SIG_KEY that make generates.
const signingKey = "certs/signing_key.pem"

// missing is the first file that a symbol names and that neither the source nor what is made beside it has.
func (w *worker) missing(ctx context.Context, final kconfig.Config, symbol, below string) (string, error) {
	names := strings.Fields(unquoted(final.Get(symbol)))
	names = slices.DeleteFunc(names, func(name string) bool {
		return name == "n" || symbol == "MODULE_SIG_KEY" && (name == signingKey || strings.HasPrefix(name, "pkcs11:"))
	})
	if len(names) == 0 {
		return "", nil
	}
	dir := srcDir
	if of := unquoted(final.Get(below)); below != "" && of != "" && of != "n" {
		dir += "/" + of
		if strings.HasPrefix(of, "/") {
			dir = of
		}
	}
	out, err := w.output(ctx, nil, 1<<20, append([]string{"sh", "-c",
		`src=$1 obj=$2; shift 2; for f; do case $f in /*) test -e "$f";; ` +
			`*) test -e "$src/$f" || test -e "$obj/$f";; esac || { printf '%s\n' "$f"; break; }; done`,
		"sh", dir, objDir}, names...)...)
	if err != nil {
		return "", fmt.Errorf("look for the files that the configuration names: %w", err)
	}
	return strings.TrimSuffix(out, "\n"), nil
}

// unquoted is a value as make sees it.
func unquoted(value string) string {
	if text, ok := strings.CutPrefix(value, `"`); ok {
		return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(strings.TrimSuffix(text, `"`))
	}
	return value
}

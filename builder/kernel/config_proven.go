package kernel

import (
	"context"
	"fmt"
	"strings"

	"github.com/kimg/kimg/internal/units"
)

// provenConfig keeps the last configuration that was proven, after a line that says what it was composed from.
// Composing takes seconds (the tree's kconfig asks the compiler a hundred questions), which is most of what a build
// adds to make after one edited file.
const provenConfig = objDir + "/kimg.proven"

// provenScript prints the state of all that kconfig reads of the source ($1) for an architecture ($3), and then $2.
// Content is not read: an engine's volume has honest change times, and only kimg writes there.
const provenScript = `cd "$1" && find . -path ./` + objName + ` -prune -o -type f \( \
-name 'Kconfig*' -o -name '*.config' -o -name '*defconfig' \
-o -path './scripts/*' -o -path './Makefile' -o -path "./arch/$3/Makefile*" \) -printf '%P %s %C@ %i\n' |
sha256sum && { cat "$2" 2>/dev/null || true; }`

// proven returns the key of a configuration, and its .config where it was proven before; nil: it was not.
func (w *worker) proven(ctx context.Context, j Job) (key string, config []byte, err error) {
	out, err := w.output(ctx, nil, 64<<20, "sh", "-c", provenScript, "sh", srcDir, provenConfig, w.arch.SourceDir)
	if err != nil {
		return "", nil, fmt.Errorf("look at the last configuration: %w", err)
	}
	tree, last, _ := strings.Cut(out, "\n")
	key = provenKey(j, tree)
	if text, ok := strings.CutPrefix(last, key+"\n"); ok {
		return key, []byte(text), nil
	}
	return key, nil, nil
}

func provenKey(j Job, tree string) string {
	all := append(makeVars(j), tree, j.ImageID, j.Tree.Version.String(), j.Config.Base, j.Config.Text())
	return "kimg 1 " + string(units.DigestOf([]byte(strings.Join(all, "\x00"))))
}

func (w *worker) remember(ctx context.Context, key string, config []byte) error {
	return w.run(ctx, strings.NewReader(key+"\n"+string(config)), nil,
		"sh", "-c", `cat > "$1.new" && mv "$1.new" "$1"`, "sh", provenConfig)
}

package image

import (
	"archive/tar"
	"bytes"
	"slices"
	"testing"

	"github.com/kimg/kimg/internal/suite"
)

// TestNormaliseTakesLeaksOut plants a leak of each kind in the tar of a
// bootstrapped tree: what two machines, users or days leave different must come
// out the same. What a package or the bootstrap may mean must come out as it was,
// so that kimg diff can tell of it.
func TestNormaliseTakesLeaksOut(t *testing.T) {
	of, err := suite.Parse("trixie")
	if err != nil {
		t.Fatal(err)
	}
	options := Normalisation{Epoch: epoch,
		Files: func(func(string) bool) []File { return guestFiles(of, Arch{}, nil, false, epoch) }}
	tree := func(more ...item) []item {
		return base(append([]item{dir("./etc/ssh"), dir("./usr"), dir("./usr/bin"), reg("./usr/bin/tool", "tool"),
			dir("./var"), dir("./var/log"),
			dir("./var/lib"), dir("./var/lib/systemd"), dir("./var/lib/dpkg"), dir("./var/cache"),
			dir("./var/cache/ldconfig"), dir("./tmp")}, more...)...)
	}
	tool := func(f func(h *tar.Header)) []item {
		l := tree()
		i := slices.IndexFunc(l, func(i item) bool { return i.Name == "./usr/bin/tool" })
		l[i] = change(l[i], f)
		return l
	}
	plain := tree()
	backwards := append(slices.Clone(plain[:1]), plain[1:]...)
	slices.SortStableFunc(backwards[1:], func(a, b item) int { // directories still before what is in them
		if d := len(a.Name) - len(b.Name); d != 0 {
			return d
		}
		return bytes.Compare([]byte(b.Name), []byte(a.Name))
	})
	run := func(t *testing.T, items []item) []byte {
		t.Helper()
		var out bytes.Buffer
		if err := Normalise(bytes.NewReader(makeTar(t, items...)), &out, options); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for _, tt := range []struct {
		kind string
		a, b []item
		gone bool
	}{
		{"time of a file", tool(func(h *tar.Header) { h.ModTime = epoch.AddDate(1, 0, 0) }),
			tool(func(h *tar.Header) { h.ModTime = epoch.AddDate(5, 0, 0) }), true},
		{"parts of a second", tool(func(h *tar.Header) { h.Format, h.ModTime = tar.FormatPAX, epoch.Add(-1e9+5) }),
			tool(func(h *tar.Header) { h.Format, h.ModTime = tar.FormatPAX, epoch.Add(-1e9+7) }), true},
		{"time of access", tool(func(h *tar.Header) { h.Format, h.AccessTime = tar.FormatPAX, epoch }),
			tool(func(h *tar.Header) { h.Format, h.AccessTime = tar.FormatPAX, epoch.Add(1e9) }), true},
		{"time in a log", tree(reg("./var/log/dpkg.log", "2026-11-23")), tree(reg("./var/log/dpkg.log", "2026-11-24")),
			true},
		{"day of a password", tree(), slices.Concat([]item{dir("."), dir("./etc"),
			reg("./etc/shadow", "root:*:19999:0:99999:7:::\n")}, tree()[3:]), true},
		{"order", plain, backwards, true},
		{"machine-id", tree(reg("./etc/machine-id", "34308998e7d150c1ae616cfed28ccd12\n")),
			tree(reg("./etc/machine-id", "aaaa8998e7d150c1ae616cfed28ccd12\n")), true},
		{"host key", tree(reg("./etc/ssh/ssh_host_rsa_key", "one")), tree(reg("./etc/ssh/ssh_host_rsa_key", "two")),
			true},
		{"random seed", tree(reg("./var/lib/systemd/random-seed", "one")),
			tree(reg("./var/lib/systemd/random-seed", "two")), true},
		{"host name", tree(reg("./etc/hostname", "laptop\n")), tree(reg("./etc/hostname", "desktop\n")), true},
		{"name server", tree(reg("./etc/resolv.conf", "nameserver 10.0.0.1\n")),
			tree(reg("./etc/resolv.conf", "nameserver 10.0.0.2\n")), true},
		{"user's name", tool(func(h *tar.Header) { h.Uname, h.Gname = "ann", "staff" }),
			tool(func(h *tar.Header) { h.Uname, h.Gname = "bob", "users" }), true},
		{"path in a log", tree(reg("./var/log/bootstrap.log", "/home/ann/x")),
			tree(reg("./var/log/bootstrap.log", "/home/bob/x")), true},
		{"what the host's policy " +
			"labels", tool(func(h *tar.Header) {
			h.PAXRecords = map[string]string{xattrPrefix +
				"security.selinux": "a"}
		}),
			tool(func(h *tar.Header) {
				h.PAXRecords = map[string]string{xattrPrefix +
					"security.selinux": "b"}
			}), true},
		{"inode numbers in a cache", tree(reg("./var/cache/ldconfig/aux-cache", "1")),
			tree(reg("./var/cache/ldconfig/aux-cache", "2")), true},
		{"left in /tmp", tree(reg("./tmp/tmp.Xa81kQpL", "")), tree(reg("./tmp/tmp.91kLqPza", "")), true},

		{"owner", tool(func(h *tar.Header) { h.Uid = 0 }), tool(func(h *tar.Header) { h.Uid = 1000 }), false},
		{"mode", tool(func(h *tar.Header) { h.Mode = 0o755 }), tool(func(h *tar.Header) { h.Mode = 0o775 }), false},
		{"an earlier time", tool(func(h *tar.Header) { h.ModTime = epoch.Add(-1e9) }),
			tool(func(h *tar.Header) { h.ModTime = epoch.Add(-2e9) }), false},
		{"content", tree(reg("./etc/x", "/home/ann")), tree(reg("./etc/x", "/home/bob")), false},
		{"capability", tool(func(h *tar.Header) {}),
			tool(func(h *tar.Header) {
				h.PAXRecords = map[string]string{xattrPrefix +
					"security.capability": "\x01"}
			}), false},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			if raw := makeTar(t, tt.a...); bytes.Equal(raw, makeTar(t, tt.b...)) {
				t.Fatal("nothing was planted")
			}
			if same := bytes.Equal(run(t, tt.a), run(t, tt.b)); same != tt.gone {
				t.Errorf("the same after it: %v, want %v", same, tt.gone)
			}
		})
	}
}

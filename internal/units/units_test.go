package units

import (
	"slices"
	"testing"
)

func TestKernelVersions(t *testing.T) {
	sorted := []string{"4.9", "4.20.6", "4.20.17", "5.0-rc3", "5.0", "5.0.1", "5.10.223", "6.1", "6.12"}
	var versions []KernelVersion
	for _, s := range sorted {
		v, err := ParseKernelVersion(s)
		if err != nil {
			t.Fatal(err)
		}
		if v.String() != s {
			t.Errorf("%s reads back as %s", s, v)
		}
		versions = append(versions, v)
	}
	if !slices.IsSortedFunc(versions, KernelVersion.Compare) {
		t.Errorf("%v is not in order", versions)
	}
	rc, _ := ParseKernelVersion("5.0-rc3")
	if !rc.AtLeast(5, 0) || rc.AtLeast(5, 1) || !rc.AtLeast(4, 20) {
		t.Error("a release candidate does not count as its version")
	}
	for _, bad := range []string{"", "6", "v6.1", "6.1/../..", "6.1 ", "99999999999.1", "6.1\n"} {
		if v, err := ParseKernelVersion(bad); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]Size{"1G": 1 << 30, "512M": 512 << 20, "2GiB": 2 << 30, "4096": 4096} {
		got, err := ParseSize(in)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
		if back, err := ParseSize(got.String()); err != nil || back != got {
			t.Errorf("%q: %s reads back as %d, %v", in, got, back, err)
		}
	}
	for _, bad := range []string{"", "0", "-1G", "big"} {
		if n, err := ParseSize(bad); err == nil {
			t.Errorf("%q was read as %d", bad, n)
		}
	}
}

func TestDigests(t *testing.T) {
	d := DigestOf([]byte("abc"))
	for _, in := range []string{string(d), "sha256:" + string(d)} {
		if got, err := ParseDigest(in); err != nil || got != d {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "abc", string(d) + "00", "zz" + string(d[2:])} {
		if got, err := ParseDigest(bad); err == nil {
			t.Errorf("%q was read as %q", bad, got)
		}
	}
}

package ext4

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// FieldKind is what a superblock's field holds.
type FieldKind int

// The kinds of fields.
const (
	Number   FieldKind = iota
	Time               // seconds since 1970
	UUID               // drawn at random unless one was named
	Text               // up to a zero byte
	Flags              // bits
	Checksum           // of all the others
)

// Field is one field of a superblock.
type Field struct {
	Name string // the kernel's: Documentation/filesystems/ext4/super.rst
	Kind FieldKind
	Raw  []byte
}

// Value is the field in a readable form.
func (f Field) Value() string {
	switch f.Kind {
	case Time:
		return time.Unix(f.number(), 0).UTC().Format(time.RFC3339)
	case UUID:
		return uuid.UUID(f.Raw).String()
	case Text:
		return strconv.Quote(cString(f.Raw))
	case Flags:
		return fmt.Sprintf("%#x", f.number())
	case Checksum: // its zeros are digits like any other
		return fmt.Sprintf("0x%0*x", 2*len(f.Raw), f.number())
	}
	if len(f.Raw) > 8 {
		return hex.EncodeToString(f.Raw)
	}
	return strconv.FormatInt(f.number(), 10)
}

func (f Field) number() int64 {
	var n int64
	for i, b := range f.Raw {
		n |= int64(b) << (8 * i)
	}
	return n
}

// superField is where a field is. A time, and some counts, have an upper part elsewhere.
type superField struct {
	name   string
	at, n  int
	kind   FieldKind
	hi, hn int
}

// superFields is the whole superblock: what lies between is s_reserved or the padding that the kernel's struct has.
var superFields = []superField{
	{name: "s_inodes_count", at: 0x0, n: 4},
	{name: "s_blocks_count", at: 0x4, n: 4, hi: 0x150, hn: 4},
	{name: "s_r_blocks_count", at: 0x8, n: 4, hi: 0x154, hn: 4},
	{name: "s_free_blocks_count", at: 0xC, n: 4, hi: 0x158, hn: 4},
	{name: "s_free_inodes_count", at: 0x10, n: 4},
	{name: "s_first_data_block", at: 0x14, n: 4},
	{name: "s_log_block_size", at: 0x18, n: 4},
	{name: "s_log_cluster_size", at: 0x1C, n: 4},
	{name: "s_blocks_per_group", at: 0x20, n: 4},
	{name: "s_clusters_per_group", at: 0x24, n: 4},
	{name: "s_inodes_per_group", at: 0x28, n: 4},
	{name: "s_mtime", at: 0x2C, n: 4, kind: Time, hi: 0x275, hn: 1},
	{name: "s_wtime", at: 0x30, n: 4, kind: Time, hi: 0x274, hn: 1},
	{name: "s_mnt_count", at: 0x34, n: 2},
	{name: "s_max_mnt_count", at: 0x36, n: 2},
	{name: "s_magic", at: 0x38, n: 2, kind: Flags},
	{name: "s_state", at: 0x3A, n: 2, kind: Flags},
	{name: "s_errors", at: 0x3C, n: 2},
	{name: "s_minor_rev_level", at: 0x3E, n: 2},
	{name: "s_lastcheck", at: 0x40, n: 4, kind: Time, hi: 0x277, hn: 1},
	{name: "s_checkinterval", at: 0x44, n: 4},
	{name: "s_creator_os", at: 0x48, n: 4},
	{name: "s_rev_level", at: 0x4C, n: 4},
	{name: "s_def_resuid", at: 0x50, n: 2},
	{name: "s_def_resgid", at: 0x52, n: 2},
	{name: "s_first_ino", at: 0x54, n: 4},
	{name: "s_inode_size", at: 0x58, n: 2},
	{name: "s_block_group_nr", at: 0x5A, n: 2},
	{name: "s_feature_compat", at: 0x5C, n: 4, kind: Flags},
	{name: "s_feature_incompat", at: 0x60, n: 4, kind: Flags},
	{name: "s_feature_ro_compat", at: 0x64, n: 4, kind: Flags},
	{name: "s_uuid", at: 0x68, n: 16, kind: UUID},
	{name: "s_volume_name", at: 0x78, n: 16, kind: Text},
	{name: "s_last_mounted", at: 0x88, n: 64, kind: Text},
	{name: "s_algorithm_usage_bitmap", at: 0xC8, n: 4, kind: Flags},
	{name: "s_prealloc_blocks", at: 0xCC, n: 1},
	{name: "s_prealloc_dir_blocks", at: 0xCD, n: 1},
	{name: "s_reserved_gdt_blocks", at: 0xCE, n: 2},
	{name: "s_journal_uuid", at: 0xD0, n: 16, kind: UUID},
	{name: "s_journal_inum", at: 0xE0, n: 4},
	{name: "s_journal_dev", at: 0xE4, n: 4},
	{name: "s_last_orphan", at: 0xE8, n: 4},
	{name: "s_hash_seed", at: 0xEC, n: 16, kind: UUID},
	{name: "s_def_hash_version", at: 0xFC, n: 1},
	{name: "s_jnl_backup_type", at: 0xFD, n: 1},
	{name: "s_desc_size", at: 0xFE, n: 2},
	{name: "s_default_mount_opts", at: 0x100, n: 4, kind: Flags},
	{name: "s_first_meta_bg", at: 0x104, n: 4},
	{name: "s_mkfs_time", at: 0x108, n: 4, kind: Time, hi: 0x276, hn: 1},
	{name: "s_jnl_blocks", at: 0x10C, n: 68},
	{name: "s_min_extra_isize", at: 0x15C, n: 2},
	{name: "s_want_extra_isize", at: 0x15E, n: 2},
	{name: "s_flags", at: 0x160, n: 4, kind: Flags},
	{name: "s_raid_stride", at: 0x164, n: 2},
	{name: "s_mmp_interval", at: 0x166, n: 2},
	{name: "s_mmp_block", at: 0x168, n: 8},
	{name: "s_raid_stripe_width", at: 0x170, n: 4},
	{name: "s_log_groups_per_flex", at: 0x174, n: 1},
	{name: "s_checksum_type", at: 0x175, n: 1},
	{name: "s_encryption_level", at: 0x176, n: 1},
	{name: "s_kbytes_written", at: 0x178, n: 8},
	{name: "s_snapshot_inum", at: 0x180, n: 4},
	{name: "s_snapshot_id", at: 0x184, n: 4},
	{name: "s_snapshot_r_blocks_count", at: 0x188, n: 8},
	{name: "s_snapshot_list", at: 0x190, n: 4},
	{name: "s_error_count", at: 0x194, n: 4},
	{name: "s_first_error_time", at: 0x198, n: 4, kind: Time, hi: 0x278, hn: 1},
	{name: "s_first_error_ino", at: 0x19C, n: 4},
	{name: "s_first_error_block", at: 0x1A0, n: 8},
	{name: "s_first_error_func", at: 0x1A8, n: 32, kind: Text},
	{name: "s_first_error_line", at: 0x1C8, n: 4},
	{name: "s_last_error_time", at: 0x1CC, n: 4, kind: Time, hi: 0x279, hn: 1},
	{name: "s_last_error_ino", at: 0x1D0, n: 4},
	{name: "s_last_error_line", at: 0x1D4, n: 4},
	{name: "s_last_error_block", at: 0x1D8, n: 8},
	{name: "s_last_error_func", at: 0x1E0, n: 32, kind: Text},
	{name: "s_mount_opts", at: 0x200, n: 64, kind: Text},
	{name: "s_usr_quota_inum", at: 0x240, n: 4},
	{name: "s_grp_quota_inum", at: 0x244, n: 4},
	{name: "s_overhead_clusters", at: 0x248, n: 4},
	{name: "s_backup_bgs", at: 0x24C, n: 8},
	{name: "s_encrypt_algos", at: 0x254, n: 4, kind: Flags},
	{name: "s_encrypt_pw_salt", at: 0x258, n: 16, kind: UUID},
	{name: "s_lpf_ino", at: 0x268, n: 4},
	{name: "s_prj_quota_inum", at: 0x26C, n: 4},
	{name: "s_checksum_seed", at: 0x270, n: 4, kind: Checksum},
	{name: "s_first_error_errcode", at: 0x27A, n: 1},
	{name: "s_last_error_errcode", at: 0x27B, n: 1},
	{name: "s_encoding", at: 0x27C, n: 2},
	{name: "s_encoding_flags", at: 0x27E, n: 2, kind: Flags},
	{name: "s_orphan_file_inum", at: 0x280, n: 4},
	{name: "s_checksum", at: 0x3FC, n: 4, kind: Checksum},
}

// Fields are all of the superblock's fields, and its unnamed bytes as s_reserved.
func (img *Image) Fields() []Field {
	named := make([]bool, superblockLen)
	take := func(at, n int) []byte {
		for i := at; i < at+n; i++ {
			named[i] = true
		}
		return img.super[at : at+n : at+n]
	}
	var out []Field
	for _, f := range superFields {
		raw := take(f.at, f.n)
		if f.hn > 0 {
			raw = append(raw, take(f.hi, f.hn)...)
		}
		out = append(out, Field{f.name, f.kind, raw})
	}
	var rest []byte
	for i, known := range named {
		if !known {
			rest = append(rest, img.super[i])
		}
	}
	return append(out, Field{"s_reserved", Number, rest})
}

// features are the names that mke2fs -O knows them by (e2fsprogs, lib/e2p/feature.c).
var features = map[string][]string{
	"s_feature_compat": {
		"dir_prealloc", "imagic_inodes", "has_journal", "ext_attr", "resize_inode", "dir_index", "lazy_bg", "",
		"snapshot_bitmap",
		"sparse_super2", "fast_commit", "stable_inodes", "orphan_file",
	},
	"s_feature_incompat": {
		"compression", "filetype", "needs_recovery", "journal_dev", "meta_bg", "", "extent", "64bit", "mmp", "flex_bg",
		"ea_inode", "",
		"dirdata", "metadata_csum_seed", "large_dir", "inline_data", "encrypt", "casefold",
	},
	"s_feature_ro_compat": {
		"sparse_super", "large_file", "", "huge_file", "uninit_bg", "dir_nlink", "extra_isize", "", "quota", "bigalloc",
		"metadata_csum", "replica", "read-only", "project", "shared_blocks", "verity", "orphan_present",
	},
}

// Bits names the bits of a field of features that are set; "" for other fields.
func (f Field) Bits() string {
	names, ok := features[f.Name]
	if !ok {
		return ""
	}
	var out []string
	for i, n := 0, f.number(); n != 0; i, n = i+1, n>>1 {
		if n&1 == 0 {
			continue
		}
		if i < len(names) && names[i] != "" {
			out = append(out, names[i])
		} else {
			out = append(out, fmt.Sprintf("%#x", 1<<i))
		}
	}
	return strings.Join(out, ",")
}

package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"regexp"
	"strconv"
	"time"
)

// Where a file of Berkeley DB has what. Source: dbinc/db_page.h of Berkeley DB 5.3, struct _dbmeta33.
const (
	dbMagic, dbHash, dbBtree = 12, 0x061561, 0x053162
	dbFileID, dbFileIDLen    = 52, 20
)

// lastModified is when postalias or postmap made a map, in seconds since 1970, before the key of that value.
var lastModified = regexp.MustCompile(`\x01(\d{10})\x01YP_LAST_MODIFIED`)

// scrubDB takes the times and inode numbers out of a map of postfix's: the database's own id, which is made of both
// and has to differ between files, follows from the file's name instead.
func scrubDB(name string, b []byte, epoch time.Time) []byte {
	if len(b) < dbFileID+dbFileIDLen {
		return b
	}
	if m := binary.LittleEndian.Uint32(b[dbMagic:]); m != dbHash && m != dbBtree {
		return b
	}
	id := sha256.Sum256([]byte(name))
	b = bytes.ReplaceAll(b, b[dbFileID:dbFileID+dbFileIDLen], id[:dbFileIDLen]) // each page of its own data has it
	for _, at := range lastModified.FindAllSubmatchIndex(b, -1) {
		copy(b[at[2]:at[3]], strconv.FormatInt(epoch.Unix(), 10))
	}
	return b
}

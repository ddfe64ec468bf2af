package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	"wsexec/internal/proto"
)

// A startSum is equal for two starts if they ask for the same.
type startSum [sha256.Size]byte

// sumOf is the sum of a start, 0 for nil. It is over the canonical JSON of the start
// without its lists of strings, which may be large, and over those strings, each
// with its length.
func sumOf(st *proto.Start) (sum startSum) {
	if st == nil {
		return sum
	}
	small := *st
	small.Argv, small.Env = nil, nil
	b, err := json.Marshal(&small)
	if err != nil {
		panic("server: internal error: " + err.Error())
	}
	h := sha256.New()
	var n [8]byte
	number := func(k int) { h.Write(binary.BigEndian.AppendUint64(n[:0], uint64(k))) }
	for _, list := range [][][]byte{{b}, st.Argv, st.Env} {
		number(len(list))
		for _, s := range list {
			number(len(s))
			h.Write(s)
		}
	}
	return startSum(h.Sum(nil))
}

// maxListed bounds what a list has of a command's arguments, in bytes; each argument
// counts for listedCost more than its length.
const (
	maxListed  = 4 << 10
	listedCost = 8
)

// clipArgv copies as much of a command's arguments as a list has, and reports
// whether some is missing.
func clipArgv(argv [][]byte) (clipped [][]byte, cut bool) {
	rest := maxListed
	for _, a := range argv {
		if rest -= listedCost; rest < 0 {
			return clipped, true
		}
		clipped = append(clipped, bytes.Clone(a[:min(len(a), rest)]))
		if rest -= len(a); rest < 0 {
			return clipped, true
		}
	}
	return clipped, false
}

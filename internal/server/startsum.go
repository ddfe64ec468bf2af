package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	"wsexec/internal/proto"
)

// A startSum tells starts apart.
type startSum [sha256.Size]byte

// sumOf is the sum of a start, 0 for none: of its canonical JSON, but for the lists
// of strings, which may be large, and of each of those with its length.
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

// maxListed bounds the arguments that lists have of a session, in bytes, of which
// each argument counts for listedCost more.
const (
	maxListed  = 4 << 10
	listedCost = 8
)

// clipArgv copies as much of a command's arguments as lists have.
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

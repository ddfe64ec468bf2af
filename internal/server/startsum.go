package server

import (
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

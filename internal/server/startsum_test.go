package server

import (
	"testing"

	"wsexec/internal/proto"
)

// A start that comes again is the same one only as the same user.
func TestSumOfUser(t *testing.T) {
	of := func(user string) startSum {
		return sumOf(&proto.Start{Argv: [][]byte{[]byte("id")}, User: user})
	}
	if a := of("a"); a != of("a") || a == of("b") || a == of("") {
		t.Error("the sum does not tell users apart")
	}
}

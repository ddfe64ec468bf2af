package main

import (
	"testing"

	"wsexec/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

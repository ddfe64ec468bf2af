//go:build !unix

package main

import "os"

// checkListening has nothing to check: nothing is handed over here.
func checkListening(*os.File) error { return nil }

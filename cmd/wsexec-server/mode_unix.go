//go:build unix

package main

import "syscall"

// privateModes: file modes say who may read a file.
const privateModes = true

func umask(mask int) int { return syscall.Umask(mask) }

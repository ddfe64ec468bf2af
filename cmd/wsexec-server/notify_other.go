//go:build !linux

package main

// A notifier is for systemd.
type notifier struct{}

func newNotifier() notifier         { return notifier{} }
func (notifier) ready(string) error { return nil }
func (notifier) stopping() error    { return nil }
func (notifier) reloading() error   { return nil }

package server

import "testing"

// An open that waited for a place went on waiting when its connection had been
// closed for a newer one: nothing bounded how many.
func TestDroppedArrivalGivesUp(t *testing.T) {
	a, given := new(arrival), 0
	giveUp := func() { given++ }
	if a.whenDropped(giveUp); given != 0 {
		t.Error("it gives up while it is there")
	}
	if a.drop(); given != 1 {
		t.Error("it does not give up")
	}
	if a.whenDropped(giveUp); given != 2 {
		t.Error("one that was dropped before does not give up")
	}
}

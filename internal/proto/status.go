package proto

// Exit statuses that wsexec has of its own.
const (
	StatusTimedOut = 124
	StatusFailed   = 125
	statusSignal   = 128 // and the signal's Linux number
)

// Status is the exit status of wsexec for a command that has ended so.
func (e *Exit) Status() int {
	own := statusSignal + e.Signal
	if e.Code != nil {
		own = *e.Code
	}
	switch {
	case e.TimedOut():
		return StatusTimedOut
	case e.Reason == ReasonShutdown && own != 0:
		return own // 0 would say that the command has done its work
	case e.Reason != "":
		return StatusFailed
	}
	return own
}

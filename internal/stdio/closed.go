package stdio

import "errors"

// ErrClosed is the failure of a write to what was closed when this program was
// started, see [ClosedAtStart].
var ErrClosed = errors.New("it is closed")

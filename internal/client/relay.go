package client

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

const (
	// firstWindow is how much the server may send ahead at first, and how much
	// of stdin is kept, in bytes. The server's own bound may be lower. With
	// pipes both grow to that bound, if it is higher, and to maxWindow at most.
	firstWindow = proto.DefaultWindow
	maxWindow   = 64 << 20
	// ttyWindow is the least window of a terminal's output: so much can be in
	// front of the echo of a key.
	ttyWindow = 64 << 10
	// writeTimeout bounds the wait for a Write that is under way when another
	// client takes the session over: a Write of a plain [io.Writer] may wait
	// for ever.
	writeTimeout = 500 * time.Millisecond
)

var (
	ttyOutput  = stream.Window{Min: ttyWindow, Max: firstWindow}
	pipeOutput = stream.Window{Min: firstWindow, Max: firstWindow, Grows: true}
)

var streamNames = [...]string{"stdin", "stdout", "stderr"}

// An Output is a Stdout or Stderr that writes less instead of waiting. So Run
// knows at any time how much was written, and another client that takes the
// session over goes on right behind that.
type Output interface {
	// Write returns n < len(p) without an error when another byte would have to
	// wait.
	io.Writer
	// AwaitRoom waits until Write takes more, or fails.
	AwaitRoom()
	// NonBlocking reports whether Write never waits, not even for a disk. If
	// so, Write is called by the goroutine that reads the connection, which
	// saves a change of goroutine for each message.
	NonBlocking() bool
}

// A relay moves bytes between the local streams and those of the session. Each
// stream has a goroutine. The session's streams outlive connections, which the
// relay does not know.
type relay struct {
	cmd      *Cmd
	finished func()                  // called when an output has ended or was stopped
	failed   func(fd int, err error) // called when a local stream has failed

	stdin      *stream.Log
	stdinStart int64 // offset of the first byte that this client sends
	signals    *stream.Log
	pending    chan byte // signals for which their stream may have no room
	outputs    [2]*output

	stopped     chan struct{} // closed by stop
	signalsDone sync.WaitGroup
}

// An output is stdout or stderr.
type output struct {
	fd      int
	w       io.Writer
	r       *stream.Receiver
	start   int64 // offset of the first byte that this client gets
	dropped atomic.Int64
	writing stream.Baton // held during a Write; closed when nothing more is to be written
}

func newRelay(c *Cmd, finished func(), failed func(fd int, err error)) *relay {
	r := &relay{cmd: c, finished: finished, failed: failed, stopped: make(chan struct{})}
	r.stdin = stream.NewLog(firstWindow, func() {
		if in, ok := c.Stdin.(io.Closer); ok {
			in.Close()
		}
	})
	r.signals = stream.NewLog(proto.SignalWindow, nil)
	r.pending = make(chan byte, 2*proto.SignalWindow)
	window := pipeOutput
	if c.Start != nil && c.Start.TTY != nil {
		window = ttyOutput
	}
	for i, w := range []io.Writer{c.Stdout, c.Stderr} {
		o := &output{fd: 1 + i, w: w}
		if w == nil {
			o.w = io.Discard
		}
		o.r = stream.NewReceiver(window, nil, func(n int64) {
			o.dropped.Add(n)
			c.event(Gap{o.fd, n})
		})
		if out, ok := w.(Output); ok && out.NonBlocking() {
			o.r.Direct(o.writeNow)
		}
		r.outputs[i] = o
	}
	return r
}

// start begins to move bytes. The command runs.
func (r *relay) start() {
	r.signalsDone.Add(1)
	r.cmd.spawn(r.relaySignals)
	// Not waited for: a Read of a local file cannot be ended for certain, and a
	// Write may block for ever. Run waits for the session's streams instead.
	r.cmd.spawn(r.readStdin)
	for _, o := range r.outputs {
		r.cmd.spawn(func() { r.write(o) })
	}
}

// stop ends the session's streams.
func (r *relay) stop() {
	for _, o := range r.outputs {
		o.r.Abort(io.ErrClosedPipe)
	}
	r.stdin.Abort(io.ErrClosedPipe)
	r.signals.Abort(io.ErrClosedPipe)
	close(r.stopped)
	r.signalsDone.Wait()
}

// readStdin moves the local stdin into its stream.
func (r *relay) readStdin() {
	if r.cmd.Stdin == nil {
		r.stdin.Close()
		return
	}
	for {
		buf, err := r.stdin.Buffer()
		if err != nil {
			return
		}
		n, err := r.cmd.Stdin.Read(buf)
		r.stdin.Commit(n)
		switch {
		case err == io.EOF:
			r.stdin.Close()
			return
		case err != nil && (r.stdin.Stopped() || errors.Is(err, io.ErrClosedPipe)):
			return
		case err != nil:
			r.failed(0, err)
			return
		}
	}
}

// write moves an output to its local destination.
func (r *relay) write(o *output) {
	for {
		p, err := o.r.Next()
		switch {
		case err == io.EOF || errors.Is(err, stream.ErrStopped):
			r.finished()
			return
		case errors.Is(err, stream.ErrChecksum):
			r.failed(o.fd, err)
			return
		case err != nil:
			return
		}
		if !o.writing.Take() {
			return // haltOutputs
		}
		n, err := o.w.Write(p)
		o.r.Consumed(n)
		o.writing.Pass()
		if err == nil && n < len(p) {
			if out, ok := o.w.(Output); ok {
				out.AwaitRoom()
				continue
			}
			err = io.ErrShortWrite
		}
		if err != nil {
			if !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, syscall.EPIPE) {
				r.failed(o.fd, err)
			}
			r.stopOutput(o.fd)
			return
		}
	}
}

// writeNow writes what an [Output] takes of p without waiting. It is called by
// the connection's reader while write waits in Next. An error is not returned:
// write meets it again.
func (o *output) writeNow(p []byte) int {
	if !o.writing.Take() {
		return 0 // haltOutputs
	}
	n, _ := o.w.Write(p)
	o.writing.Pass()
	return n
}

// haltOutputs ends all writing, and waits for a Write that is under way. The
// link then sends how much was written, and the next client goes on there.
func (r *relay) haltOutputs() {
	timeout := time.NewTimer(writeTimeout)
	defer timeout.Stop()
	for _, o := range r.outputs {
		select {
		case <-o.writing.Close():
		case <-timeout.C:
			return
		}
	}
}

func (r *relay) stopOutput(fd int) {
	r.outputs[fd-1].r.Stop()
	r.finished()
}

// outputsFinished reports whether all output was written, or its reader has
// gone.
func (r *relay) outputsFinished() bool {
	return r.outputs[0].r.Finished() && r.outputs[1].r.Finished()
}

// endsSeen reports whether the present connection has brought the end of both
// outputs.
func (r *relay) endsSeen() bool { return r.outputs[0].r.EndSeen() && r.outputs[1].r.EndSeen() }

func (r *relay) allowGaps() {
	for _, o := range r.outputs {
		o.r.AllowGaps()
	}
}

func (r *relay) signal(n int) {
	select {
	case r.pending <- byte(n):
	default:
	}
}

func (r *relay) relaySignals() {
	defer r.signalsDone.Done()
	for {
		select {
		case n := <-r.pending:
			if _, err := r.signals.Write([]byte{n}); err != nil {
				return
			}
		case <-r.stopped:
			return
		}
	}
}

// attach begins a connection for the outputs, and returns how far they are.
func (r *relay) attach(wake func()) map[uint8]proto.Position {
	have := map[uint8]proto.Position{}
	for _, o := range r.outputs {
		off, limit := o.r.Attach(wake)
		have[uint8(o.fd)] = proto.Position{Offset: off, Limit: limit}
	}
	return have
}

// resume puts the streams at the offsets in opened. have is what open had; nil:
// open had none, because this client takes the session over.
func (r *relay) resume(m *proto.Opened, have map[uint8]proto.Position, wake func()) error {
	bound := min(m.Window, maxWindow)
	r.stdin.SetBound(bound)
	for _, o := range r.outputs {
		n := uint8(o.fd)
		o.r.SetBound(m.Window)
		if have == nil {
			window := pipeOutput
			if m.TTY {
				window = ttyOutput
			}
			o.start = m.From[n]
			o.r.Begin(o.start, window)
		} else if have[n].Offset != m.From[n] {
			return fmt.Errorf("stream %d goes on at %d, where this client is at %d", n, m.From[n], have[n].Offset)
		}
		o.r.SetMax(bound)
	}
	if have == nil {
		r.stdinStart = m.Have[proto.Stdin].Offset
		r.stdin.Begin(r.stdinStart, m.CRC)
		r.signals.Begin(m.Have[proto.Signals].Offset, 0)
	}
	for n, l := range map[uint8]*stream.Log{proto.Stdin: r.stdin, proto.Signals: r.signals} {
		if err := l.Holder().Attach(m.Have[n].Offset, m.Have[n].Limit, wake); err != nil {
			return fmt.Errorf("stream %d: %w", n, err)
		}
	}
	return nil
}

// detach ends a connection.
func (r *relay) detach() {
	r.stdin.Holder().Detach()
	r.signals.Holder().Detach()
	for _, o := range r.outputs {
		o.r.Detach()
	}
}

// progress is the position of each stream. It differs from an earlier one if
// anything was moved.
func (r *relay) progress() (p [4]int64) {
	p[0], _ = r.stdin.Position()
	p[1], _ = r.signals.Position()
	for _, o := range r.outputs {
		p[1+o.fd], _ = o.r.Position()
	}
	return p
}

// count fills in the counts of bytes. exit is nil if there was none.
func (r *relay) count(to *Result, exit *proto.Exit) {
	acked, read := r.stdin.Position()
	to.Bytes[0], to.StdinConsumed = read-r.stdinStart, acked-r.stdinStart
	if exit != nil {
		to.StdinConsumed = min(max(exit.Stdin-r.stdinStart, 0), to.Bytes[0])
		to.Dropped[0] = exit.StdinDropped
	}
	for _, o := range r.outputs {
		consumed, _ := o.r.Position()
		to.Dropped[o.fd] = o.dropped.Load()
		to.Bytes[o.fd] = consumed - o.start - to.Dropped[o.fd]
	}
}

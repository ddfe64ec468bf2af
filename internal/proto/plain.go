package proto

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
)

// A program that runs one short command should not have to find out first, by reflection,
// what a message looks like: with [encoding/json] that took a client 0.3 ms for each
// start. So the messages of every start are written here by hand, byte for byte
// as encoding/json writes them, and read if they are written so. All else is left to
// encoding/json: other messages, other writers, and what is wrong.

// appendPlain appends the JSON of m with its type. It reports false, with b as it was, for
// what it cannot write.
func appendPlain(b []byte, m any) ([]byte, bool) {
	w := plainWriter{b: append(b, `{"type":"`+typeOf(m)+`"`...)}
	switch m := m.(type) {
	case *Open:
		w.open(m)
	case *Opened:
		w.opened(m)
	case *Exit:
		w.exit(m)
	case *Detach, *Detached, *Hangup, *Bye:
	default:
		return b, false
	}
	if w.strange {
		return b, false
	}
	return append(w.b, '}'), true
}

type plainWriter struct {
	b       []byte
	strange bool // there is something that is not written here
}

// member begins a member of an object.
func (w *plainWriter) member(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

func (w *plainWriter) int(name string, n int64) {
	w.member(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *plainWriter) intIf(name string, n int64) {
	if n != 0 {
		w.int(name, n)
	}
}

func (w *plainWriter) millisIf(name string, m *Millis) {
	if m != nil {
		w.int(name, int64(*m))
	}
}

func (w *plainWriter) bool(name string, v bool) {
	w.member(name)
	w.b = strconv.AppendBool(w.b, v)
}

func (w *plainWriter) boolIf(name string, v bool) {
	if v {
		w.bool(name, v)
	}
}

func (w *plainWriter) string(name, s string) {
	w.member(name)
	w.b = append(w.b, '"')
	for i := range len(s) {
		if c := s[i]; !isPlain(c) || c == '<' || c == '>' || c == '&' { // which encoding/json escapes
			w.strange = true
		}
	}
	w.b = append(append(w.b, s...), '"')
}

func (w *plainWriter) stringIf(name, s string) {
	if s != "" {
		w.string(name, s)
	}
}

// isPlain reports whether c stands for itself in a JSON string.
func isPlain(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }

func (w *plainWriter) base64(p []byte) {
	if p == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = append(w.b, '"')
	w.b = base64.StdEncoding.AppendEncode(w.b, p)
	w.b = append(w.b, '"')
}

func (w *plainWriter) list(name string, all [][]byte) {
	w.member(name)
	if all == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = append(w.b, '[')
	for i, p := range all {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.base64(p)
	}
	w.b = append(w.b, ']')
}

// streams writes a map by stream, in the order of their numbers.
func streams[V any](w *plainWriter, name string, m map[uint8]V, value func(V)) {
	w.member(name)
	if m == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = append(w.b, '{')
	n := 0
	for s := range uint8(NumStreams) {
		if v, ok := m[s]; ok {
			n++
			w.member(string('0' + rune(s)))
			value(v)
		}
	}
	w.strange = w.strange || n != len(m)
	w.b = append(w.b, '}')
}

func (w *plainWriter) position(p Position) {
	w.b = strconv.AppendInt(append(w.b, '['), p.Offset, 10)
	w.b = append(strconv.AppendInt(append(w.b, ','), p.Limit, 10), ']')
}

func (w *plainWriter) winsize(s Winsize) {
	w.int("rows", int64(s.Rows))
	w.int("cols", int64(s.Cols))
}

// modesIf writes modes in the order that encoding/json has: that of their numbers
// as text.
func (w *plainWriter) modesIf(m Modes) {
	if len(m) == 0 {
		return
	}
	ops := make([]string, 0, len(m))
	for op := range m {
		ops = append(ops, strconv.Itoa(int(op)))
	}
	slices.Sort(ops)
	w.member("modes")
	w.b = append(w.b, '{')
	for _, s := range ops {
		op, _ := strconv.Atoi(s)
		w.int(s, int64(m[uint8(op)]))
	}
	w.b = append(w.b, '}')
}

func (w *plainWriter) open(o *Open) {
	w.string("client", o.Client)
	w.int("try", int64(o.Try))
	if o.Start != nil {
		w.member("start")
		w.b = append(w.b, '{')
		w.start(o.Start)
		w.b = append(w.b, '}')
	}
	if len(o.Have) > 0 {
		streams(w, "have", o.Have, w.position)
	}
	if o.Size != nil {
		w.member("size")
		w.b = append(w.b, '{')
		w.winsize(*o.Size)
		w.b = append(w.b, '}')
	}
	w.intIf("window", o.Window)
	w.boolIf("watch", o.Watch)
}

func (w *plainWriter) start(s *Start) {
	w.list("argv", s.Argv)
	if len(s.Env) > 0 {
		w.list("env", s.Env)
	}
	if len(s.Dir) > 0 {
		w.member("dir")
		w.base64(s.Dir)
	}
	if s.TTY != nil {
		w.member("tty")
		w.b = append(w.b, '{')
		w.string("term", s.TTY.Term)
		w.winsize(s.TTY.Winsize)
		w.modesIf(s.TTY.Modes)
		w.b = append(w.b, '}')
	}
	w.boolIf("merge", s.Merge)
	w.boolIf("detach", s.Detach)
	w.stringIf("name", s.Name)
	w.millisIf("timeout", s.Timeout)
	w.millisIf("idle_timeout", s.Idle)
	w.millisIf("kill_after", s.KillAfter)
	w.millisIf("linger", s.Linger)
	w.millisIf("keepalive", s.Keepalive)
	w.millisIf("drain", s.Drain)
	w.stringIf("on_full", s.OnFull)
	w.stringIf("user", s.User)
	w.boolIf("leave_running", s.LeaveRunning)
}

func (w *plainWriter) opened(o *Opened) {
	w.int("pid", int64(o.PID))
	w.bool("resumed", o.Resumed)
	w.bool("tty", o.TTY)
	w.int("linger", int64(o.Linger))
	w.int("keepalive", int64(o.Keepalive))
	streams(w, "have", o.Have, w.position)
	streams(w, "from", o.From, func(n int64) { w.b = strconv.AppendInt(w.b, n, 10) })
	w.int("crc", int64(o.CRC))
	w.intIf("window", o.Window)
	w.stringIf("dir", o.Dir)
}

func (w *plainWriter) exit(e *Exit) {
	if e.Code != nil {
		w.int("code", int64(*e.Code))
	}
	w.intIf("signal", int64(e.Signal))
	w.boolIf("core", e.Core)
	w.stringIf("reason", e.Reason)
	w.int("stdin", e.Stdin)
	w.strange = w.strange || len(e.LeftBehind) > 0 // seldom
}

// parsePlain is the inverse of appendPlain. It reports false for what is not written so,
// which may be a message all the same. It checks no values.
func parsePlain(b []byte) (any, bool) {
	r := plainReader{b: b}
	r.object(func() {
		if !r.member("type") {
			r.strange = true
			return
		}
		r.msg = newControl(r.string())
		switch m := r.msg.(type) {
		case *Open:
			r.open(m)
		case *Opened:
			r.opened(m)
		case *Exit:
			r.exit(m)
		case *Detach, *Detached, *Hangup, *Bye:
		default:
			r.strange = true
		}
	})
	return r.msg, !r.strange && len(r.b) == 0
}

type plainReader struct {
	b       []byte // what is left
	first   bool   // no member of the present object was read yet
	strange bool   // there is something that is not read here, and what is read is to be forgotten
	msg     any
}

// skip takes s, if it comes next.
func (r *plainReader) skip(s string) bool {
	if r.strange || len(r.b) < len(s) || string(r.b[:len(s)]) != s {
		return false
	}
	r.b = r.b[len(s):]
	return true
}

func (r *plainReader) need(s string) {
	if !r.skip(s) {
		r.strange = true
	}
}

// object reads an object, whose members are read by f.
func (r *plainReader) object(f func()) {
	r.need("{")
	r.first = true
	f()
	r.first = false
	r.need("}")
}

// member takes the name of a member, if it comes next.
func (r *plainReader) member(name string) bool {
	rest := r.b
	if !r.first && !r.skip(",") || !r.skip(`"`) || !r.skip(name) || !r.skip(`":`) {
		r.b = rest
		return false
	}
	r.first = false
	return true
}

// number reads a whole number.
func (r *plainReader) number() int64 {
	const maxDigits = 18 // more might not fit
	sign := 0
	if len(r.b) > 0 && r.b[0] == '-' {
		sign = 1
	}
	n := sign
	for n < len(r.b) && r.b[n]-'0' <= 9 {
		n++
	}
	if n == sign || n-sign > maxDigits || r.b[sign] == '0' && n > 1 { // JSON has neither 01 nor, here, -0
		r.strange = true
		return 0
	}
	v, _ := strconv.ParseInt(string(r.b[:n]), 10, 64)
	r.b = r.b[n:]
	return v
}

// numberTo reads a member that is a number, if it comes next, into what may be too small for
// it.
func numberTo[T ~int | ~int64 | ~uint16 | ~uint32](r *plainReader, name string, to *T) (found bool) {
	if !r.member(name) {
		return false
	}
	n := r.number()
	*to = T(n)
	r.strange = r.strange || int64(*to) != n
	return true
}

func (r *plainReader) millisTo(name string, to **Millis) {
	if m := Millis(0); numberTo(r, name, &m) {
		*to = &m
	}
}

func (r *plainReader) boolTo(name string, to *bool) {
	if r.member(name) {
		*to = r.skip("true")
		if !*to {
			r.need("false")
		}
	}
}

// raw reads a string that stands for itself.
func (r *plainReader) raw() []byte {
	r.need(`"`)
	for i, c := range r.b {
		if c == '"' {
			s := r.b[:i]
			r.b = r.b[i+1:]
			return s
		}
		if !isPlain(c) {
			break
		}
	}
	r.strange = true
	return nil
}

func (r *plainReader) string() string { return string(r.raw()) }

func (r *plainReader) stringTo(name string, to *string) {
	if r.member(name) {
		*to = r.string()
	}
}

func (r *plainReader) base64() []byte {
	s := r.raw()
	p := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(p, s)
	if err != nil {
		r.strange = true
		return nil
	}
	return p[:n]
}

func (r *plainReader) listTo(name string, to *[][]byte) {
	if !r.member(name) {
		return
	}
	all := [][]byte{}
	r.need("[")
	for more := !r.skip("]"); more && !r.strange; more = !r.skip("]") {
		if len(all) > 0 {
			r.need(",")
		}
		all = append(all, r.base64())
	}
	*to = all
}

// streamsTo reads a map by stream, in the order of their numbers.
func streamsTo[V any](r *plainReader, name string, to *map[uint8]V, value func() V) {
	if !r.member(name) {
		return
	}
	m := map[uint8]V{}
	r.object(func() {
		for s := range uint8(NumStreams) {
			if r.member(string('0' + rune(s))) {
				m[s] = value()
			}
		}
	})
	*to = m
}

func (r *plainReader) position() Position {
	r.need("[")
	p := Position{Offset: r.number()}
	r.need(",")
	p.Limit = r.number()
	r.need("]")
	r.strange = r.strange || p.check() != nil
	return p
}

func (r *plainReader) sizeTo(s *Winsize) {
	numberTo(r, "rows", &s.Rows)
	numberTo(r, "cols", &s.Cols)
}

// modesTo reads modes that come in the order in which they are written.
func (r *plainReader) modesTo(to *Modes) {
	if !r.member("modes") {
		return
	}
	m := Modes{}
	r.object(func() {
		for last := ""; !r.strange && len(r.b) > 0 && r.b[0] != '}'; {
			if !r.first {
				r.need(",")
			}
			r.first = false
			name := r.string()
			r.need(":")
			op, err := strconv.ParseUint(name, 10, 8)
			v := r.number()
			r.strange = r.strange || err != nil || name <= last || name != strconv.Itoa(int(op)) || v < 0 || v > math.MaxUint32
			m[uint8(op)], last = uint32(v), name
		}
	})
	*to = m
}

func (r *plainReader) open(o *Open) {
	r.stringTo("client", &o.Client)
	numberTo(r, "try", &o.Try)
	if r.member("start") {
		o.Start = new(Start)
		r.object(func() { r.start(o.Start) })
	}
	streamsTo(r, "have", &o.Have, r.position)
	if r.member("size") {
		o.Size = new(Winsize)
		r.object(func() { r.sizeTo(o.Size) })
	}
	numberTo(r, "window", &o.Window)
	r.boolTo("watch", &o.Watch)
}

func (r *plainReader) start(s *Start) {
	r.listTo("argv", &s.Argv)
	r.listTo("env", &s.Env)
	if r.member("dir") {
		s.Dir = r.base64()
	}
	if r.member("tty") {
		s.TTY = new(TTY)
		r.object(func() {
			r.stringTo("term", &s.TTY.Term)
			r.sizeTo(&s.TTY.Winsize)
			r.modesTo(&s.TTY.Modes)
		})
	}
	r.boolTo("merge", &s.Merge)
	r.boolTo("detach", &s.Detach)
	r.stringTo("name", &s.Name)
	r.millisTo("timeout", &s.Timeout)
	r.millisTo("idle_timeout", &s.Idle)
	r.millisTo("kill_after", &s.KillAfter)
	r.millisTo("linger", &s.Linger)
	r.millisTo("keepalive", &s.Keepalive)
	r.millisTo("drain", &s.Drain)
	r.stringTo("on_full", &s.OnFull)
	r.stringTo("user", &s.User)
	r.boolTo("leave_running", &s.LeaveRunning)
}

func (r *plainReader) opened(o *Opened) {
	numberTo(r, "pid", &o.PID)
	r.boolTo("resumed", &o.Resumed)
	r.boolTo("tty", &o.TTY)
	numberTo(r, "linger", &o.Linger)
	numberTo(r, "keepalive", &o.Keepalive)
	streamsTo(r, "have", &o.Have, r.position)
	streamsTo(r, "from", &o.From, r.number)
	numberTo(r, "crc", &o.CRC)
	numberTo(r, "window", &o.Window)
	r.stringTo("dir", &o.Dir)
}

func (r *plainReader) exit(e *Exit) {
	if code := 0; numberTo(r, "code", &code) {
		e.Code = &code
	}
	numberTo(r, "signal", &e.Signal)
	r.boolTo("core", &e.Core)
	r.stringTo("reason", &e.Reason)
	numberTo(r, "stdin", &e.Stdin)
}

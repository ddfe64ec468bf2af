package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// controlTypes are the control messages by their type on the wire.
var controlTypes = map[string]reflect.Type{
	"open":      reflect.TypeFor[Open](),
	"opened":    reflect.TypeFor[Opened](),
	"resize":    reflect.TypeFor[Resize](),
	"detach":    reflect.TypeFor[Detach](),
	"detached":  reflect.TypeFor[Detached](),
	"job":       reflect.TypeFor[Job](),
	"suspended": reflect.TypeFor[Suspended](),
	"hangup":    reflect.TypeFor[Hangup](),
	"bye":       reflect.TypeFor[Bye](),
	"exit":      reflect.TypeFor[Exit](),
	"error":     reflect.TypeFor[Error](),
	"read":      reflect.TypeFor[Read](),
}

// typeOf is the type on the wire of a control message.
func typeOf(m any) string {
	for name, t := range controlTypes {
		if reflect.TypeOf(m) == reflect.PointerTo(t) {
			return name
		}
	}
	panic(fmt.Sprintf("proto: internal error: %T is no control message", m))
}

// Marshal encodes m, a pointer to a control message, with its type. It only
// reads m, which other goroutines may read as well.
func Marshal(m any) ([]byte, error) {
	typ := typeOf(m)
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(b)+20), `{"type":"`+typ+`"`...)
	if len(b) > len("{}") {
		out = append(out, ',')
	}
	return append(out, b[1:]...), nil
}

// ErrNotUTF8 is the error of a text message that is not UTF-8 (RFC 6455 §8.1).
// [encoding/json] parses it, into other strings than were sent.
var ErrNotUTF8 = errors.New("text that is not UTF-8")

// ParseControl parses a text message, whose length the caller has bounded, into
// a pointer to a control message. The error of a message that ends too early
// has [ErrTruncated] in its chain, that of one that is not UTF-8 [ErrNotUTF8].
func ParseControl(b []byte) (any, error) {
	var head struct {
		Type string `json:"type"`
	}
	err := unmarshal(b, &head)
	switch {
	case errors.Is(err, ErrTruncated):
		return nil, err // also of one that ends within a character
	case !utf8.Valid(b):
		return nil, ErrNotUTF8
	case err != nil:
		return nil, fmt.Errorf("control message: %w", err)
	}
	t, ok := controlTypes[head.Type]
	if !ok {
		return nil, fmt.Errorf("control message of unknown type %.40q", head.Type)
	}
	m := reflect.New(t).Interface()
	err = unmarshal(b, m)
	// Only an open is longer. It says nothing about how a command ended, and to
	// check 4 MiB would take most of a second.
	if err == nil && len(b) <= MaxControl {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber() // a number of an unknown member may be of any size
		err = checkValue(d, "", true)
	}
	if c, ok := m.(interface{ check() error }); ok && err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", head.Type, err)
	}
	return m, nil
}

// unmarshal is [json.Unmarshal] with errors in the words of the protocol.
func unmarshal(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var syntax *json.SyntaxError
	var value *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		// Only a decoder's error tells missing bytes from a wrong last one.
		var raw json.RawMessage
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&raw); err == io.ErrUnexpectedEOF || err == io.EOF {
			return ErrTruncated
		}
		return errors.New("not JSON")
	case errors.As(err, &value) && value.Field == "":
		return fmt.Errorf("a JSON %s, not an object", value.Value)
	case errors.As(err, &value):
		return fmt.Errorf("member %s is a JSON %s", value.Field, value.Value)
	}
	return err
}

// checkValue reads the next value of d, which belongs to member, and refuses two
// things that [json.Unmarshal] accepts: a second member of the same name in an
// object, where the last one would win, and a null in an array or a map by
// numbers, which would be zero.
func checkValue(d *json.Decoder, member string, nullable bool) error {
	t, err := d.Token()
	switch {
	case err != nil:
		return err
	case t == nil && !nullable:
		return fmt.Errorf("member %.40q has a null among its values", member)
	case t == json.Delim('['):
		for d.More() {
			if err := checkValue(d, member, false); err != nil {
				return err
			}
		}
		_, err = d.Token()
	case t == json.Delim('{'):
		var names []string
		for d.More() {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name := t.(string)
			in, number := name, strings.Trim(name, "0123456789") == "" && name != ""
			if number {
				last := len(name) - 1
				name = strings.TrimLeft(name[:last], "0") + name[last:] // 01 is 1
				in = member
			}
			if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
				return fmt.Errorf("a second member %.40q", name)
			}
			names = append(names, name)
			if err := checkValue(d, in, !number); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

// errNull is the error of a null in argv or env of an open of any length.
var errNull = errors.New("a null in an array")

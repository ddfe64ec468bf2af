package link

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/coder/websocket"
)

// An opcode says what a frame of WebSocket is (RFC 6455 §5.2).
type opcode byte

const (
	opcodeContinuation opcode = 0x0
	opcodeText         opcode = 0x1
	opcodeBinary       opcode = 0x2
	opcodeClose        opcode = 0x8
	opcodePing         opcode = 0x9
	opcodePong         opcode = 0xa
)

// isControl reports whether it is that of a control frame (§5.5).
func (op opcode) isControl() bool { return op&0x8 != 0 }

// Bits of the first two bytes of a frame, beside the opcode and the length.
const (
	bitFin      = 0x80 // of the first: the last frame of its message
	bitsRSV     = 0x70 // of the first: of extensions, of which there are none
	bitMasked   = 0x80 // of the second
	opcodeBits  = 0x0f
	lengthBits  = 0x7f
	length16    = 126 // two bytes of length follow
	length64    = 127 // eight bytes of length follow
	maskKeySize = 4
)

const (
	maxHead    = 2 + 8 + maskKeySize // length of the longest header of a frame
	maxControl = 125                 // length of the longest payload of a control frame (§5.5)
)

// A frameHeader is what stands before the payload of a frame.
type frameHeader struct {
	op     opcode
	fin    bool // it is the last frame of its message
	masked bool
	key    [maskKeySize]byte // of a masked frame; with others 0
	length int64             // of the payload
}

// headerSize is the length of the header whose second byte is b.
func headerSize(b byte) int {
	n := 2
	switch b & lengthBits {
	case length16:
		n += 2
	case length64:
		n += 8
	}
	if b&bitMasked != 0 {
		n += maskKeySize
	}
	return n
}

// parseHeader parses a header, which is the whole of b. Its error is a breach of
// RFC 6455.
func parseHeader(b []byte) (frameHeader, error) {
	h := frameHeader{op: opcode(b[0] & opcodeBits), fin: b[0]&bitFin != 0, masked: b[1]&bitMasked != 0}
	length, shortest := uint64(b[1]&lengthBits), uint64(0)
	key := b[2:]
	switch length {
	case length16:
		length, shortest, key = uint64(binary.BigEndian.Uint16(key)), length16, key[2:]
	case length64:
		length, shortest, key = binary.BigEndian.Uint64(key), 1<<16, key[8:]
	}
	copy(h.key[:], key)
	h.length = int64(length)
	switch {
	case b[0]&bitsRSV != 0:
		return h, breach("a frame has reserved bits set (%#02x)", b[0])
	case h.op > opcodeBinary && h.op < opcodeClose, h.op > opcodePong:
		return h, breach("a frame has the unknown opcode %d", h.op)
	case length < shortest:
		return h, breach("the length %d of a frame takes more bytes than it needs", length)
	case h.length < 0:
		return h, breach("the length of a frame is more than 63 bits")
	case h.op.isControl() && length > maxControl:
		return h, breach("a control frame has %d bytes, more than %d", length, maxControl)
	case h.op.isControl() && !h.fin:
		return h, breach("a control frame is fragmented")
	}
	return h, nil
}

// breach is the error of a frame that RFC 6455 forbids.
func breach(format string, args ...any) error {
	return fmt.Errorf("%w: WebSocket: "+format, append([]any{ErrProtocol}, args...)...)
}

// mask masks src into dst, or takes its mask off (§5.3). dst has the length of
// src, and may be src. It returns the key of the bytes that follow.
func mask(dst, src []byte, key [maskKeySize]byte) [maskKeySize]byte {
	n := len(src)
	if n < 32 {
		for i, b := range src {
			dst[i] = b ^ key[i%maskKeySize]
		}
	} else {
		var block [512]byte // a multiple of the key's length
		for have := copy(block[:], key[:]); have < len(block); have *= 2 {
			copy(block[have:], block[:have])
		}
		for len(src) > 0 {
			n := subtle.XORBytes(dst, src, block[:])
			dst, src = dst[n:], src[n:]
		}
	}
	return [maskKeySize]byte{key[n%4], key[(n+1)%4], key[(n+2)%4], key[(n+3)%4]}
}

// closePayload is the payload of a close frame. The reason has at most 123 bytes.
func closePayload(e websocket.CloseError) []byte {
	if e.Code == websocket.StatusNoStatusRcvd {
		return nil
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(e.Code)), e.Reason...)
}

// parseClose is the inverse of closePayload.
func parseClose(b []byte) (websocket.CloseError, error) {
	switch {
	case len(b) == 0:
		return websocket.CloseError{Code: websocket.StatusNoStatusRcvd}, nil
	case len(b) == 1:
		return websocket.CloseError{}, breach("a close frame has half a code")
	}
	e := websocket.CloseError{Code: websocket.StatusCode(binary.BigEndian.Uint16(b)), Reason: string(b[2:])}
	if !isSent(e.Code) {
		return websocket.CloseError{}, breach("a close frame has the code %d", e.Code)
	}
	return e, nil
}

// isSent reports whether a close frame may have that code (§7.4).
func isSent(code websocket.StatusCode) bool {
	switch code {
	case 1004, websocket.StatusNoStatusRcvd, websocket.StatusAbnormalClosure, websocket.StatusTLSHandshake:
		return false
	}
	return code >= websocket.StatusNormalClosure && code <= websocket.StatusBadGateway || code >= 3000 && code <= 4999
}

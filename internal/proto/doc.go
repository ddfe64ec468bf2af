// Package proto defines wsexec.v1, the protocol between wsexec and
// wsexec-server: its frames, its control messages, their parsing and their
// bounds. This comment is the specification; a client can be written from it
// alone.
//
// # Overview
//
// A session is one command that a server runs for a client. One WebSocket
// connection (RFC 6455) carries one session. The session outlives the
// connection: a client that has lost its connection makes a new one, and both
// sides go on at the exact byte. A WebSocket that closes, however cleanly, says
// nothing about the command: only an exit message does.
//
// A session as its client sees it:
//
//	           101            open             opened           exit, END of
//	connecting ----> upgraded ----> asking ---------> attached ------------> ended
//	    ^                              |                  |     each output    |
//	    |          lost                |                  |                    | bye
//	    +------------------------------+------------------+                    v
//	                                                                         done
//
//	connecting  until linger is over, or the server refuses for good
//	asking      the client has sent open and sends nothing else
//	attached    bytes go both ways; after detach and detached the client leaves
//	ended       the client writes the rest of the output, and then sends bye
//
// An error message ends the session for this client in any state. So does a
// connection that is closed with 1002 or 1009. Every other end of a connection
// before bye is a loss.
//
// Numbers in frames are unsigned and big endian. Numbers in control messages
// are JSON integers of at most 2^53-1. Signals are Linux's numbers on every
// system. Durations are in milliseconds.
//
// # An example: echo hi
//
// The session of wsexec run -n echo hi, from the first byte to the last. C is
// the client, S the server. Each line after the upgrade is one WebSocket
// message: the header of RFC 6455 §5.2 in hexadecimal, and then the text of a
// control message, or the fields of a frame in hexadecimal. Control messages
// have no line breaks. A client masks its messages (RFC 6455 §5.3): its headers
// have the mask bit, and here the mask is left out and the rest is unmasked.
//
//	C  GET /v1/sessions/gxclbb2aekyyvlhqqwhhitrchi HTTP/1.1
//	C  Host: localhost
//	C  Authorization: Bearer TOKEN
//	C  Connection: Upgrade
//	C  Upgrade: websocket
//	C  Sec-WebSocket-Version: 13
//	C  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
//	C  Sec-WebSocket-Protocol: wsexec.v1
//	C
//	S  HTTP/1.1 101 Switching Protocols
//	S  Connection: Upgrade
//	S  Upgrade: websocket
//	S  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
//	S  Sec-WebSocket-Protocol: wsexec.v1
//	S  Wsexec-Instance: c6avo2z6yzrqui2lfpkxniixga
//	S
//	C  81 fe 009c  {"type":"open","client":"2fbleas2fpxzjq4dvezbs533cy",
//	    "try":1,"start":{"argv":["ZWNobw==","aGk="]},
//	    "have":{"1":[0,1048576],"2":[0,1048576]},"window":1048576}
//	S  81 7e 00ac  {"type":"opened","pid":4711,"resumed":false,
//	    "tty":false,"linger":300000,"keepalive":15000,
//	    "have":{"0":[0,1048576],"3":[0,64]},"from":{"1":0,"2":0},
//	    "crc":0,"window":1048576}
//	S  82 0d 01 01 0000000000000000 68690a      DATA of stdout: "hi\n"
//	S  82 0a 04 00 0000000000000000             STOP of stdin: echo has ended
//	S  82 0e 02 01 0000000000000003 1bdcb083    END of stdout at 3
//	S  82 0e 02 02 0000000000000000 00000000    END of stderr at 0
//	S  81 22  {"type":"exit","code":0,"stdin":0}
//	C  82 8e 02 00 0000000000000000 00000000    END of stdin
//	S  82 12 03 00 0000000000000000 0000000000100000   ACK: stdin, to 0
//	C  82 92 03 01 0000000000000003 0000000000100003   ACK: stdout, to 3
//	C  82 92 03 02 0000000000000000 0000000000100000   ACK: stderr, to 0
//	C  81 8e  {"type":"bye"}
//	S  88 02 03e8                               the close, with 1000
//	C  88 82 03e8
//
// # An example: a lost connection
//
// The session of head -c 100000 /dev/zero | wsexec run cat, without its HTTP and
// without the headers of the messages. "N zeros" are N bytes of payload.
//
//	C  {"type":"open","client":"v3d5k6wr2ocn4oqjb2x7uhyqie","try":1,
//	    "start":{"argv":["Y2F0"]},
//	    "have":{"1":[0,1048576],"2":[0,1048576]},"window":1048576}
//	S  {"type":"opened","pid":4711,"resumed":false,"tty":false,
//	    "linger":300000,"keepalive":15000,
//	    "have":{"0":[0,1048576],"3":[0,64]},"from":{"1":0,"2":0},
//	    "crc":0,"window":1048576}
//	C  01 00 0000000000000000 65536 zeros        DATA of stdin, from 0
//	C  01 00 0000000000010000 34464 zeros        DATA of stdin, from 65,536
//	C  02 00 00000000000186a0 e5f88f3d           END of stdin at 100,000
//	S  01 01 0000000000000000 65536 zeros        DATA of stdout, from 0
//
// Here the connection is lost. Neither side has sent an ACK. Where each one
// goes on is what the other one has consumed:
//
//   - The server has received all of stdin, and has written 65,536 bytes of it to
//     cat. It forgets the other 34,464, and says 65,536 in have. Its crc is that
//     of those 65,536 bytes.
//   - The client has received 65,536 bytes of stdout, and has written 50,000 of
//     them. It forgets the other 15,536, and says 50,000 in have.
//   - The client still has stdin from 0 on, and the server stdout from 0 on,
//     since neither was acknowledged.
//
// The client connects again, with the next try and without start:
//
//	C  {"type":"open","client":"v3d5k6wr2ocn4oqjb2x7uhyqie","try":2,
//	    "have":{"1":[50000,1098576],"2":[0,1048576]},"window":1048576}
//	S  {"type":"opened","pid":4711,"resumed":true,"tty":false,
//	    "linger":300000,"keepalive":15000,
//	    "have":{"0":[65536,1114112],"3":[0,64]},"from":{"1":50000,"2":0},
//	    "crc":1925235876,"window":1048576}
//	C  01 00 0000000000010000 34464 zeros        DATA of stdin, again
//	C  02 00 00000000000186a0 e5f88f3d           END of stdin, again
//	S  01 01 000000000000c350 50000 zeros        DATA of stdout, from 50,000
//	S  03 00 00000000000186a0 00000000001186a0   ACK: stdin, to 100,000
//	S  02 01 00000000000186a0 e5f88f3d           END of stdout at 100,000
//	S  02 02 0000000000000000 00000000           END of stderr
//	S  {"type":"exit","code":0,"stdin":100000}
//	C  03 01 00000000000186a0 00000000001186a0   ACK: stdout, to 100,000
//	C  03 02 0000000000000000 0000000000100000   ACK: stderr, to 0
//	C  {"type":"bye"}
//	S  closes the connection with 1000.
//
// # Connecting
//
//	GET /v1/sessions/{id} HTTP/1.1
//	Connection: Upgrade
//	Upgrade: websocket
//	Sec-WebSocket-Protocol: wsexec.v1
//	Authorization: Bearer TOKEN
//
// besides the headers that RFC 6455 §4.1 demands: Host (over a Unix socket
// localhost), Sec-WebSocket-Key, and Sec-WebSocket-Version: 13.
//
// The client picks the id: 128 random bits as 26 characters of the alphabet
// a-z2-7 (RFC 4648 base32 in lower case without padding, so the last character
// carries three bits). The id is a name and no secret. The token is the secret
// and never part of a URL. Over a Unix socket none is needed.
//
// A refusal is an HTTP response with a problem document (RFC 9457,
// application/problem+json, members type, title, status, detail). The checks of
// headers, Host and path come first, and for every path:
//
//	400  bad id or Sec-WebSocket-Key; or the subprotocol wsexec.v1 was not
//	     offered; or a second header Origin, Authorization, Sec-Fetch-Site or
//	     Sec-WebSocket-*
//	401  no token or a wrong one
//	403  an Origin header that does not name this host, or a Sec-Fetch-Site of
//	     another
//	404  no such resource; also for a path with an escape, an empty segment or
//	     a dot
//	421  over TCP, a Host that is not a name of the server
//	426  not a request to upgrade to WebSocket 13, and no session of that id
//	431  the header is too large
//	503  the id is unknown and the server is full or stopping; or there are too
//	     many connections or lists; or the issuer of the token is away; see
//	     Retry-After
//
// The type of a problem is urn:wsexec:busy for a 503 that may soon be over,
// because of too many connections or lists or an issuer, and urn:wsexec:full where there is
// no place for another session. It is about:blank in all others.
//
// A client that has not sent open yet takes every refusal as final, but for a
// few tries within 2 s with urn:wsexec:busy. If its user wants it to wait, it
// tries again after a 429, 502, 503 or 504, and while nothing listens, with
// pauses that grow from 0.1 s to 2 s. A client that has sent open takes
// those from 400 to 499 as final, without 408 and 429, which are a proxy's.
//
// The 101 response carries the header Wsexec-Instance, random for each start of
// the server. No compression extension is negotiated.
//
// Without an upgrade, with the same token:
//
//	GET  /v1/sessions              {"sessions":[INFO...], "next":CURSOR}
//	GET  /v1/sessions/{id}         INFO
//	POST /v1/sessions/{id}/signal  {"signal":15}; 204
//	GET  /healthz                  {"status":"ok"}, no token needed
//
// What these answer:
//
//   - INFO is type [Info]. It has at most 4 KiB of argv, each argument counting
//     for 8 bytes more; "argv_truncated":true says that there is more.
//   - A list comes in pages, oldest sessions first. ?limit=N is the greatest
//     number of sessions in one, 1 to 100; without it 100. So a page has less
//     than 1 MiB.
//   - ?after=CURSOR gives the page after the one with that next. The last page
//     has no next. A session that exists during the whole list is in exactly one
//     page, whatever others come and go. A cursor of another instance of the
//     server is a 400.
//   - A principal sees its own sessions only. Another's are unknown to it.
//
// # Messages
//
// A text message is one control message, a JSON object with a member "type". A
// binary message is a frame. WebSocket messages may be fragmented.
//
//   - A member with a name that is not on this page is ignored. Names are
//     written as on this page, each once in an object. Two that differ only in
//     case, or as numbers in leading zeros, are the same name. A receiver may
//     take a name in another case for the right one.
//   - A type, a kind or a stream that is not on this page, a second member of
//     the same name, a null in an array or as the value of a member whose name
//     is a number, and a message that breaks any other rule of this page are
//     breaches. In an open of more than 4,096 bytes a receiver may miss the
//     second member and the null of such a member.
//   - Breaches close the connection with close code 1002 (1009 if the message is
//     too long) and a reason, and harm no other session. A client that closes
//     so, or gets one of these codes, does not connect again: the same would
//     happen.
//   - A message that ends too early may be the trace of a peer that died (see
//     the note at the end). It is a lost connection, closed with 1007, and the
//     client connects again. So is a text message that is not UTF-8.
//
// # Streams and frames
//
// Streams are numbered as file descriptors are:
//
//	0  stdin    client to server
//	1  stdout   server to client; the terminal's output with a PTY
//	2  stderr   server to client; ends at 0 with a PTY or merged output
//	3  signals  client to server, one byte for each signal
//
// So the receiver of streams 0 and 3 is the server, that of 1 and 2 the client.
// A stream is a sequence of bytes. They are counted from 0 over the whole life
// of the session, not of the connection. A frame begins with ten bytes,
//
//	kind (1)  stream (1)  offset (8)
//
// and goes on as its kind says:
//
//	kind  name  sent by   then             meaning
//	1     DATA  sender    1..65,536 bytes  the bytes of the stream from offset on
//	2     END   sender    CRC-32C (4)      the stream ends at offset
//	3     ACK   receiver  limit (8)        the bytes before offset are consumed;
//	                                       the sender may go up to limit
//	4     STOP  receiver  nothing          the receiver wants no more of the
//	                                       stream; it consumed up to offset
//	5     GAP   sender    nothing          output before offset was dropped by
//	                                       policy; go on at offset
//
// The order of messages: opened is first, each stream is in order, and the END of
// every output comes before exit. Nothing else is ordered.
//
// DATA is exactly at the next offset and never past the limit. On a new
// connection the next offset is the one that open and opened agree on.
//
// END:
//
//   - It is sent when the sender's source has ended, and again on each new
//     connection until exit (stdin) or bye (output): once on a connection, and
//     each time with the same offset and checksum.
//   - The checksum is CRC-32C (Castagnoli, RFC 3720 §12.1; that of "123456789"
//     is 0xE3069283) of all bytes of the stream.
//   - A receiver that has all bytes and finds another checksum fails. A client
//     closes the connection and does not connect again. The server sends error
//     checksum and ends the session.
//   - Stream 3 has no END.
//
// ACK:
//
//   - Consumed means written to the destination, not received. The receiver
//     forgets bytes that it has received and not consumed when the connection is
//     lost; they are sent again.
//   - Neither offset nor limit ever goes back on a connection. An ACK of bytes
//     that were never sent is an error.
//   - A sender keeps all bytes that are not acknowledged, to send them again. It
//     may keep less than the receiver grants: it says how much as window in open
//     or opened, and without that it keeps 65,536 bytes.
//   - ACK is sent when a quarter was consumed, since the last one, of the number
//     of bytes granted, or of the sender's window if that is less; when the
//     stream's END was reached; when a GAP was stepped over; and as keepalive.
//     It is not sent for each frame.
//   - After a reconnect the sender repeats bytes that the receiver's destination
//     may still be writing from before. The receiver acknowledges them only
//     after they have arrived on the new connection.
//
// STOP:
//
//   - It is sent when a destination has gone (a closed pipe). It is also sent to
//     a client that took over, when stdin had ended with the client before it.
//     It is sent again on each new connection.
//   - The sender counts all bytes that it still has as consumed, stops its
//     source, and sends END, if it has not on this connection. That END is where
//     the source has ended, which may be past the bytes sent and past the limit;
//     neither its offset nor its checksum is checked.
//   - DATA may still arrive after STOP and is dropped. The have of a stopped
//     stream stays at the offset of its STOP.
//   - When the command ends, the server stops a stdin that has not ended.
//   - STOP of stream 1 or 2 closes the command's end of that pipe: its next
//     write is SIGPIPE. With a PTY it hangs the terminal up.
//
// GAP:
//
//   - It comes only for output that may be dropped (see on_full). A sender that
//     keeps all that it may drops the oldest bytes that are not acknowledged.
//   - Bytes that the receiver has, or that are on their way to it, are not
//     touched. The others are a gap. The receiver may also find it where it goes
//     on after a lost connection.
//   - It is sent when the limit allows at least a byte, and may go past the
//     limit.
//   - The receiver writes the bytes before it, goes on at the offset, tells the
//     user, and does not check the checksum. The dropped bytes count as
//     consumed.
//   - No more than 64 may be unacknowledged. Gaps without DATA between them are
//     one.
//
// An example, with a window of 1,048,576 bytes. The client has acknowledged
// 2,000,000 bytes of stdout, and then reads no more. Up to 2,400,000 the bytes
// are on their way to it. The command goes on to 5,000,000. The server keeps the
// newest 1,048,576 bytes, those from 3,951,424 on, and has dropped those from
// 2,400,000 on before them. Then the client reads again:
//
//	S  05 01 00000000003c4b40                    GAP: go on at 3,951,424
//	C  03 01 00000000003c4b40 00000000004c4b40   ACK: stepped over, with a new limit
//	S  01 01 00000000003c4b40 65536 zeros        DATA of stdout, from there
//
// The client writes the bytes up to 2,400,000, says that 1,551,424 are missing,
// and goes on at 3,951,424. The ACK comes first, since the limit was 3,048,576.
//
// # Signals
//
// Each byte of stream 3 is the number of a signal: HUP 1, INT 2, QUIT 3, KILL 9,
// USR1 10, USR2 12, TERM 15, CONT 18, TSTP 20, WINCH 28. Any other is an error.
// It is delivered to the command's process group; with a PTY, INT, QUIT and TSTP
// go to the foreground group of the terminal. As a byte of a stream, a signal is
// delivered once and in order, also over a reconnect. The window is 64 bytes.
//
// # Opening
//
// The client's first message is open. It sends nothing else until opened or
// error came. A server that gets none in time, usually 10 s, closes with error
// limit. Where too many connections wait so, it closes the oldest, as if the
// connection were lost.
//
//	{"type":"open", "client":ID, "try":N, "start":{...}, "have":{...},
//	 "size":{...}, "window":N}
//
//	client  26 random characters like an id, made once by each client process
//	try     the number of this connection of the client to this session, from 1
//	start   what to run, see below
//	have    {"1":[offset, limit], "2":[offset, limit]}: for each output how much
//	        the client consumed and how far the server may go
//	size    {"rows":R,"cols":C}, the size of the client's terminal, if it has one
//	window  how many bytes of stdin the client keeps, at least
//
// Of one client the highest try wins. A lower or equal one is refused with error
// replaced.
//
// A client that has consumed nothing, and knows of no offset, leaves have out.
// Output then goes on from the oldest byte that is kept; until the client has
// sent an ACK with a limit for each output, which opened gives it the offset
// for, the limit is 0.
//
// The server's first message:
//
//	{"type":"opened", "pid":P, "resumed":BOOL, "tty":BOOL, "linger":MS,
//	 "keepalive":MS, "have":{"0":[offset, limit], "3":[offset, limit]},
//	 "from":{"1":offset, "2":offset}, "crc":N, "window":N, "dir":PATH,
//	 "user":NAME, "screen":{...}}
//
//	have    the server's side of the same rule: the client goes on with stdin
//	        and signals at exactly these offsets
//	from    where each output goes on: the offset of the client's have, if it
//	        sent one
//	crc     the CRC-32C of stdin up to its offset, for a client that did not send
//	        the beginning
//	linger  how long the server grants, which may be less than was asked
//	window  how many bytes of each output the server keeps, and how far the
//	        window of stdin can grow; a client need not grant more for output
//	dir     there if the command could not be started in the home directory,
//	        though the client named no other
//	user    the name of the user that the command runs as; there if start named
//	        one
//	screen  the modes of the command's terminal where output goes on, for a
//	        client that left have out; see below
//
// A side refuses an offset that it cannot serve with error bad-offset; it never
// guesses. A client whose output does not begin at 0 (it took over) cannot check
// that output's checksum.
//
// A server says nothing that it was not asked for. A client closes with 1002 where
// one of these does not hold:
//
//	tty        is that of start, or on a later connection that of the first
//	user       comes where start has it, and only there; on a later connection it
//	           is that of the first
//	resumed    is false on the first connection that sends start, and true on
//	           one without start
//	linger, keepalive
//	           are at most those of start, where it has them
//	screen     comes only where open had no have, and with tty
//	GAP        comes only where on_full is drop, or is absent and detach was
//	           sent or is in start; a client that did not send start takes any
//	detached   answers detach
//	suspended  has the seq of a job with stopped true that was sent
//	read       answers read, once, with at most the number of the bytes sent
//	exit       has the reason timeout or idle-timeout only where start has that
//	           time
//	error      once opened came, has no code that says that nothing was run
//
// # The screen
//
// What a program sets on its terminal outlives the output that did so: the
// alternate screen, the mouse. screen has what was set before the output that the
// server keeps, so that a client can set it on its own terminal before it writes
// that output. Numbers are those of the control sequences of xterm, and 0 to
// 65,535; what is absent is as in a new terminal:
//
//	set, reset  DEC private modes that are on, or off, and in a new terminal the
//	            other way round: [1,1002,2004]
//	alternate   47, 1047 or 1049: the private mode by which the alternate screen
//	            was switched to
//	insert      true: insert mode (IRM)
//	g0, g1      the final byte of the sequence that designated the character set
//	shifted     true: characters are those of G1 (SO)
//	cursor      its shape (DECSCUSR)
//	region      [first, last] line of the scroll region (DECSTBM); last is 0 for
//	            the end of the screen
//	other_keys  modifyOtherKeys
//	keyboard, alternate_keyboard
//	            the flags of kitty's keyboard protocol, at most 9 numbers of 0 to
//	            31: those below the stack, and the stack
//	partial     byte string of at most 192 bytes, the beginning of a control
//	            sequence whose rest the output begins with
//
// The client makes the control sequences itself. It takes only partial as it is,
// after it has checked that this is the beginning of one sequence: ESC and what may
// follow. A private mode that it does not know is ignored. Anything else breaks the
// rules.
//
// # Starting
//
// start makes a session. Byte strings are base64 (RFC 4648 §4).
//
//	argv          byte strings; argv[0] is looked up in PATH unless it has a
//	              slash
//	env           byte strings "K=V"; no K begins with WSEXEC_, nor
//	              with LD_ or DYLD_ unless the server's policy allows that
//	dir           byte string, the working directory; "" is the home directory
//	tty           {"term":"xterm","rows":24,"cols":80,"modes":{...}} for a PTY;
//	              absent: pipes
//	merge         true: one pipe for stdout and stderr; stream 2 ends at 0
//	detach        true: the session begins detached
//	name          a name for people, [A-Za-z][A-Za-z0-9._-]{0,62}, unique among
//	              the owner's live sessions
//	timeout       the command is ended after that long; absent or 0: never, or
//	              after the server's maximum
//	idle_timeout  the command is ended when no byte of any stream has moved for
//	              that long, while no output waits for the client; absent or 0:
//	              never, or after the server's maximum
//	kill_after    between TERM and KILL
//	linger        how long the session lives on without a connection
//	keepalive     see there
//	drain         how long an output must be quiet, once the command has ended,
//	              until processes left behind are not waited for any more; -1:
//	              until the output's end
//	on_full       where the server keeps all that it may of an output: "block",
//	              the command waits; "drop", the oldest bytes go (GAP). Absent:
//	              block, and drop while the session is detached and without a
//	              connection
//	leave_running true: processes left behind are not ended
//	user          the user to run as: a name or, if it has digits only, a number,
//	              of 1 to 256 bytes; ':', '/' and control characters are in none,
//	              and '-', '+' and blanks do not begin one. Absent: the user of
//	              the server. dir is looked up as this user, a relative one from
//	              its home directory. A server that is not root's takes no user
//	              but its own (bad-user)
//
// What is absent takes the server's default: no environment but the one that
// every command gets, the home directory, linger 300,000 (at most the server's
// bound), keepalive 15,000, drain 250 and no more than 2,000 in all. Durations
// are 0 to 3,153,600,000,000, keepalive at least 100, also in opened. The server
// has a maximum of each and grants no more. Where the server ends a command of
// its own accord, kill_after is at most its own.
//
// Of tty, term is the name of a kind of terminal, [A-Za-z0-9._+-]{1,256}. modes
// are the modes of the client's terminal, which the PTY has before the command
// starts. They are numbered by the opcodes of RFC 4254 §8 and RFC 8160, as in
// {"3":127,"38":0}:
//
//   - 1 to 18 are control characters, 0 to 255, where 255 is none.
//   - 30 to 93 are flags, 0 or 1.
//   - 128 and 129 are speeds in bits per second.
//   - A mode that the server does not know or have is ignored.
//   - A mode that is absent is as in a new terminal of the server's system, but
//     for IUTF8 (42), which is then 1.
//   - Another client that takes the session over does not change them.
//
// The server starts nothing twice:
//
//   - A start for an id that exists resumes, if it is the same start. Another
//     one is error conflict. So a client that lost the connection before it saw
//     opened sends start again.
//   - It does so only if the response to its upgrade carried the same
//     Wsexec-Instance as that of the first connection on which it sent open.
//     Another instance cannot know whether the first started the command: the
//     client gives up and says that this is not known. So it does if the header
//     is missing.
//   - Once opened was seen, start is never sent again.
//   - An open, with start or without, for an id that has been forgotten is error
//     gone. So a start that was delayed on the way does not run again. An open
//     without start for any other unknown id is error not-found.
//   - The server remembers 1,048,576 ids of each principal for its bound of
//     linger. Where there would be more, it forgets those whose bye is 16
//     minutes old, and refuses to start more (limit) if there are none.
//
// A client takes another's session over with an open without start, or with the
// same start. The other client gets error replaced, also when it comes back
// later. The server closes the older connection before it serves the newer one.
//
// # Other control messages
//
// From the client:
//
//	resize  {"rows":R,"cols":C}  the terminal's new size, 1..65535 each; an
//	                             error without a PTY. Sent again after each
//	                             opened.
//	detach  {}                   the session lives until its command ends;
//	                             answered with detached
//	job     {"stopped":true,"seq":N} or {"stopped":false}
//	                             the client's process is about to be stopped,
//	                             the Nth time, or goes on; see "Stopped
//	                             clients"
//	hangup  {}                   end the session: HUP, CONT, TERM, and KILL
//	                             after kill_after
//	read    {"stdin":N}          say when the command has read N bytes of
//	                             stdin, or some; answered with read. The
//	                             newest N counts. Sent again after each opened.
//	bye     {}                   the client has the exit and all output; the
//	                             server forgets the session and closes. Before
//	                             exit an error.
//
// From the server:
//
//	exit      {"code":N} or {"signal":N,"core":BOOL}, with "reason", "stdin",
//	          "left_behind"; see below
//	detached  {}  the session goes on without the client, which acknowledges
//	          everything consumed (an ACK of each of its streams) and closes the
//	          connection
//	suspended {"linger":MS,"seq":N}  answers a job with stopped true; see
//	          "Stopped clients"
//	read      {"stdin":M}  the command has read M bytes of stdin: M >= N, or,
//	          250 ms after the question, M more than in the connection's last
//	          answer. With pipes that is fewer than are acknowledged, since bytes
//	          in the command's pipe are not read yet. With a PTY what was typed
//	          counts as read.
//	error     {"code":C,"title":T,"detail":T,"status":N}; see below
//
// exit follows the END of every output, on each connection, also after a replay.
// No other control message waits for data.
//
//	reason       absent when the command ended by itself, whatever came after
//	             that; timeout, max-timeout (the server's maximum),
//	             idle-timeout, max-idle-timeout, hangup, linger, evicted (the
//	             server was full, and this session was without its client for
//	             longest), revoked (the principal is not let in any more) or
//	             shutdown: the server ended it for that; incomplete: it ended,
//	             but not all of its output could be kept
//	stdin        the number of bytes of stdin that the command consumed
//	stdin_dropped
//	             the number of those bytes that the terminal has dropped, since
//	             it takes no line so long; 0 or absent without a PTY, and at most
//	             stdin
//	left_behind  [{"pid":P,"name":T,"holding":BOOL}]: processes that were ended
//	             after the command; holding, if one kept an output open; with
//	             "running":true it was not ended (leave_running)
//
// A client that has exit, and has written or stopped every output, is done:
//
//   - It sends bye, and waits at most 1 s for the server to close the
//     connection. Without a connection it ends without bye.
//   - It returns code, or 128 plus signal; with a reason that ends in timeout
//     124; with shutdown 125 in place of 0, since the command may not have done
//     its work; with any other reason 125.
//   - Without bye the server keeps the session for linger after the connection
//     has gone, a detached one for its bound of linger. It keeps as many ended
//     sessions as it lets run, and then forgets the oldest.
//
// error is final. The client that gets it does not connect again; only an open
// with start that limit or shutdown answers may be sent again, with the next try.
// After shutdown it may go to another instance, too: the one that answered starts
// nothing for this id any more, whatever open is still on its way.
// The client acknowledges everything consumed (an ACK of each of its streams)
// before it closes, and the server waits up to 1 s for that. status is the exit
// status that a client program should return. The codes:
//
//	command-not-found  127  nothing was run
//	not-executable     126  nothing was run
//	bad-directory      125  nothing was run
//	bad-user           125  nothing was run: there is no such user, its account
//	                        is locked or expired, or the server cannot run
//	                        commands as it (title says which)
//	not-started        125  the start took too long; nothing was run, unless
//	                        may_have_run is true
//	bad-request        125  nothing was run: the start breaks a rule (detail
//	                        says which)
//	too-large          126  nothing was run: open exceeds its bound
//	conflict           125  the id or the name is taken by another session
//	limit              125  nothing was run: a bound of the server (detail says
//	                        which)
//	policy             125  the server's policy denies what was asked for (detail
//	                        says why); of a start, nothing was run
//	not-found, gone    125  there is no such session; there was one
//	replaced           125  another client has the session
//	revoked            125  the principal is not let in any more; its session
//	                        is being ended
//	bad-offset         125  have is outside the bytes kept
//	shutdown           125  nothing was run: the server is stopping
//	checksum           125  a stream does not have the checksum of its END
//	internal           125  the server failed
//
// # Keepalive
//
// Each side that has sent nothing for the keepalive time D sends an ACK that
// says nothing new (the client of stream 1, the server of stream 0). A side that
// has received no byte, of whatever kind, for 2 D closes the connection and
// takes it for lost.
//
// # Stopped clients
//
// A client that is stopped as a job of its shell (SIGTSTP) can neither answer nor
// read. Before it stops it sends job with stopped true. The server then
//
//   - stops the command: TSTP to its process group, with a PTY to the terminal's
//     foreground group. Where that is the command's own group, which the kernel
//     does not stop by TSTP since it is orphaned, STOP follows after 100 ms.
//   - answers suspended with the seq of the job. The client stops when that has
//     come, or after a second without it. A late answer to a job before says
//     nothing: the command was continued since.
//   - expects no sign of life of this connection. It still sends its own. A write
//     that the client does not read, for however long, is no loss. A connection
//     that closes is one.
//   - says as linger in suspended how long the session lives on where the
//     connection is lost. A proxy may close a connection that says nothing: over TCP,
//     and where start has no linger, that is the server's bound of linger. Otherwise it
//     is that of opened.
//   - does not count the time for idle_timeout. timeout and the server's own
//     maxima go on.
//
// That lasts until the client sends job with stopped false, or any client has
// opened the session on another connection. The server then sends CONT to the
// command. A client that has lost its connection before suspended came sends job
// again on the next one, as long as it is to stop. Each message has the effect
// once: a second one in a row with the same value changes nothing.
//
// # Connecting again
//
// A client without a connection tries again until linger is over, each time
// after a random time between half of a delay and all of it. The delay is 40 ms
// for 3 s, and then doubles up to 5 s. Both begin anew with each loss of a
// connection that was of use (something moved, or it lasted). While a network
// connection is not made, the client may try others beside it, at most four at
// a time, and lets go of all but one before it sends anything.
//
// # Bounds
//
//   - A control message has at most 4,096 bytes.
//   - An open has at most 4 MiB, or less if the server wants (too-large). Each
//     string in it, or each comma if there are more, counts for 12 bytes more.
//   - A frame has at most 65,546 bytes.
//
// # A note on truncation
//
// Some WebSocket libraries deliver a truncated message without an error when the
// peer dies in the middle of it. Nothing here means anything by being whole: END
// and ACK have a fixed length, control messages are JSON objects and thus closed
// by a brace, and a truncated DATA is simply fewer bytes; the others are sent
// again.
package proto

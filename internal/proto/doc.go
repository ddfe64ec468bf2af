// Package proto defines wsexec.v1, the protocol between wsexec and
// wsexec-server: its frames, its control messages, their parsing and their
// bounds. This comment is the specification; a client can be written from it
// alone.
//
// # Overview
//
// A session is one command that a server runs for a client. It outlives the
// connections over which it is used: a client that loses its connection makes a
// new one and both sides go on at the exact byte. One WebSocket connection
// (RFC 6455) carries one session. A WebSocket that closes, however cleanly,
// says nothing about the command: only an exit message does.
//
// All numbers in frames are unsigned and big endian. All numbers in control
// messages are JSON integers of at most 2^53-1. Signals are Linux's numbers on
// every system. Durations are in milliseconds.
//
// # Connecting
//
//	GET /v1/sessions/{id} HTTP/1.1
//	Connection: Upgrade
//	Upgrade: websocket
//	Sec-WebSocket-Protocol: wsexec.v1
//	Authorization: Bearer TOKEN
//
// besides what RFC 6455 §4.1 demands (Host, over a Unix socket localhost,
// Sec-WebSocket-Key and Sec-WebSocket-Version: 13).
//
// The client picks the id: 128 random bits as 26 characters of the alphabet
// a-z2-7 (RFC 4648 base32 in lower case without padding, so the last character
// carries three bits). It is a name and no secret. The token is the secret and
// never part of a URL; over a Unix socket none is needed.
//
// A refusal is an HTTP response with a problem document (RFC 9457,
// application/problem+json, members type, title, status, detail). The checks of
// headers, Host and path come first, and for every path:
//
//	400  bad id or Sec-WebSocket-Key, or the subprotocol wsexec.v1 was not offered; or a
//	     second header Origin, Authorization, Sec-Fetch-Site or Sec-WebSocket-*
//	401  no token or a wrong one
//	403  an Origin header that does not name this host, or a Sec-Fetch-Site of another
//	404  no such resource; also for a path with an escape, an empty segment or a dot
//	421  over TCP, a Host that is not what the server is called
//	426  not a request to upgrade to WebSocket 13, and no session of that id
//	431  the header is too large
//	503  the id is unknown and the server is full or stopping; or there are too many
//	     connections or lists, and then type is urn:wsexec:busy where trying again
//	     soon may help (it is about:blank in all others); see Retry-After
//
// A client that has not sent open yet takes every refusal as final, but for a few
// tries within 2 s with urn:wsexec:busy; later only those from 400 to 499, without 408
// and 429, which are a proxy's.
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
// INFO is type [Info]. Of argv it has 4 KiB, each argument counting for 8 bytes
// more; "argv_truncated":true says that there is more. A list comes in pages, oldest
// sessions first: ?limit=N is how many at most, 1 to 100, which is also the default,
// so that a page has less than 1 MiB; ?after=CURSOR gives the page after the one whose
// next that was. The last page has no next. Every session that is there all the time
// is in one page, whatever comes and goes meanwhile; a cursor of another instance of
// the server is a 400. A principal sees its own sessions only; another's are unknown
// to it.
//
// # Messages
//
// A text message is one control object, a JSON object with a member "type". A
// binary message is a frame. Members that are not known are ignored; a type, a
// kind or a stream that is not known, or a message that breaks a rule of this
// page, closes the connection with close code 1002 (1009 if it is too long) and a
// reason, and harms no other session. A client that closes so, or gets one of
// these codes, does not connect again: the same would happen. A null in an array is
// such a breach. Names are written as on this page, each once in an object; what a peer
// makes of any other is up to it. A message that ends too early may be the trace of a peer that
// died (see the note at the end) and is a lost connection, no more; it is closed with
// 1007, and the client connects again. So is a text message that is not UTF-8.
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
// The receiver of a stream is thus the server for 0 and 3, the client for 1 and
// 2. A stream is a sequence of bytes counted from 0 over the whole life of the
// session, not of the connection. A frame begins with ten bytes,
//
//	kind (1)  stream (1)  offset (8)
//
// and goes on as its kind says:
//
//	kind  name  sent by   then             meaning
//	1     DATA  sender    1..65,536 bytes  the bytes of the stream from offset on
//	2     END   sender    CRC-32C (4)      the stream ends at offset
//	3     ACK   receiver  limit (8)        bytes before offset are consumed; the sender may go up to limit
//	4     STOP  receiver  nothing          the receiver wants no more of this stream; offset is what it consumed
//	5     GAP   sender    nothing          output before offset was dropped by policy; go on at offset
//
// DATA is exactly at the next offset and never past the limit. On a new
// connection the next offset is the one that was agreed in open and opened (see
// there). A connection has no other order than that within each stream, END
// before exit, and opened first.
//
// END is sent when the sender's source has ended, and again on each new
// connection until exit (stdin) or bye (output); once on a connection, and each
// time with the same offset and checksum. The checksum is CRC-32C (Castagnoli, RFC 3720 §12.1; that of
// "123456789" is 0xE3069283) of all bytes of the stream. A receiver that has
// all bytes and finds another checksum fails: a client closes the connection and
// does not connect again, the server sends error checksum and ends the session.
// Stream 3 has no END.
//
// ACK: consumed means written to its destination, not received. What was
// received but not consumed is forgotten when a connection is lost, and sent
// again. Neither offset nor limit ever goes back on a connection; an ACK of
// what was never sent is an error. A sender keeps everything that is not
// acknowledged, so that it can send it again. It may keep less than the
// receiver grants: how much, it says as window in open or opened (65,536 bytes if
// it does not). ACK is sent when a quarter of what was granted, or of the sender's
// window if that is less, was consumed since the last one, when the
// stream's END was reached, when a GAP was stepped over, and as keepalive; not for
// each frame. What a
// destination had from the connection before and consumed since is acknowledged
// once this connection has brought it again.
//
// STOP is sent when a destination went away (a closed pipe), or, to a client
// that took over, when stdin ended with the client before it. It is sent again on
// each new connection. The sender counts what it still has as consumed,
// stops its source, and sends END, if it has not on this connection: at the end of
// what the source produced, which may be past what was sent and past the limit,
// and neither offset nor checksum is then checked. DATA may still arrive after STOP
// and is dropped. The have of a stopped stream stays at the offset of its STOP.
// When the command ends, the server stops a stdin that has not ended. With STOP of
// stream 1 or 2 the command's end of that pipe is closed (its next write is
// SIGPIPE); with a PTY the terminal is hung up.
//
// GAP comes only for output that may be dropped (see on_full): where a sender keeps
// all that it may, the oldest that is not acknowledged goes. What the receiver has,
// or is still on its way, is not touched by that; what it has not is a gap, which it
// may also find where it goes on after a lost connection. GAP is sent when the limit
// allows at least a byte, and may go past it. The receiver writes what is before,
// goes on at the offset, says so to the user, and does not check the checksum;
// the bytes dropped count as consumed. No more than 64 may come that are not
// acknowledged; such without DATA between them are one.
//
// # Signals
//
// Each byte of stream 3 is the number of a signal: HUP 1, INT 2, QUIT 3, KILL 9,
// USR1 10, USR2 12, TERM 15, CONT 18, TSTP 20, WINCH 28; any other is an error.
// It is delivered to the command's process group; with a PTY, INT, QUIT and TSTP
// go to the foreground group of the terminal. Being a stream, a signal is
// delivered once and in order, also over a reconnect. The window is 64 bytes.
//
// # Opening
//
// The client's first message is open; it sends nothing else until opened or error
// came. A server that gets none in time, usually 10 s, closes with error limit. Where
// too many connections wait so it closes the oldest, as if the connection were lost.
//
//	{"type":"open", "client":ID, "try":N, "start":{...}, "have":{...}, "size":{...}, "window":N}
//
// client is 26 random characters like an id, made once by each client process;
// try counts its connections to this session from 1. Of one client the highest
// try wins; a lower or equal one is refused with error replaced. have says for
// each output what the client consumed and how far the server may go:
//
//	"have": {"1":[offset, limit], "2":[offset, limit]}
//
// A client that has nothing and knows nothing leaves have out; output then goes
// on from the oldest byte that is kept, and it sends an ACK with a limit for
// each output once opened said where that is (until then the limit is 0). size is
// {"rows":R,"cols":C}, the size of its terminal, if it has one. window is how many
// bytes of stdin it keeps, at least.
//
// start makes a session:
//
//	argv         byte strings, base64 (RFC 4648 §4); argv[0] is looked up in PATH unless it has a slash
//	env          byte strings "K=V", base64; no K begins with LD_, DYLD_ or WSEXEC_
//	dir          byte string, base64; the working directory; "" is the home directory
//	tty          {"term":"xterm","rows":24,"cols":80,"modes":{...}} for a PTY, see below; absent: pipes
//	merge        true: one pipe for stdout and stderr; stream 2 ends at 0
//	detach       true: the session begins detached, see below
//	name         a name for people, [A-Za-z][A-Za-z0-9._-]{0,62}, unique among the owner's live sessions
//	timeout      the command is ended after that long; absent or 0: never, or after the server's maximum
//	idle_timeout the command is ended when no byte of any stream has moved for that long, while no output
//	             waits for the client; absent or 0: never, or after the server's maximum
//	kill_after   between TERM and KILL
//	linger       how long the session lives on without a connection
//	keepalive    see below
//	drain        how long the output of what the command leaves behind is waited for once it is
//	             quiet; -1: until its end
//	on_full      what happens when output is not taken and the server keeps all that it may: "block", the
//	             command waits; "drop", the oldest goes (GAP). Absent: block, and drop while the session is
//	             detached and without a connection
//
// Of tty, term is the name of a kind of terminal, [A-Za-z0-9._+-]{1,256}. modes are those of the client's
// terminal, which the PTY has before the command starts, by the opcodes of RFC 4254 §8 and RFC 8160, as
// in {"3":127,"38":0}: 1 to 18 are control characters, 0 to 255, where 255 is none; 30 to 93 are
// flags, 0 or 1; 128 and 129 are speeds in bits per second. A mode that the server does not know or
// have is ignored. One that is not named is as the server's system has it in a new terminal, but for
// IUTF8 (42), which is then 1. Another client that takes the session over does not change them.
//
// Durations are 0 to 3,153,600,000,000, keepalive at least 100, also in opened. The
// server has a maximum of each, and grants no more; where it ends a command of its own
// accord, no more than its own kill_after. What is absent takes
// the server's default: no environment but what every command gets, the home
// directory, linger 300,000 (at most the server's bound), keepalive 15,000, drain
// 250 and no more than 2,000 in all. A start for an id that exists:
// the same start resumes, another one is error conflict. So a client that lost
// the connection before it saw opened sends start again; but only if the
// response to its upgrade carried the same Wsexec-Instance as that of the first
// connection on which it sent open, since another instance cannot know whether the
// first started the command: the client gives up and says that this is not known.
// (So it does if the header is missing.) Once opened was seen, start is never sent
// again. An open, with start or without, for an id that is not there any more is
// error gone, so that a start which was delayed on the way does not run again. The
// server remembers 1,048,576 ids of each principal for its bound of linger. Where
// there would be more it forgets those whose bye is 16 minutes old, and refuses to
// start more (limit) if there are none. An open without start for any other id is
// not-found.
//
// A client other than the present one takes the session over with an open
// without start, or with the same start. The one that loses it gets error replaced, also when it comes
// back later. The server closes the older connection before it serves the newer
// one.
//
// The server's first message:
//
//	{"type":"opened", "pid":P, "resumed":BOOL, "tty":BOOL, "linger":MS, "keepalive":MS,
//	 "have":{"0":[offset, limit], "3":[offset, limit]}, "from":{"1":offset, "2":offset}, "crc":N, "window":N, "dir":PATH}
//
// have is the server's side of the same rule: the client goes on with stdin and
// signals at exactly these offsets. from is where each output goes on: the
// offset of the client's have, if it sent one. crc is the CRC-32C of stdin up to
// its offset, for a client that did not send the beginning. A client whose
// output does not begin at 0 (it took over) cannot check that output's checksum.
// An offset that a side cannot serve is refused with error bad-offset, never
// guessed. linger is what the server grants, which may be less than was asked.
// window is how many bytes of each output it keeps, and how far the window of stdin
// can grow; a client need not grant more for output. dir is there if the command
// could not be started in the home directory, though the client named no other.
//
// A server says nothing that it was not asked for, and a client that is told so closes
// with 1002: tty is that of start, or on a later connection that of the first; resumed
// is false on the first connection that sends start, and true on one without start;
// linger and keepalive are at most those of start, where it has them; GAP comes only
// where on_full is drop, or is absent and detach was sent or is in start (a client that
// did not send start takes any); detached answers detach; an exit whose reason is
// timeout or idle-timeout is for a start that has that time; and no error says that
// nothing was run once opened came.
//
// # Other control messages
//
// From the client:
//
//	resize  {"rows":R,"cols":C}  the terminal's new size, 1..65535 each; an error without a PTY.
//	                             Sent again after each opened.
//	detach  {}                   the session lives until its command ends; answered with detached
//	hangup  {}                   end the session: HUP, CONT, TERM, and KILL after kill_after
//	bye     {}                   the client has the exit and all output; the server forgets the session and closes
//
// From the server:
//
//	exit    {"code":N} or {"signal":N,"core":BOOL}, with "reason", "stdin", "left_behind"
//	detached {}                  the session goes on without the client, which tells what it consumed (an
//	                             ACK of each of its streams) and closes the connection
//	error   {"code":C,"title":T,"detail":T,"status":N}  final; see below
//
// exit follows the END of every output, on each connection, also after a
// replay; it is the only control message that waits for data. reason is absent
// when the command ended by itself, whatever came after that, otherwise timeout, max-timeout (the
// server's maximum), idle-timeout, max-idle-timeout, hangup, linger or
// shutdown (the server ended it for that), or incomplete (it ended, but not all
// of its output could be kept). stdin is the number of bytes of stdin that the
// command consumed. left_behind lists processes that were ended after the
// command: [{"pid":P,"name":T,"holding":BOOL}], holding if one kept an output
// open; with "running":true it was not ended (leave_running). A client is done when it has exit and has written, or stopped, every
// output; then it sends bye, and the server forgets the session and closes the
// connection (wait for that at most 1 s). Without a connection a client that has
// all that ends without bye. Without bye, the session is kept for linger after the
// connection is gone (a detached one for the server's bound of linger), unless too
// many wait so: the server keeps as many as it lets run, and forgets the oldest.
//
// A client program returns code, or 128 plus signal; with a reason that ends in timeout 124,
// with shutdown 125 in place of 0, since the command may not have done its work, and
// with any other reason 125. bye before exit is an error.
//
// error is final: whoever gets it does not connect again, and tells what it consumed
// (an ACK of each of its streams) before it closes. The sender waits up to 1 s for
// that. Everything else that ends a connection is a
// loss, upon which the client connects again until linger is over. status is the
// exit status that a client program should return. Codes:
//
//	command-not-found  127  nothing was run
//	not-executable     126  nothing was run
//	bad-directory      125  nothing was run
//	not-started        125  the start took too long; nothing was run, unless may_have_run is true
//	bad-request        125  nothing was run: the start breaks a rule (detail says which)
//	too-large          126  nothing was run: open exceeds its bound
//	conflict           125  the id or the name is taken by another session
//	limit              125  nothing was run: a bound of the server (detail says which)
//	not-found, gone    125  there is no such session; there was one
//	replaced           125  another client has the session
//	bad-offset         125  have is outside what is kept
//	shutdown           125  the server is stopping
//	checksum           125  a stream does not have the checksum of its END
//	internal           125  the server failed
//
// # Keepalive
//
// Each side that has sent nothing for the keepalive time D sends an ACK that
// says nothing new (the client of stream 1, the server of stream 0). A side that
// has received no byte, of whatever kind, for 2 D closes the connection and treats it as lost.
//
// # Bounds
//
// A control message has at most 4,096 bytes, open at most 4 MiB, or less if the
// server wants, each string in it counting for 12 more (too-large). A frame has at most 65,546 bytes. WebSocket messages may be fragmented. A client without a
// connection tries again after a random time between half of and all of a delay
// that is 40 ms for 3 s and then doubles up to 5 s, until linger is over. Both begin anew
// with each loss of a connection that was of use (something moved, or it lasted).
// While a network connection is not made it may try others beside it, at most four at a
// time, and lets go of all but one before it sends anything.
//
// # A note on truncation
//
// Some WebSocket libraries deliver a truncated message without an error when
// the peer dies in the middle of it. Nothing here means anything by being
// whole: END and ACK have a fixed length, control messages are JSON objects and
// thus closed by a brace, and a truncated DATA is simply fewer bytes, the rest
// of which is sent again.
package proto

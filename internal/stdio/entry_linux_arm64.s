#include "textflag.h"

#define SYS_RT_SIGACTION 134
#define SYS_RT_SIGPROCMASK 135
#define SYS_FCNTL 25
#define F_GETFD 1
#define SIG_IGN 1
#define SIG_BLOCK 0

// func entry()
//
// The kernel has put argc at RSP, which is the runtime's. A system call changes R0.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	$0, R19 // of closed descriptors
	MOVD	$2, R20 // the descriptor
descriptor:
	LSL	$1, R19, R19
	MOVD	$SYS_FCNTL, R8
	MOVD	R20, R0
	MOVD	$F_GETFD, R1
	SVC
	TBZ	$63, R0, open
	ORR	$1, R19, R19
open:
	SUB	$1, R20, R20
	TBZ	$63, R20, descriptor
	MOVW	R19, ·closedAtEntry(SB)

	MOVD	$0, R19 // of ignored signals
	MOVD	$31, R20 // the signal
signal:
	LSL	$1, R19, R19
	MOVD	$SYS_RT_SIGACTION, R8
	MOVD	R20, R0
	MOVD	$0, R1
	MOVD	$·actionAtEntry(SB), R2
	MOVD	$8, R3 // bytes of a set of signals
	SVC
	MOVD	·actionAtEntry(SB), R4
	CMP	$SIG_IGN, R4
	BNE	caught
	ORR	$1, R19, R19
caught:
	SUB	$1, R20, R20
	CBNZ	R20, signal
	MOVW	R19, ·ignoredAtEntry(SB)

	MOVD	$SYS_RT_SIGPROCMASK, R8
	MOVD	$SIG_BLOCK, R0
	MOVD	$·blockedAtEntry(SB), R1
	MOVD	$0, R2
	MOVD	$8, R3
	SVC
	B	_rt0_arm64_linux(SB)

#include "textflag.h"

#define SYS_RT_SIGACTION 13
#define SYS_RT_SIGPROCMASK 14
#define SYS_FCNTL 72
#define F_GETFD 1
#define SIG_IGN 1
#define SIG_BLOCK 0

// func entry()
//
// The kernel has put argc at SP. SP and DX are the runtime's; a system call
// changes AX, CX and R11.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	XORL	BX, BX // of closed descriptors
	MOVL	$2, R12 // the descriptor
descriptor:
	SHLL	$1, BX
	MOVL	$SYS_FCNTL, AX
	MOVL	R12, DI
	MOVL	$F_GETFD, SI
	SYSCALL
	TESTQ	AX, AX
	JNS	open
	ORL	$1, BX
open:
	DECL	R12
	JNS	descriptor
	MOVL	BX, ·closedAtEntry(SB)

	MOVQ	DX, R13
	XORL	BX, BX // of ignored signals
	MOVL	$31, R12 // the signal
signal:
	SHLL	$1, BX
	MOVL	$SYS_RT_SIGACTION, AX
	MOVL	R12, DI
	XORL	SI, SI
	LEAQ	·actionAtEntry(SB), DX
	MOVL	$8, R10 // bytes of a set of signals
	SYSCALL
	CMPQ	·actionAtEntry(SB), $SIG_IGN
	JNE	caught
	ORL	$1, BX
caught:
	DECL	R12
	JNZ	signal
	MOVL	BX, ·ignoredAtEntry(SB)

	MOVL	$SYS_RT_SIGPROCMASK, AX
	MOVL	$SIG_BLOCK, DI
	LEAQ	·blockedAtEntry(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	MOVQ	R13, DX
	JMP	_rt0_amd64_linux(SB)

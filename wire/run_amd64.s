#include "textflag.h"

// Sixteen bytes at a time, with what every amd64 processor has (SSE2). All comparisons are of equality, as those with an order
// take bytes for signed: x is at most k where the lesser of x and k is x.

#define ALL16(name, c) \
	DATA name<>+0(SB)/8, $(c * 0x0101010101010101) \
	DATA name<>+8(SB)/8, $(c * 0x0101010101010101) \
	GLOBL name<>(SB), RODATA|NOPTR, $16

ALL16(turned, 0x02)    // makes of the quote 0x20, and of control bytes others
ALL16(most, 0x20)
ALL16(backslash, 0x5c)
ALL16(small, 0x20)     // makes of large letters small ones, and of nothing else a letter
ALL16(smallA, 0x61)
ALL16(letters, 25)     // from a to z
ALL16(slash, 0x2f)     // which stands before the digits
ALL16(digits, 10)      // from the slash to 9
ALL16(plus, 0x2b)

// SPECIAL makes of x those bytes 0xff that are quotes, backslashes or control bytes, and the others 0.
#define SPECIAL(x, t) \
	MOVO x, t; \
	PCMPEQB X9, t; \
	PXOR X10, x; \
	MOVO x, X6; \
	PMINUB X11, X6; \
	PCMPEQB X6, x; \
	POR t, x

// func plainRun(b []byte) (n int, high uint64)
TEXT ·plainRun(SB), NOSPLIT, $0-40
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	MOVO backslash<>(SB), X9
	MOVO turned<>(SB), X10
	MOVO most<>(SB), X11
	PXOR X7, X7 // all bytes on the way, one on the other
	XORQ AX, AX

next:
	LEAQ 32(AX), DX
	CMPQ DX, CX
	JGT  out
	MOVOU (SI)(AX*1), X0
	MOVOU 16(SI)(AX*1), X1
	POR  X0, X7
	POR  X1, X7
	SPECIAL(X0, X2)
	SPECIAL(X1, X3)
	MOVO X0, X4
	POR  X1, X4
	PMOVMSKB X4, BX
	TESTL BX, BX
	JNE  found
	MOVQ DX, AX
	JMP  next

found:
	PMOVMSKB X0, BX
	PMOVMSKB X1, DX
	SHLL $16, DX
	ORL  DX, BX
	BSFL BX, BX
	ADDQ BX, AX

out:
	PMOVMSKB X7, BX
	MOVQ AX, n+24(FP)
	MOVQ BX, high+32(FP)
	RET

// IN64 makes of x those bytes 0xff that are of the base64 alphabet, and the others 0.
#define IN64(x, t, u) \
	MOVO x, t; \
	POR X9, t; \
	PSUBB X10, t; \
	MOVO t, X6; \
	PMINUB X11, X6; \
	PCMPEQB X6, t; \
	MOVO x, u; \
	PSUBB X12, u; \
	MOVO u, X6; \
	PMINUB X13, X6; \
	PCMPEQB X6, u; \
	PCMPEQB X14, x; \
	POR t, x; \
	POR u, x

// func base64Run(b []byte) int
TEXT ·base64Run(SB), NOSPLIT, $0-32
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	MOVO small<>(SB), X9
	MOVO smallA<>(SB), X10
	MOVO letters<>(SB), X11
	MOVO slash<>(SB), X12
	MOVO digits<>(SB), X13
	MOVO plus<>(SB), X14
	XORQ AX, AX

next:
	LEAQ 32(AX), DX
	CMPQ DX, CX
	JGT  out
	MOVOU (SI)(AX*1), X0
	MOVOU 16(SI)(AX*1), X1
	IN64(X0, X2, X3)
	IN64(X1, X4, X5)
	PMOVMSKB X0, BX
	PMOVMSKB X1, DI
	SHLL $16, DI
	ORL  DI, BX
	NOTL BX
	TESTL BX, BX
	JNE  found
	MOVQ DX, AX
	JMP  next

found:
	BSFL BX, BX
	ADDQ BX, AX

out:
	MOVQ AX, ret+24(FP)
	RET

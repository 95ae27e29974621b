/*
 * Blocks of memory for what comes and goes with every connection and message: structs, arenas,
 * buffers. Those given back are kept for the next who needs that size, so that a busy program hardly
 * ever asks malloc(3).
 *
 * What is kept is bounded: BLOCK_KEPT_EACH blocks of a size, and BLOCK_KEPT_BYTES of all, for which
 * large ones make room. The rest goes back; blocks from BLOCK_LARGE on are pages of the kernel's own and
 * leave no hole in the heap. (Smaller ones are not: to map the buffers of a chunk anew each time took six
 * times the CPU of a large message.)
 *
 * Under AddressSanitizer nothing is kept and every block is one of malloc's, so that a use after it
 * was given back is seen.
 */
#ifndef BASE_BLOCK_H
#define BASE_BLOCK_H

#include <stddef.h>

#define BLOCK_KEPT_EACH 64
#define BLOCK_KEPT_BYTES (256 * 1024)
#define BLOCK_LARGE (256 * 1024)
#define BLOCK_TRIM_BYTES (64 * 1024)

/* How many bytes a block for `size` holds: at least as many, of which all may be used. */
size_t block_size(size_t size);

/* A block for `size` bytes; what is in it is not defined. Never NULL: see base/xalloc.h. */
void *block_take(size_t size);
/* Zeroed as far as `size`. */
void *block_take_zeroed(size_t size);

/* `size` is what it was taken for, or anything else with the same block_size(). NULL is let pass. */
void block_give(void *block, size_t size);

/* A block for `size` with the first bytes of the old one, as many as both hold; the old one is given back. */
void *block_resize(void *block, size_t old_size, size_t size);

/* Bytes that are kept. */
size_t block_kept(void);

/*
 * To be called now and then while anything is kept: gives back what has been kept, and not been
 * needed, since the call before, and has malloc(3) give its holes back to the system when
 * BLOCK_TRIM_BYTES were freed meanwhile. So a program at rest keeps nothing. Takes the longer the
 * more holes there are: up to milliseconds.
 */
void block_tidy(void);

#endif

/* The heap is overwritten on free.

   glibc's own knob for that (M_PERTURB) misses what its per-thread cache takes: small blocks, in which addresses, subjects
   and keys lie. So free and realloc are ours here and hand on to glibc's. A program's functions take the place of the C
   library's for every library that it loads: this holds for OpenSSL, libpq and the Swift runtime too. */
#define _GNU_SOURCE
#include "CLinux.h"

#include <malloc.h>
#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);

/* Whether a block has a mapping of its own: freed, its pages go to the kernel. glibc keeps that in the word before a block. */
static int is_mapped(const void *block) { return (((const size_t *)block)[-1] & 2) != 0; }

static void overwrite(void *block, size_t count) {
    memset(block, 0, count);
    /* Nothing reads the block any more: without this the compiler may drop the write. */
    __asm__ __volatile__("" : : "r"(block) : "memory");
}

void free(void *block) {
    if (block == NULL) return;
    if (!is_mapped(block)) overwrite(block, malloc_usable_size(block));
    __libc_free(block);
}

void *realloc(void *block, size_t size) {
    if (block == NULL) return __libc_malloc(size);
    if (size == 0) {
        free(block);
        return NULL;
    }
    if (is_mapped(block)) return __libc_realloc(block, size);
    size_t usable = malloc_usable_size(block);
    if (size <= usable && size >= usable / 2) return block;
    void *moved = __libc_malloc(size);
    if (moved == NULL) return NULL;
    memcpy(moved, block, usable < size ? usable : size);
    free(block);
    return moved;
}

int zegel_overwrites_freed_memory(void) {
    /* A block of the size that the per-thread cache takes, and what is left of it; the allocator itself writes in its head. */
    volatile unsigned char *block = __libc_malloc(64);
    if (block == NULL) return 0;
    for (size_t i = 0; i < 64; i++) block[i] = 0x5A;
    free((void *)block);
    for (size_t i = 16; i < 64; i++) {
        if (block[i] == 0x5A) return 0;
    }
    return 1;
}

/* What Glibc's module map leaves out: variadic prctl, mallopt's knob, and the peer's credentials on a Unix socket. */
#ifndef ZEGEL_CLINUX_SHIM_H
#define ZEGEL_CLINUX_SHIM_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <malloc.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* No core dump and no ptrace by another process of the same user. */
static inline int zegel_forbid_dumps(void) {
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) return -1;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* The kernel ends this process when its parent dies. */
static inline int zegel_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }

/* glibc overwrites every freed block with this byte. */
static inline int zegel_overwrite_freed_memory(int byte) { return mallopt(M_PERTURB, byte); }

/* SO_PEERCRED of a connected Unix socket; 0 on success. */
struct zegel_peer { int pid; unsigned int uid; unsigned int gid; };
static inline int zegel_peer_credentials(int fd, struct zegel_peer *peer) {
    struct { int pid; unsigned int uid; unsigned int gid; } raw;
    socklen_t length = sizeof(raw);
    if (getsockopt(fd, SOL_SOCKET, 17 /* SO_PEERCRED */, &raw, &length) != 0) return -1;
    peer->pid = raw.pid; peer->uid = raw.uid; peer->gid = raw.gid;
    return 0;
}

static inline void zegel_zero(void *bytes, size_t count) { explicit_bzero(bytes, count); }
#endif

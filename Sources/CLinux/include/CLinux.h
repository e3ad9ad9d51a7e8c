/* What Glibc's module map leaves out: variadic prctl, mallopt's knobs, the peer's credentials on a Unix socket, fork and exec.
   No system header here: with _GNU_SOURCE they are other declarations than the ones that Glibc's module has. */
#ifndef ZEGEL_CLINUX_H
#define ZEGEL_CLINUX_H
#include <spawn.h>
#include <stddef.h>

/* No core dump and no ptrace by another process of the same user. */
int zegel_forbid_dumps(void);

/* The kernel ends this process when its parent dies. */
int zegel_die_with_parent(int signal);

/* Whether memory is overwritten when it is freed: 1, or 0 where another allocator has taken the place of ours (heap.c). */
int zegel_overwrites_freed_memory(void);

/* Large blocks go back to the kernel when they are freed, and few arenas keep small ones; 1 on success. */
int zegel_return_large_blocks(void);

/* A spawned child closes every descriptor from this number on; 0 on success. */
int zegel_close_from(posix_spawn_file_actions_t *actions, int first);

/* SO_PEERCRED of a connected Unix socket; 0 on success. */
struct zegel_peer { int pid; unsigned int uid; unsigned int gid; };
int zegel_peer_credentials(int fd, struct zegel_peer *peer);

/* What one child process is started with. Every pointer is owned by the caller. */
struct zegel_spawn {
    const char *path;
    char *const *argv;
    char *const *envp;
    const char *directory; /* NULL: the parent's */
    int input, output, error; /* become 0, 1 and 2 */
    int report; /* becomes 3; -1: none */
    int death_signal; /* sent by the kernel when the *thread* that called zegel_spawn ends; 0: none */
    int new_session; /* else: a new process group */
    int change_user;
    unsigned int uid, gid;
};

/* fork and exec: the pid, or -1 and errno (also that of a failed exec). Between the two only async-signal-safe calls are made,
   so a parent with threads may use it. No descriptor but the named ones is inherited, signals are back to their defaults, and
   no core is ever written. */
int zegel_spawn(const struct zegel_spawn *spawn);

/* A pipe whose ends no child inherits: [0] to read, [1] to write; 0 on success. */
int zegel_pipe(int ends[2]);

/* Waits until the child has ended, without reaping it: its pid stays its own. 0 on success. */
int zegel_await_end(int pid);

/* Reaps a child that has ended: its exit status, or -signal, or -1000 when it is not there. */
int zegel_reap(int pid);

/* Zeroes memory in a way that no optimiser removes. */
void zegel_zero(void *bytes, size_t count);

/* Random bytes of the kernel. A system that has none to give must not go on: the process ends. */
void zegel_random(void *bytes, size_t count);
#endif

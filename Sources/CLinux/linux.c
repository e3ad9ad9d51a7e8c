/* See CLinux.h. */
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

int zegel_forbid_dumps(void) {
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) return -1;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int zegel_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }

int zegel_return_large_blocks(void) {
    /* A fixed threshold: else glibc raises it with the first large block freed, and keeps what follows. */
    if (mallopt(M_MMAP_THRESHOLD, 512 * 1024) != 1) return 0;
    if (mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024) != 1) return 0;
    return mallopt(M_ARENA_MAX, 4);
}

int zegel_close_from(posix_spawn_file_actions_t *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

int zegel_peer_credentials(int fd, struct zegel_peer *peer) {
    struct { int pid; unsigned int uid; unsigned int gid; } raw;
    socklen_t length = sizeof(raw);
    if (getsockopt(fd, SOL_SOCKET, 17 /* SO_PEERCRED */, &raw, &length) != 0) return -1;
    peer->pid = raw.pid; peer->uid = raw.uid; peer->gid = raw.gid;
    return 0;
}

static int zegel_keep_descriptor(int from, int to) {
    if (from == to) return fcntl(to, F_SETFD, 0);
    return dup2(from, to);
}

int zegel_spawn(const struct zegel_spawn *spawn) {
    int failure[2];
    if (pipe2(failure, O_CLOEXEC) != 0) return -1;
    pid_t parent = getpid();
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    pid_t pid = fork();
    if (pid == 0) {
        /* Above every number that is given below; it closes itself on exec. */
        int moved = fcntl(failure[1], F_DUPFD_CLOEXEC, 10);
        if (moved < 0) goto failed;
        failure[1] = moved;
        for (int number = 1; number < NSIG; number++) {
            if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
        }
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if ((spawn->new_session ? setsid() : setpgid(0, 0)) < 0) goto failed;
        if (zegel_keep_descriptor(spawn->input, 0) < 0) goto failed;
        if (zegel_keep_descriptor(spawn->output, 1) < 0) goto failed;
        if (zegel_keep_descriptor(spawn->error, 2) < 0) goto failed;
        if (spawn->report >= 0 && zegel_keep_descriptor(spawn->report, 3) < 0) goto failed;
        syscall(SYS_close_range, spawn->report >= 0 ? 4u : 3u, (unsigned int)moved - 1, 0);
        syscall(SYS_close_range, (unsigned int)moved + 1, ~0u, 0);
        struct rlimit no_core = {0, 0};
        if (setrlimit(RLIMIT_CORE, &no_core) != 0) goto failed;
        if (spawn->change_user) {
            gid_t group = spawn->gid;
            if (setgroups(1, &group) != 0 || setgid(group) != 0 || setuid(spawn->uid) != 0) goto failed;
        }
        if (spawn->directory && chdir(spawn->directory) != 0) goto failed;
        if (spawn->death_signal) {
            if (prctl(PR_SET_PDEATHSIG, spawn->death_signal, 0, 0, 0) != 0) goto failed;
            if (getppid() != parent) _exit(127);
        }
        execve(spawn->path, spawn->argv, spawn->envp);
    failed:;
        int reason = errno;
        ssize_t written = write(failure[1], &reason, sizeof(reason));
        (void)written;
        _exit(127);
    }
    int reason = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    close(failure[1]);
    if (pid > 0) {
        ssize_t count;
        do { count = read(failure[0], &reason, sizeof(reason)); } while (count < 0 && errno == EINTR);
        if (count == sizeof(reason)) {
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
            pid = -1;
        }
    }
    close(failure[0]);
    if (pid < 0) errno = reason;
    return pid;
}

int zegel_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int zegel_await_end(int pid) {
    siginfo_t info;
    int result;
    do { result = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT); } while (result != 0 && errno == EINTR);
    return result;
}

int zegel_reap(int pid) {
    int status;
    pid_t result;
    do { result = waitpid(pid, &status, 0); } while (result < 0 && errno == EINTR);
    if (result != pid) return -1000;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void zegel_zero(void *bytes, size_t count) { explicit_bzero(bytes, count); }

void zegel_random(void *bytes, size_t count) {
    unsigned char *next = bytes;
    while (count > 0) {
        ssize_t got = getrandom(next, count, 0);
        if (got < 0) {
            if (errno == EINTR) continue;
            abort();
        }
        next += got;
        count -= (size_t)got;
    }
}

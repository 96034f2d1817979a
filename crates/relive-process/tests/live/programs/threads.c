// What the stop tests stop. Words of the board: 0 ready, 1.. progress, 32.. EINTR seen, 16.. addresses.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t *board;
static void progress(int i) { board[i]++; }
static void failed(int i) { if (errno == EINTR) board[32 + i]++; }

static void *spin(void *p) { for (;;) progress((intptr_t)p); }

// Blocks in one call each; every call is woken by `wake` about a thousand times a second.
static int pipes[8][2], sockets[2], epoll_fd, sems;
static pthread_t waiter;

static void *in_epoll(void *p) {
    for (;;) {
        struct epoll_event e; char c;
        if (epoll_wait(epoll_fd, &e, 1, -1) < 0) failed(2);
        else if (read(pipes[0][0], &c, 1) == 1) progress(2);
    }
}
static void *in_read(void *p) { for (;;) { char c; if (read(pipes[1][0], &c, 1) < 0) failed(3); else progress(3); } }
static void *in_sleep(void *p) {
    for (;;) { struct timespec t = {0, 1000000}; if (nanosleep(&t, 0) < 0) failed(4); else progress(4); }
}
static void *in_recv(void *p) {
    struct timeval t = {1000, 0};
    setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    for (;;) { char c; if (recv(sockets[0], &c, 1, 0) < 0) failed(5); else progress(5); }
}
static void *in_sem(void *p) {
    for (;;) {
        struct sembuf op = {0, -1, 0}; struct timespec t = {1000, 0};
        if (semtimedop(sems, &op, 1, &t) < 0) failed(6); else progress(6);
    }
}
static void *in_sigwait(void *p) {
    for (;;) {
        sigset_t s; siginfo_t i; struct timespec t = {1000, 0};
        sigemptyset(&s); sigaddset(&s, SIGUSR2);
        if (sigtimedwait(&s, &i, &t) < 0) failed(7); else progress(7);
    }
}
static void *in_poll(void *p) {
    for (;;) {
        struct pollfd f = {pipes[2][0], POLLIN, 0}; char c;
        if (poll(&f, 1, 1000000) < 0) failed(8); else if (read(pipes[2][0], &c, 1) == 1) progress(8);
    }
}
static void wake(void) {
    for (;;) {
        struct sembuf op = {0, 1, 0}; struct timespec t = {0, 1000000};
        if (write(pipes[0][1], "x", 1) != 1 || write(pipes[1][1], "x", 1) != 1 || write(pipes[2][1], "x", 1) != 1) exit(3);
        if (send(sockets[1], "x", 1, 0) != 1 || semop(sems, &op, 1) != 0) exit(4);
        pthread_kill(waiter, SIGUSR2);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0);
        progress(9);
    }
}
static void start(void *(*f)(void *), int i) {
    pthread_t t;
    if (pthread_create(f == in_sigwait ? &waiter : &t, 0, f, (void *)(intptr_t)i)) exit(5);
}
static void remove_sems(void) { semctl(sems, 0, IPC_RMID); }

static void blocking(void) {
    for (int i = 0; i < 8; i++) if (pipe(pipes[i])) exit(6);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) exit(7);
    epoll_fd = epoll_create1(0);
    struct epoll_event e = {EPOLLIN, {0}};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipes[0][0], &e);
    sems = semget(IPC_PRIVATE, 1, 0600);
    if (sems < 0) exit(8);
    // The set goes away with its last user: removed when another process ends, kept alive by nobody.
    pid_t self = getpid();
    if (fork() == 0) { while (kill(self, 0) == 0 && getppid() == self) usleep(10000); remove_sems(); _exit(0); }
    sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR2); pthread_sigmask(SIG_BLOCK, &s, 0);
    start(spin, 1); start(in_epoll, 2); start(in_read, 3); start(in_sleep, 4); start(in_recv, 5); start(in_sem, 6);
    start(in_sigwait, 7); start(in_poll, 8);
    board[0] = 1;
    wake();
}

static void *nothing(void *p) { progress(2); return 0; }
static void *bomb(void *p) { for (;;) { pthread_t t; if (pthread_create(&t, 0, nothing, 0) == 0) pthread_join(t, 0); progress(1); } }

// Real-time signals with increasing numbers from another process.
enum { SIGNALS = 20000 };
static volatile sig_atomic_t next_number;
static void on_number(int sig, siginfo_t *i, void *c) {
    if (i->si_value.sival_int != next_number) board[3]++;
    next_number++;
    board[1] = next_number;
}
static void numbers(void) {
    struct sigaction a = {.sa_sigaction = on_number, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGRTMIN, &a, 0);
    pid_t self = getpid();
    // One of the tests stops it from processes that are not its ancestors.
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    if (fork() == 0) {
        for (int i = 0; i < SIGNALS; i++) {
            union sigval v = {.sival_int = i};
            while (sigqueue(self, SIGRTMIN, v)) { if (errno != EAGAIN) _exit(1); usleep(100); }
            if (i % 50 == 0) usleep(500);
        }
        _exit(0);
    }
    board[0] = 1;
    while (next_number < SIGNALS) board[2]++;
    exit(board[3] ? 9 : 0);
}

__attribute__((noinline)) int answer(void) { __asm__ volatile(""); return 1; }

// Known callers above a blocking call, once called and once interrupted by a signal.
__attribute__((noinline)) void innermost(int fd) { char c; while (read(fd, &c, 1) < 0); __asm__ volatile(""); }
__attribute__((noinline)) void middle(int fd) { char room[333]; memset(room, fd, sizeof room); innermost(fd); __asm__ volatile("" ::"r"(room)); }
__attribute__((noinline)) void outer(int fd) { middle(fd); __asm__ volatile(""); }
static void on_signal(int sig) { outer(pipes[0][0]); }
__attribute__((noinline)) void interrupted(void) { raise(SIGUSR1); __asm__ volatile(""); }
static void *parked(void *p) { board[1] = 1; outer(pipes[1][0]); return 0; }

static void callers(int flags) {
    for (int i = 0; i < 2; i++) if (pipe(pipes[i])) exit(6);
    // Used with SA_ONSTACK: a stack for signal handlers, far away from the thread's own.
    stack_t alone = {.ss_sp = mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 1 << 16};
    if (sigaltstack(&alone, 0)) exit(7);
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(SIGUSR1, &a, 0);
    void *f[] = {innermost, middle, outer, interrupted};
    for (int i = 0; i < 4; i++) board[16 + i] = (uint64_t)f[i];
    start(parked, 0);
    while (!board[1]) usleep(100);
    board[0] = 1;
    interrupted();
}

// A marked word far down the stack of a thread, above a call that blocks, on that stack or on another one.
__attribute__((noinline)) static void deep(int levels) {
    volatile char room[4096];
    room[0] = levels;
    if (levels > 0) deep(levels - 1);
    else { board[1] = 1; while (!board[6]) pause(); }
    room[1] = room[0];
}
static void on_other_stack(int sig) { deep(2); }
__attribute__((noinline)) static void marked(uint64_t mark, int other) {
    volatile uint64_t here[2] = {mark, mark};
    if (other) raise(SIGUSR2); else deep(200);
    board[9] = here[0];
}
static void deep_stack(int other) {
    static char room[1 << 16];
    stack_t alternative = {.ss_sp = room, .ss_size = sizeof room};
    sigaltstack(&alternative, 0);
    struct sigaction a = {.sa_handler = on_other_stack, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &a, 0);
    board[0] = 1;
    marked(0x5ca1ab1e0ddba11, other);
}

int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDWR);
    board = mmap(0, 512, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (board == MAP_FAILED) return 2;
    close(fd);
    char *mode = argv[2];
    if (!strcmp(mode, "blocking")) blocking();
    if (!strcmp(mode, "bomb")) { for (int i = 0; i < 4; i++) start(bomb, 0); board[0] = 1; for (;;) pause(); }
    if (!strcmp(mode, "spin")) { start(spin, 1); board[0] = 1; for (;;) progress(2); }
    if (!strcmp(mode, "numbers")) numbers();
    if (!strcmp(mode, "answer")) { board[16] = (uint64_t)answer; board[0] = 1; while (answer() == 1) progress(1); return 40 + answer(); }
    if (!strcmp(mode, "callers")) callers(0);
    if (!strcmp(mode, "callers-apart")) callers(SA_ONSTACK);
    if (!strcmp(mode, "deep") || !strcmp(mode, "other-stack")) deep_stack(mode[0] == 'o');
    if (!strcmp(mode, "leader-exits")) { start(spin, 1); board[0] = 1; while (!board[4]) usleep(100); pthread_exit(0); }
    if (!strcmp(mode, "exec")) {
        board[0] = 1;
        if (board[1]++ < 2000) { start(spin, 2); execv(argv[0], argv); return 1; }
        return 0;
    }
    if (!strcmp(mode, "vfork")) {
        start(spin, 1);
        board[0] = 1;
        while (!board[4]) usleep(100);
        pid_t child = vfork();
        if (child == 0) { board[2] = 1; while (!board[5]) usleep(1000); _exit(0); }
        int status;
        return waitpid(child, &status, 0) == child && status == 0 ? 21 : 22;
    }
    return 1;
}

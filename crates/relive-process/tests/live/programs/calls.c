// One blocking call per thread, for the matrix of calls. argv: BOARD KIND, KIND being `wake`, `deadline`, `signal` or `restart`;
// in the last the handler has SA_RESTART, and what still blocks after it is woken.
// Words of the board: 0 ready, 1 number of calls, 2 go, 3 end, 4 another signal for calls that go on, 5 wake what still blocks,
// 62 signals handled;
// 64 + 4 * i: state (1 inside, 2 done), result, errno, microseconds that the call took. The names of the calls go to `names`
// beside the board, one per line.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAKE, DEADLINE, SIGNAL, RESTART };
static volatile uint64_t *board;
static int kind;
static char *folder;

// How long a call with a deadline waits; where nobody waits for it, very long.
#define WAIT_MS 400
#define LONG_MS 900000
static struct timespec wait_for = {0, WAIT_MS * 1000000};
static int after(void) { return kind == DEADLINE ? WAIT_MS : -1; }
static const struct timespec *spec(void) { return kind == DEADLINE ? &wait_for : 0; }
static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000ull + t.tv_nsec / 1000; }
static void die(const char *what) { perror(what); exit(3); }

// Each thread has a pipe whose other end the waker writes to, once.
typedef struct call call;
struct call {
    const char *name;
    long (*make)(call *);
    int kinds;          // 1 << kind
    void (*wake)(call *);
    int ends[2];
    int fd;
    pthread_t thread;
    int number;
};
static void wake_pipe(call *c) { if (write(c->ends[1], "x", 1) != 1) die("write"); }
static void new_pipe(call *c) { if (pipe(c->ends)) die("pipe"); }
static void new_sockets(call *c) { if (socketpair(AF_UNIX, SOCK_STREAM, 0, c->ends)) die("socketpair"); }
static void limit(int fd, int option) {
    struct timeval t = {kind == DEADLINE ? 0 : 1000, WAIT_MS * 1000};
    if (setsockopt(fd, SOL_SOCKET, option, &t, sizeof t)) die("setsockopt");
}
static void fill(int fd) {
    static char room[65536];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, room, sizeof room) > 0);
    while (write(fd, room, 1) > 0);
    fcntl(fd, F_SETFL, 0);
}
static void drain(call *c) { static char room[1 << 20]; if (read(c->ends[0], room, sizeof room) <= 0) die("read"); }

static long m_read(call *c) { char b; return read(c->ends[0], &b, 1); }
static long m_readv(call *c) { char b; struct iovec v = {&b, 1}; return readv(c->ends[0], &v, 1); }
static long m_write(call *c) { fill(c->ends[1]); return write(c->ends[1], "x", 1); }
static long m_poll(call *c) { struct pollfd f = {c->ends[0], POLLIN, 0}; return poll(&f, 1, after()); }
static long m_ppoll(call *c) { struct pollfd f = {c->ends[0], POLLIN, 0}; return ppoll(&f, 1, spec(), 0); }
static long m_select(call *c) {
    fd_set s; FD_ZERO(&s); FD_SET(c->ends[0], &s);
    struct timeval t = {0, WAIT_MS * 1000};
    return select(c->ends[0] + 1, &s, 0, 0, kind == DEADLINE ? &t : 0);
}
static long m_pselect(call *c) { fd_set s; FD_ZERO(&s); FD_SET(c->ends[0], &s); return pselect(c->ends[0] + 1, &s, 0, 0, spec(), 0); }
static int watch(call *c) {
    int fd = epoll_create1(0);
    struct epoll_event e = {EPOLLIN, {0}};
    if (epoll_ctl(fd, EPOLL_CTL_ADD, c->ends[0], &e)) die("epoll_ctl");
    return fd;
}
static long m_epoll(call *c) { struct epoll_event e; return epoll_wait(watch(c), &e, 1, after()); }
static long m_epoll_p(call *c) { struct epoll_event e; return epoll_pwait(watch(c), &e, 1, after(), 0); }
static long m_epoll_p2(call *c) { struct epoll_event e; return syscall(SYS_epoll_pwait2, watch(c), &e, 1, spec(), 0, 8); }
// A limit that is over is 0, like a timeout of the other calls.
static long limited(long result) { return result < 0 && errno == EAGAIN ? 0 : result; }
static long m_recv(call *c) { char b; return limited(recv(c->ends[0], &b, 1, 0)); }
static long m_recv_limit(call *c) { limit(c->ends[0], SO_RCVTIMEO); return m_recv(c); }
static long m_recvmsg_limit(call *c) {
    char b; struct iovec v = {&b, 1}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    limit(c->ends[0], SO_RCVTIMEO);
    return limited(recvmsg(c->ends[0], &m, 0));
}
static long m_recvmmsg(call *c) {
    char b; struct iovec v = {&b, 1}; struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
    return recvmmsg(c->ends[0], &m, 1, 0, 0);
}
static long m_read_limit(call *c) { limit(c->ends[0], SO_RCVTIMEO); return limited(m_read(c)); }
static long m_send_limit(call *c) { limit(c->ends[1], SO_SNDTIMEO); fill(c->ends[1]); return limited(send(c->ends[1], "x", 1, 0)); }
static long m_readv_limit(call *c) { limit(c->ends[0], SO_RCVTIMEO); return limited(m_readv(c)); }
static long m_recvmmsg_limit(call *c) { limit(c->ends[0], SO_RCVTIMEO); return limited(m_recvmmsg(c)); }
static void full(call *c) { limit(c->ends[1], SO_SNDTIMEO); fill(c->ends[1]); }
static long m_write_limit(call *c) { full(c); return limited(write(c->ends[1], "x", 1)); }
static long m_writev_limit(call *c) { struct iovec v = {"x", 1}; full(c); return limited(writev(c->ends[1], &v, 1)); }
static long m_sendmsg_limit(call *c) {
    struct iovec v = {"x", 1}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    full(c);
    return limited(sendmsg(c->ends[1], &m, 0));
}
static long m_sendmmsg_limit(call *c) {
    struct iovec v = {"x", 1}; struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
    full(c);
    return limited(sendmmsg(c->ends[1], &m, 1, 0));
}
static long m_send(call *c) { fill(c->ends[1]); return send(c->ends[1], "x", 1, 0); }
static long m_accept(call *c) { return accept(c->fd, 0, 0) >= 0 ? 1 : -1; }
static long m_accept4(call *c) { limit(c->fd, SO_RCVTIMEO); return limited(accept4(c->fd, 0, 0, SOCK_CLOEXEC) >= 0 ? 1 : -1); }
static long m_accept_limit(call *c) { limit(c->fd, SO_RCVTIMEO); return limited(m_accept(c)); }
static struct sockaddr_un at(call *c) {
    struct sockaddr_un a = {AF_UNIX, ""};
    snprintf(a.sun_path, sizeof a.sun_path, "%s/s%d", folder, c->number);
    return a;
}
static void new_listener(call *c) {
    struct sockaddr_un a = at(c);
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(c->fd, (void *)&a, sizeof a) || listen(c->fd, 1)) die("listen");
}
static void wake_accept(call *c) { struct sockaddr_un a = at(c); int s = socket(AF_UNIX, SOCK_STREAM, 0); if (connect(s, (void *)&a, sizeof a)) die("connect"); }
static long m_connect(call *c) {
    // The queue of those who wait to be accepted is full.
    struct sockaddr_un a = at(c);
    for (;;) { int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0); if (connect(s, (void *)&a, sizeof a)) break; }
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof a);
}
static void wake_connect(call *c) { if (accept(c->fd, 0, 0) < 0) die("accept"); }
static long m_event(call *c) { uint64_t v; return read(c->fd, &v, 8) == 8 ? 1 : -1; }
static void new_event(call *c) { c->fd = eventfd(0, 0); }
static void wake_event(call *c) { uint64_t one = 1; if (write(c->fd, &one, 8) != 8) die("eventfd"); }
static long m_timer(call *c) {
    struct itimerspec t = {{0, 0}, wait_for};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(fd, 0, &t, 0);
    uint64_t v;
    return read(fd, &v, 8) == 8 ? 0 : -1;
}
static long m_inotify(call *c) {
    char room[4096];
    int fd = inotify_init();
    inotify_add_watch(fd, folder, IN_CREATE);
    return read(fd, room, sizeof room) > 0 ? 1 : -1;
}
static void wake_inotify(call *c) { char p[256]; snprintf(p, sizeof p, "%s/made", folder); close(open(p, O_CREAT | O_WRONLY, 0600)); }
static long m_nanosleep(call *c) { return nanosleep(&wait_for, 0); }
static long m_usleep(call *c) { return usleep((kind == DEADLINE ? WAIT_MS : LONG_MS) * 1000); }
static long m_clock_relative(call *c) { int e = clock_nanosleep(CLOCK_MONOTONIC, 0, &wait_for, 0); return e ? (errno = e, -1) : 0; }
static long m_clock_absolute(call *c) {
    struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += wait_for.tv_sec;
    t.tv_nsec += wait_for.tv_nsec;
    if (t.tv_nsec >= 1000000000) { t.tv_sec++; t.tv_nsec -= 1000000000; }
    int e = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0);
    return e ? (errno = e, -1) : 0;
}
// EAGAIN says that the value is another one already: it was changed in the moment in which the call was made again, before it
// was, and that is a wake-up as well (futex(2)).
static long m_futex(call *c) {
    long r = syscall(SYS_futex, &c->fd, FUTEX_WAIT, 0, spec(), 0, 0);
    if (r < 0 && errno == EAGAIN && *(volatile int *)&c->fd == 1) return 0;
    return r < 0 && errno == ETIMEDOUT ? 0 : r;
}
static void wake_futex(call *c) { c->fd = 1; syscall(SYS_futex, &c->fd, FUTEX_WAKE, 1, 0, 0, 0); }
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, own = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int said;
static void deadline(struct timespec *t) {
    clock_gettime(CLOCK_REALTIME, t);
    t->tv_nsec += WAIT_MS * 1000000;
    if (t->tv_nsec >= 1000000000) { t->tv_sec++; t->tv_nsec -= 1000000000; }
}
static long m_mutex(call *c) {
    struct timespec t; deadline(&t);
    int e = kind == DEADLINE ? pthread_mutex_timedlock(&held, &t) : pthread_mutex_lock(&held);
    return e == ETIMEDOUT ? 0 : e ? (errno = e, -1) : 1;
}
static void wake_mutex(call *c) { pthread_mutex_unlock(&held); }
static long m_condition(call *c) {
    struct timespec t; deadline(&t);
    pthread_mutex_lock(&own);
    int e = 0;
    while (!said && !e) e = kind == DEADLINE ? pthread_cond_timedwait(&condition, &own, &t) : pthread_cond_wait(&condition, &own);
    pthread_mutex_unlock(&own);
    return e == ETIMEDOUT ? 0 : e ? (errno = e, -1) : 1;
}
static void wake_condition(call *c) { pthread_mutex_lock(&own); said = 1; pthread_cond_signal(&condition); pthread_mutex_unlock(&own); }
static long m_semaphore(call *c) {
    struct timespec t; deadline(&t);
    int e = kind == DEADLINE ? sem_timedwait(&semaphore, &t) : sem_wait(&semaphore);
    return e == 0 ? 1 : errno == ETIMEDOUT ? 0 : -1;
}
static void wake_semaphore(call *c) { sem_post(&semaphore); }
static int sems, queue;
static long m_semop(call *c) { struct sembuf op = {0, -1, 0}; return semop(sems, &op, 1) ? -1 : 1; }
static long m_semtimedop(call *c) { struct sembuf op = {1, -1, 0}; return semtimedop(sems, &op, 1, spec()) == 0 ? 1 : errno == EAGAIN ? 0 : -1; }
static void wake_semop(call *c) { struct sembuf op = {c->make == m_semtimedop, 1, 0}; semop(sems, &op, 1); }
static long m_msgrcv(call *c) { struct { long type; char text[8]; } m; return msgrcv(queue, &m, 8, 1, 0) >= 0 ? 1 : -1; }
static void wake_msgrcv(call *c) { struct { long type; char text[8]; } m = {1, "x"}; msgsnd(queue, &m, 1, 0); }
static int full_queue;
static long m_msgsnd(call *c) {
    static struct { long type; char text[4096]; } m = {1, "x"};
    while (msgsnd(full_queue, &m, sizeof m.text, IPC_NOWAIT) == 0);
    errno = 0;
    return msgsnd(full_queue, &m, sizeof m.text, 0) ? -1 : 1;
}
static void wake_msgsnd(call *c) { static char room[sizeof(long) + 4096]; if (msgrcv(full_queue, room, 4096, 0, 0) < 0) die("msgrcv"); }
static mqd_t mail, full_mail;
static long m_mq_send(call *c) {
    struct timespec now = {0, 0}, t;
    while (mq_timedsend(full_mail, "x", 1, 0, &now) == 0); // a limit that is over: what there is room for
    deadline(&t);
    errno = 0;
    int e = kind == DEADLINE ? mq_timedsend(full_mail, "x", 1, 0, &t) : mq_send(full_mail, "x", 1, 0);
    return e == 0 ? 1 : errno == ETIMEDOUT ? 0 : -1;
}
static void wake_mq_send(call *c) { char room[64]; if (mq_receive(full_mail, room, sizeof room, 0) < 0) die("mq_receive"); }
static long m_mq(call *c) {
    char room[64]; struct timespec t; deadline(&t);
    long n = kind == DEADLINE ? mq_timedreceive(mail, room, sizeof room, 0, &t) : mq_receive(mail, room, sizeof room, 0);
    return n >= 0 ? 1 : errno == ETIMEDOUT ? 0 : -1;
}
static void wake_mq(call *c) { mq_send(mail, "x", 1, 0); }
static long m_sigtimedwait(call *c) {
    sigset_t s; siginfo_t i; sigemptyset(&s); sigaddset(&s, SIGUSR2);
    int n = sigtimedwait(&s, &i, spec());
    return n > 0 ? 1 : errno == EAGAIN ? 0 : -1;
}
static long m_sigwaitinfo(call *c) { sigset_t s; siginfo_t i; sigemptyset(&s); sigaddset(&s, SIGUSR2); return sigwaitinfo(&s, &i) > 0 ? 1 : -1; }
static long m_signalfd(call *c) {
    struct signalfd_siginfo i; sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR2);
    return read(signalfd(-1, &s, 0), &i, sizeof i) == sizeof i ? 1 : -1;
}
static long m_pause(call *c) { return pause(); }
static long m_sigsuspend(call *c) { sigset_t s; sigemptyset(&s); return sigsuspend(&s); }
static void wake_signal(call *c) { pthread_kill(c->thread, SIGUSR2); }
static long m_waitpid(call *c) { int s; return waitpid(c->fd, &s, 0) == c->fd ? 1 : -1; }
static long m_waitid(call *c) { siginfo_t i; return waitid(P_PID, c->fd, &i, WEXITED) == 0 ? 1 : -1; }
static void new_child(call *c) {
    new_pipe(c);
    c->fd = fork();
    if (c->fd == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); char b; while (read(c->ends[0], &b, 1) < 0); _exit(0); }
}
static long m_flock(call *c) {
    char p[256]; snprintf(p, sizeof p, "%s/lock", folder);
    return flock(open(p, O_RDWR | O_CREAT, 0600), LOCK_EX) == 0 ? 1 : -1;
}
static void new_flock(call *c) {
    char p[256]; snprintf(p, sizeof p, "%s/lock", folder);
    c->fd = open(p, O_RDWR | O_CREAT, 0600);
    flock(c->fd, LOCK_EX);
}
static void wake_flock(call *c) { flock(c->fd, LOCK_UN); }
static long m_setlkw(call *c) {
    char p[256]; snprintf(p, sizeof p, "%s/range", folder);
    struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(open(p, O_RDWR | O_CREAT, 0600), F_OFD_SETLKW, &f) == 0 ? 1 : -1;
}
static void new_setlkw(call *c) {
    char p[256]; snprintf(p, sizeof p, "%s/range", folder);
    struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    c->fd = open(p, O_RDWR | O_CREAT, 0600);
    if (fcntl(c->fd, F_OFD_SETLK, &f)) die("F_OFD_SETLK");
}
static void wake_setlkw(call *c) { struct flock f = {.l_type = F_UNLCK, .l_whence = SEEK_SET}; if (fcntl(c->fd, F_OFD_SETLK, &f)) die("unlock"); }
static long m_fifo(call *c) { char p[256]; snprintf(p, sizeof p, "%s/fifo", folder); return open(p, O_RDONLY) >= 0 ? 1 : -1; }
static void new_fifo(call *c) { char p[256]; snprintf(p, sizeof p, "%s/fifo", folder); mkfifo(p, 0600); }
static void wake_fifo(call *c) { char p[256]; snprintf(p, sizeof p, "%s/fifo", folder); open(p, O_WRONLY); }
static long m_splice(call *c) { int to[2]; if (pipe(to)) die("pipe"); return splice(c->ends[0], 0, to[1], 0, 1, 0); }
static long m_tee(call *c) { int to[2]; if (pipe(to)) die("pipe"); return tee(c->ends[0], to[1], 1, 0); }
static aio_context_t aio(void) { aio_context_t a = 0; if (syscall(SYS_io_setup, 1, &a)) die("io_setup"); return a; }
static long m_getevents(call *c) { struct io_event e; return syscall(SYS_io_getevents, aio(), 1, 1, &e, spec()); }
static long m_pgetevents(call *c) { struct io_event e; return syscall(SYS_io_pgetevents, aio(), 1, 1, &e, spec(), 0); }
static void *joined(void *p) { call *c = p; char b; while (read(c->ends[0], &b, 1) < 0); return 0; }
static long m_join(call *c) { pthread_t t; pthread_create(&t, 0, joined, c); return pthread_join(t, 0) == 0 ? 1 : -1; }
static int ring = -1;
static long m_ring(call *c) { return syscall(SYS_io_uring_enter, ring, 0, 1, 1, 0, 0); }

static void nothing(call *c) {}
#define W (1 << WAKE)
#define D (1 << DEADLINE)
#define S (1 << SIGNAL)
// Those with S return EINTR when a handled signal comes, with or without a stop.
static struct { call c; void (*prepare)(call *); } calls[] = {
    {{"read of a pipe", m_read, W | S, wake_pipe}, new_pipe},
    {{"readv of a pipe", m_readv, W | S, wake_pipe}, new_pipe},
    {{"write to a full pipe", m_write, W | S, drain}, new_pipe},
    {{"poll", m_poll, W | D | S, wake_pipe}, new_pipe},
    {{"ppoll", m_ppoll, W | D | S, wake_pipe}, new_pipe},
    {{"select", m_select, W | D | S, wake_pipe}, new_pipe},
    {{"pselect", m_pselect, W | D | S, wake_pipe}, new_pipe},
    {{"epoll_wait", m_epoll, W | D | S, wake_pipe}, new_pipe},
    {{"epoll_pwait", m_epoll_p, W | D | S, wake_pipe}, new_pipe},
    {{"epoll_pwait2", m_epoll_p2, W | D | S, wake_pipe}, new_pipe},
    {{"recv", m_recv, W | S, wake_pipe}, new_sockets},
    {{"recv with a limit", m_recv_limit, W | D | S, wake_pipe}, new_sockets},
    {{"recvmsg with a limit", m_recvmsg_limit, W | D | S, wake_pipe}, new_sockets},
    {{"recvmmsg", m_recvmmsg, W | S, wake_pipe}, new_sockets},
    {{"read of a socket with a limit", m_read_limit, W | D | S, wake_pipe}, new_sockets},
    {{"send to a full socket", m_send, W | S, drain}, new_sockets},
    {{"send with a limit", m_send_limit, W | D | S, drain}, new_sockets},
    {{"readv of a socket with a limit", m_readv_limit, W | D | S, wake_pipe}, new_sockets},
    {{"recvmmsg with a limit", m_recvmmsg_limit, W | D | S, wake_pipe}, new_sockets},
    {{"write to a full socket with a limit", m_write_limit, W | D | S, drain}, new_sockets},
    {{"writev with a limit", m_writev_limit, W | D | S, drain}, new_sockets},
    {{"sendmsg with a limit", m_sendmsg_limit, W | D | S, drain}, new_sockets},
    {{"sendmmsg with a limit", m_sendmmsg_limit, W | D | S, drain}, new_sockets},
    {{"accept4 with a limit", m_accept4, W | D | S, wake_accept}, new_listener},
    {{"accept", m_accept, W | S, wake_accept}, new_listener},
    {{"accept with a limit", m_accept_limit, W | D | S, wake_accept}, new_listener},
    {{"connect to a full queue", m_connect, W | S, wake_connect}, new_listener},
    {{"read of an eventfd", m_event, W | S, wake_event}, new_event},
    {{"read of a timerfd", m_timer, D | S, nothing}, nothing},
    {{"read of an inotify", m_inotify, W | S, wake_inotify}, nothing},
    {{"nanosleep", m_nanosleep, D | S, nothing}, nothing},
    {{"usleep", m_usleep, D | S, nothing}, nothing},
    {{"clock_nanosleep, relative", m_clock_relative, D | S, nothing}, nothing},
    {{"clock_nanosleep, absolute", m_clock_absolute, D | S, nothing}, nothing},
    {{"futex", m_futex, W | D | S, wake_futex}, nothing},
    {{"pthread_mutex_lock", m_mutex, W | D, wake_mutex}, nothing},
    {{"pthread_cond_wait", m_condition, W | D, wake_condition}, nothing},
    {{"sem_wait", m_semaphore, W | D | S, wake_semaphore}, nothing},
    {{"semop", m_semop, W | S, wake_semop}, nothing},
    {{"semtimedop", m_semtimedop, W | D | S, wake_semop}, nothing},
    {{"msgrcv", m_msgrcv, W | S, wake_msgrcv}, nothing},
    {{"msgsnd to a full queue", m_msgsnd, W | S, wake_msgsnd}, nothing},
    {{"mq_receive", m_mq, W | D | S, wake_mq}, nothing},
    {{"mq_send to a full queue", m_mq_send, W | D | S, wake_mq_send}, nothing},
    {{"read of a signalfd", m_signalfd, W | S, wake_signal}, nothing},
    {{"pause", m_pause, S, nothing}, nothing},
    {{"sigsuspend", m_sigsuspend, S, nothing}, nothing},
    {{"sigtimedwait", m_sigtimedwait, W | D | S, wake_signal}, nothing},
    {{"sigwaitinfo", m_sigwaitinfo, W | S, wake_signal}, nothing},
    {{"waitpid", m_waitpid, W | S, wake_pipe}, new_child},
    {{"waitid", m_waitid, W | S, wake_pipe}, new_child},
    {{"flock", m_flock, W | S, wake_flock}, new_flock},
    {{"lock of a range", m_setlkw, W | S, wake_setlkw}, new_setlkw},
    {{"open of a fifo", m_fifo, W | S, wake_fifo}, new_fifo},
    {{"splice", m_splice, W | S, wake_pipe}, new_pipe},
    {{"tee", m_tee, W | S, wake_pipe}, new_pipe},
    {{"io_getevents", m_getevents, D | S, nothing}, nothing},
    {{"io_pgetevents", m_pgetevents, D | S, nothing}, nothing},
    {{"pthread_join", m_join, W, wake_pipe}, new_pipe},
    {{"io_uring_enter", m_ring, S, nothing}, nothing},
};
enum { CALLS = sizeof calls / sizeof *calls };
static int count;
static call *chosen[CALLS];

static void on_signal(int sig) { __atomic_fetch_add(&board[62], 1, __ATOMIC_SEQ_CST); }

static void *run(void *p) {
    call *c = p;
    volatile uint64_t *mine = board + 64 + 4 * c->number;
    uint64_t begin = now();
    mine[0] = 1;
    errno = 0;
    long result = c->make(c);
    int why = errno;
    mine[3] = now() - begin;
    mine[1] = result;
    mine[2] = result < 0 ? why : 0;
    mine[0] = 2;
    return 0;
}

static void prepare_shared(void) {
    char name[64];
    pthread_mutex_lock(&held);
    sem_init(&semaphore, 0, 0);
    sems = semget(IPC_PRIVATE, 2, 0600);
    queue = msgget(IPC_PRIVATE, 0600);
    struct mq_attr a = {.mq_maxmsg = 2, .mq_msgsize = 64};
    snprintf(name, sizeof name, "/relive-calls-%d", getpid());
    mail = mq_open(name, O_RDWR | O_CREAT, 0600, &a);
    mq_unlink(name);
    full_mail = mq_open(name, O_RDWR | O_CREAT, 0600, &a);
    mq_unlink(name);
    full_queue = msgget(IPC_PRIVATE, 0600);
    char room[256] = {0};
    ring = syscall(SYS_io_uring_setup, 4, room);
    if (sems < 0 || queue < 0 || mail == (mqd_t)-1 || full_mail == (mqd_t)-1 || full_queue < 0) die("shared");
}

int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDWR);
    board = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (board == MAP_FAILED) return 2;
    close(fd);
    folder = strdup(argv[1]);
    *strrchr(folder, '/') = 0;
    kind = !strcmp(argv[2], "wake") ? WAKE : !strcmp(argv[2], "deadline") ? DEADLINE : !strcmp(argv[2], "signal") ? SIGNAL : RESTART;
    if (kind != DEADLINE) wait_for = (struct timespec){LONG_MS / 1000, 0};
    prepare_shared();
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = kind == RESTART ? SA_RESTART : 0};
    sigaction(SIGUSR1, &a, 0);
    sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR2); pthread_sigmask(SIG_BLOCK, &s, 0);
    for (int i = 0; i < CALLS; i++) {
        call *c = &calls[i].c;
        int wanted = kind == RESTART ? W | S : 1 << kind;
        if ((c->kinds & wanted) != wanted) continue;
        if (c->make == m_ring && ring < 0) continue; // forbidden on this machine
        c->number = count;
        calls[i].prepare(c);
        chosen[count++] = c;
    }
    char names[256];
    snprintf(names, sizeof names, "%s/names", folder);
    FILE *list = fopen(names, "w");
    for (int i = 0; i < count; i++) fprintf(list, "%s\n", chosen[i]->name);
    fclose(list);
    for (int i = 0; i < count; i++) pthread_create(&chosen[i]->thread, 0, run, chosen[i]);
    board[1] = count;
    board[0] = 1;
    while (!board[2]) usleep(1000);
    for (int i = 0; i < count; i++) if (kind == WAKE) chosen[i]->wake(chosen[i]);
    if (kind == SIGNAL || kind == RESTART) for (int i = 0; i < count; i++) pthread_kill(chosen[i]->thread, SIGUSR1);
    while (!board[3]) {
        usleep(1000);
        if (board[5]) for (int i = 0; i < count; i++) if (board[64 + 4 * i] != 2) chosen[i]->wake(chosen[i]);
        board[5] = 0;
        if (!board[4]) continue;
        board[4] = 0;
        for (int i = 0; i < count; i++) if (board[64 + 4 * i] != 2) pthread_kill(chosen[i]->thread, SIGUSR1);
    }
    semctl(sems, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, 0);
    msgctl(full_queue, IPC_RMID, 0);
    _exit(0);
}

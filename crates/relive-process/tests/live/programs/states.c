// States that a stop must leave alone. Words of the board: 0 ready, 1.. progress, 2 what must stay 0 or at rest, 5 go on.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t *board;

// 12 general registers, 16 vector registers, 8 of the x87 stack, control words, flags.
struct registers {
    uint64_t general[12];
    uint8_t vector[16][32];
    uint8_t x87[8][16];
    uint32_t mxcsr;
    uint16_t control;
    uint16_t carry;
} __attribute__((aligned(32)));
_Static_assert(offsetof(struct registers, vector) == 96 && offsetof(struct registers, x87) == 608, "as in the code below");
_Static_assert(offsetof(struct registers, mxcsr) == 736 && offsetof(struct registers, control) == 740, "as in the code below");

// void witness(const struct registers *in, struct registers *out, uint64_t rounds): all of `in` into the registers, `rounds`
// turns of a loop that touches none of them, all of them into `out`.
#define EACH_VECTOR(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define EACH_X87(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7)
#define LOAD_AVX(n) "vmovups 96+32*" #n "(%rdi), %ymm" #n "\n"
#define STORE_AVX(n) "vmovups %ymm" #n ", 96+32*" #n "(%rsi)\n"
#define LOAD_SSE(n) "movups 96+32*" #n "(%rdi), %xmm" #n "\n"
#define STORE_SSE(n) "movups %xmm" #n ", 96+32*" #n "(%rsi)\n"
#define LOAD_X87(n) "fldt 608+16*(7-" #n ")(%rdi)\n"
#define STORE_X87(n) "fstpt 608+16*" #n "(%rsi)\n"
#define WITNESS(name, LOAD, STORE)                                                                                             \
    __asm__(".text\n.type " name ", @function\n" name ":\n"                                                                    \
            "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\nsub $16, %rsp\nstmxcsr (%rsp)\nfnstcw 8(%rsp)\n" \
            "fninit\nldmxcsr 736(%rdi)\nfldcw 740(%rdi)\n" EACH_VECTOR(LOAD) EACH_X87(LOAD_X87)                                \
            "mov (%rdi), %rax\nmov 8(%rdi), %rbx\nmov 16(%rdi), %rcx\nmov 24(%rdi), %rbp\nmov 32(%rdi), %r8\nmov 40(%rdi), %r9\n" \
            "mov 48(%rdi), %r10\nmov 56(%rdi), %r11\nmov 64(%rdi), %r12\nmov 72(%rdi), %r13\nmov 80(%rdi), %r14\nmov 88(%rdi), %r15\n" \
            "stc\n1: dec %rdx\njnz 1b\n"                                                                                       \
            "setc 742(%rsi)\nmovb $0, 743(%rsi)\n"                                                                             \
            "mov %rax, (%rsi)\nmov %rbx, 8(%rsi)\nmov %rcx, 16(%rsi)\nmov %rbp, 24(%rsi)\nmov %r8, 32(%rsi)\nmov %r9, 40(%rsi)\n" \
            "mov %r10, 48(%rsi)\nmov %r11, 56(%rsi)\nmov %r12, 64(%rsi)\nmov %r13, 72(%rsi)\nmov %r14, 80(%rsi)\nmov %r15, 88(%rsi)\n" \
            EACH_VECTOR(STORE) EACH_X87(STORE_X87) "stmxcsr 736(%rsi)\nfnstcw 740(%rsi)\n"                                     \
            "ldmxcsr (%rsp)\nfldcw 8(%rsp)\nadd $16, %rsp\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n")
WITNESS("witness_avx", LOAD_AVX, STORE_AVX);
WITNESS("witness_sse", LOAD_SSE, STORE_SSE);
void witness_avx(const struct registers *in, struct registers *out, uint64_t rounds);
void witness_sse(const struct registers *in, struct registers *out, uint64_t rounds);

static void *witness(void *p) {
    int avx = __builtin_cpu_supports("avx");
    struct registers in, out;
    unsigned seed = (uintptr_t)p;
    for (;;) {
        memset(&in, 0, sizeof in);
        for (int i = 0; i < 12; i++) in.general[i] = (uint64_t)rand_r(&seed) << 33 ^ rand_r(&seed);
        for (int i = 0; i < 16; i++) for (int j = 0; j < (avx ? 32 : 16); j++) in.vector[i][j] = rand_r(&seed);
        for (int i = 0; i < 8; i++) { long double value = rand_r(&seed) / 7.0L; memcpy(in.x87[i], &value, 10); }
        in.mxcsr = 0x1f80 | (rand_r(&seed) & 3) << 13; // a rounding mode
        in.control = 0x37f | (rand_r(&seed) & 3) << 10;
        in.carry = 1;
        memset(&out, 0, sizeof out);
        (avx ? witness_avx : witness_sse)(&in, &out, 100000);
        if (memcmp(&in, &out, sizeof in)) board[2]++;
        board[1]++;
    }
}

static int run_with(int (*f)(void *), int flags) {
    static char stacks[64][1 << 16];
    static int next;
    return clone(f, stacks[next++ % 64] + (1 << 16), flags, 0);
}
static pid_t parent;
static int sibling(void *p) { while (!board[5] && getppid() == parent) board[2]++; return 0; }
static int short_sibling(void *p) { for (int i = 0; i < 100000; i++) board[2]++; return 0; }

// Only what the loop below needs is allowed, in all threads; anything else kills the process.
static void filter(void) {
    static const int allowed[] = {SYS_nanosleep, SYS_clock_nanosleep, SYS_restart_syscall, SYS_rt_sigreturn, SYS_exit_group, SYS_futex};
    struct sock_filter code[2 * 8 + 4];
    int n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {n, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) exit(6);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program)) exit(7);
}
static void *naps(void *p) {
    for (;;) { struct timespec t = {0, 1000000}; nanosleep(&t, 0); board[(intptr_t)p]++; }
}

int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDWR);
    board = mmap(0, 512, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (board == MAP_FAILED) return 2;
    close(fd);
    char *mode = argv[2];
    parent = getpid();
    pthread_t t;
    if (!strcmp(mode, "registers")) {
        for (intptr_t i = 1; i <= 3; i++) if (pthread_create(&t, 0, witness, (void *)i)) return 3;
        board[0] = 1;
        for (;;) pause();
    }
    if (!strcmp(mode, "sibling")) {
        int child = run_with(sibling, CLONE_VM | SIGCHLD);
        board[0] = 1;
        while (waitpid(child, 0, 0) < 0 && errno == EINTR);
        for (;;) { board[1]++; usleep(1000); }
    }
    if (!strcmp(mode, "siblings")) {
        board[0] = 1;
        for (;;) {
            int child = run_with(short_sibling, CLONE_VM | SIGCHLD);
            while (waitpid(child, 0, 0) < 0 && errno == EINTR);
            board[1]++;
            usleep(3000);
        }
    }
    if (!strcmp(mode, "filtered")) {
        if (pthread_create(&t, 0, naps, (void *)1)) return 3;
        while (!board[1]) usleep(100); // it has made the calls that threads begin with
        filter();
        board[0] = 1;
        naps((void *)3);
    }
    return 9;
}

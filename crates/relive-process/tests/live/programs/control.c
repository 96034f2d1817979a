/* Says where it is, and maps memory of every protection.
 *
 * where: words 1 to 4 are addresses of code, a constant, the stack and the C library, word 5 is the constant; ends with 7.
 * maps:  words 1 to 13 are addresses of mappings in the order of `Place` in control.rs, word 20 counts on.
 * closed: as `maps`, and the process may not be looked into by others of its user.
 * The third argument is a file to map. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define SYS_MSEAL 462

static const volatile uint64_t constant = 0x1122334455667788;
static volatile uint64_t *board;
static uint64_t next = 1;

static void publish(const volatile void *address) { board[next++] = (uintptr_t)address; }

static void *map(int protection, int flags, int fd) { return mmap(0, PAGE, protection, flags, fd, 0); }

static void *seal(void *address) {
    /* A kernel before 6.10 has no seals: the page is then as closed as its protection. */
    syscall(SYS_MSEAL, address, (size_t)PAGE, 0UL);
    return address;
}

int main(int argc, char **argv) {
    int own = open(argv[1], O_RDWR);
    board = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
    if (!strcmp(argv[2], "where")) {
        int local;
        publish((void *)(uintptr_t)main);
        publish(&constant);
        publish(&local);
        publish((void *)(uintptr_t)memcpy);
        board[5] = constant;
        board[0] = 1;
        return 7;
    }
    int file = open(argv[3], O_RDWR), anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    publish((void *)(uintptr_t)main);
    publish(&constant);
    publish(map(PROT_READ, MAP_PRIVATE, file));
    publish(map(PROT_NONE, MAP_PRIVATE, file));
    publish(map(PROT_NONE, anonymous, -1));
    publish(seal(map(PROT_READ, MAP_PRIVATE, file)));
    publish(seal(map(PROT_NONE, anonymous, -1)));
    publish((void *)getauxval(AT_SYSINFO_EHDR));
    publish(map(PROT_READ, MAP_SHARED, file));
    publish(map(PROT_READ | PROT_WRITE, MAP_SHARED, file));
    publish(map(PROT_NONE, MAP_SHARED, file));
    publish(map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1));
    /* The file ends before this page. */
    publish(mmap(0, 4 * PAGE, PROT_READ, MAP_PRIVATE, file, 0) + 3 * PAGE);
    if (!strcmp(argv[2], "closed")) prctl(PR_SET_DUMPABLE, 0);
    board[0] = 1;
    for (;;) {
        board[20]++;
        usleep(100);
    }
}

/* A process that calls what is written into it: `call ADDRESS NUMBER` prints what the function there gives. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PART (1UL << 16)

long outside_counter = 1000;
/* What the thread-locals of the code that is written are in. */
char thread_block[256];

/* Gives the address of a thread-local whose descriptor's address is in rdi, and changes nothing but rax and rdi. */
__asm__(".text\n.globl thread_local_address\nthread_local_address:\n"
        "  mov 16(%rdi), %rdi\n"
        "  lea thread_block(%rip), %rax\n"
        "  add %rdi, %rax\n"
        "  ret\n");
extern char thread_local_address[];

int main(void) {
    /* Code, constants, variables: near to each other, far from this program's own. */
    char *at = mmap(0, 3 * PART, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at, PART, PROT_READ | PROT_EXEC) || mprotect(at + 2 * PART, PART, PROT_READ | PROT_WRITE))
        return 1;
    printf("%p %p %p %p %p\n", (void *)at, (void *)strlen, (void *)&outside_counter, (void *)thread_block,
           (void *)thread_local_address);
    fflush(stdout);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long function;
        long number;
        if (sscanf(line, "call %lx %ld", &function, &number) == 2) {
            long answer = ((long (*)(long))function)(number);
            printf("%ld %ld\n", answer, outside_counter);
        }
        fflush(stdout);
    }
    return 0;
}

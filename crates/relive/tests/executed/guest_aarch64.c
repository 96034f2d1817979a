/* Calls `entry` of old.c, which is part of it: `call NUMBER` prints what it gives. */
#include <stdio.h>

long outside_counter = 1000;
long entry(long);

int main(void) {
    char line[256];
    long number;
    while (fgets(line, sizeof line, stdin))
        if (sscanf(line, "call %ld", &number) == 1) {
            long answer = entry(number);
            printf("%ld %ld\n", answer, outside_counter);
            fflush(stdout);
        }
    return 0;
}

/* Compiled for macOS, run by Linux: statics, constants, a switch, floating point, a thread-local, calls of both sides. */
extern unsigned long strlen(const char *);
extern long outside_counter;
long calls;
_Thread_local long depth = 5;
static const char *const words[] = {"zero", "one", "two", "three"};

__attribute__((noinline)) long twice(long n) { return n * 2; }

__attribute__((noinline)) long shape(long n) {
    switch (n & 7) {
    case 0: return 17;
    case 1: return 4;
    case 2: return 250 + calls;
    case 3: return 9;
    case 4: return 81;
    case 5: return 6 + twice(n);
    case 6: return 33;
    default: return 77;
    }
}

__attribute__((noinline)) double half(double n) { return n * 0.5; }

long entry(long n) {
    calls++;
    depth++;
    outside_counter += 2;
    long (*volatile pointer)(long) = shape;
    return pointer(n) + shape(n) + twice(n) + (long)strlen(words[n & 3]) + (long)half(n) + depth * 1000 + calls * 100000;
}

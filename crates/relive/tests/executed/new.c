/* The functions of old.c that an edit changed. */
extern long calls;
extern _Thread_local long depth;

__attribute__((noinline)) long twice(long n) { return n * 3; }

__attribute__((noinline)) long shape(long n) { return 500 + twice(n) + calls + depth; }

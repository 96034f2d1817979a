/* A thread-local that threads.c uses. */
_Thread_local int ext_thread = 1;
int weakimp(int x) { return x; }

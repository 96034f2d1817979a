// A shared object for the agent to open.
#include <stdlib.h>
#include <unistd.h>
int relive_test_object(void) { return 1; }
#ifdef SLOW
__attribute__((constructor)) static void slow(void) { setenv("OPENING", "1", 1); usleep(300000); unsetenv("OPENING"); }
#endif

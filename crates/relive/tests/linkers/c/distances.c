/* Distances of symbols in data, which C cannot say. */
extern int global;
int from[4] = {1};
static int to[4] = {1, 2};
int *use(void) { return to; }
#ifdef __APPLE__
__asm__(".section __DATA,__data\n.p2align 3\n_table:\n.quad _use - _from\n.quad _from - _table + 8\n.quad _table + 8\n"
        ".long _from - _table\n.long _use - _table - 4\n");
#else
__asm__(".data\n.p2align 3\ntable:\n.quad global - .\n.quad from - . + 8\n.quad table + 8\n.long from - .\n"
        ".long global - . - 4\n.quad global - .\n.short table - .\n");
#endif

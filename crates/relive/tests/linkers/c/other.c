/* Uses what data.c and threads.c define, defines again what is weak there. */
extern int global, zeroed[10];
extern short medium;
extern int (*p_function)(int);
int weakf(int);
__attribute__((weak)) int weakf(int x) { return x + 1; }
__attribute__((weak, visibility("hidden"))) int hidden_weakf(int x) { return x + 2; }
int extf(int x) { return x + zeroed[3] + medium; }
int ext[8] = {1};
extern _Thread_local int in_data, in_zero;
int use_threads(void) { return in_data + in_zero; }
int *p_other = &global;
int (*pp)(int) = weakf;
float other_float(float x) { return x * 1.1f; }
const char *same(void) { return "a string literal"; }
const char *ending(void) { return "string literal"; }
int through_pointer(int x) { return p_function(x) + global; }

/* Thread-locals: initialised and zeroed, of this file and of another, aligned. */
_Thread_local int in_data = 9, in_zero;
static _Thread_local long own = 8;
static _Thread_local char own_zero[40];
_Thread_local __attribute__((aligned(32))) long aligned[4] = {1, 2, 3, 4};
extern _Thread_local int ext_thread;
int read_all(int x) { return in_data + in_zero + (int)own + own_zero[x] + (int)aligned[2] + ext_thread; }
void write_all(int x) {
    in_data = x;
    in_zero = x + 1;
    own += x;
    own_zero[x] = (char)x;
    aligned[1] = x;
    ext_thread = x;
}
int *address(int which) { return which ? &in_data : &ext_thread; }

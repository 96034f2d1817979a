/* Statics, pointers, strings, literals, weak and common symbols, tables of labels: one relocation kind or more for each. */
extern int ext[8];
extern int extf(int);
extern int weakimp(int) __attribute__((weak));

int global = 3;
static int local = 4;
int zeroed[10];
static int hidden_zero[20];
__attribute__((visibility("hidden"))) int hidden = 5;
__attribute__((weak)) int weakf(int x) { return x + 1; }
__attribute__((weak, visibility("hidden"))) int hidden_weakf(int x) { return x + 2; }
char small = 1;
short medium = 2;
long large = 3;

int *p_global = &global, *p_local = &local, *p_ext = ext, *p_ext4 = ext + 4, *p_zero = &hidden_zero[5];
int (*p_function)(int) = extf;
int (*p_weak)(int) = weakf;
static const char *const names[] = {"one", "two", "three", "three and a half"};
const char *name(int i) { return names[i]; }
const char *text(void) { return "a string literal"; }

int branches(int x, int y) {
    switch (x) {
    case 0: return extf(y);
    case 1: return extf(y + 2);
    case 2: return weakf(y) * 3 + hidden_weakf(x);
    case 3: return global + local;
    case 4: return ext[y];
    case 5: return zeroed[y];
    case 6: return hidden_zero[y]++;
    case 7: return y * y;
    case 9: return hidden;
    case 10: return small + medium;
    default: return -1;
    }
}

/* The number behind the displacement decides where the displacement counts from. */
void store(int value) {
    local = value;
    hidden_zero[3] = value;
    small = 7;
    medium = 300;
    global = 70000;
    hidden = 77;
    large = -5;
}
int compare(void) { return small == 9 || medium == 400 || global == 80000 || hidden_zero[7] == 3; }

double doubles(double x, float y) { return x * 3.14159 + y * 2.5f; }
float floats(float x) { return x * 1.1f; }
typedef float four __attribute__((vector_size(16)));
four vectors(four x) { return x * (four){1.f, 2.f, 3.f, 4.f}; }
struct wide { char a[3]; short b; int c; long d; four e; };
struct wide things[3];
long sizes(void) { return things[1].a[2] + things[1].b + things[2].c + things[2].d + (long)things[2].e[1]; }

static int labels(int x) {
    static void *const table[] = {&&a, &&b, &&c};
    goto *table[x];
a:
    return 1;
b:
    return 2;
c:
    return 3;
}
int use_labels(int x) { return labels(x); }
int call_weak(void) { return weakimp ? weakimp(3) : 0; }
__attribute__((constructor)) static void before_main(void) { global++; }

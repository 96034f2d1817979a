// Exceptions and templates: a personality, tables of types, call frame information, weak definitions.
extern "C" void may_throw();
extern "C" int number(int);
struct Guard {
    int x;
    Guard(int);
    ~Guard();
    int get();
};
int caught(int x) {
    Guard guard(x);
    try {
        may_throw();
        number(x);
    } catch (int thrown) {
        return thrown + guard.get();
    } catch (...) {
        throw;
    }
    return guard.x;
}
template <class T> T guarded(T a) {
    Guard guard(1);
    may_throw();
    return a;
}
int several(int a) { return guarded<int>(a) + guarded<long>(a) + guarded<char>(a) + (int)guarded<double>(a); }
inline int counted() {
    static int k = 3;
    return k++;
}
int use_counted() { return counted(); }
struct Base {
    virtual int a();
    virtual ~Base();
};
int Base::a() { return 1; }
Base::~Base() { may_throw(); }
Base *make() { return new Base; }

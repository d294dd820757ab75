// A program whose names the tests compare with those of nm -C and addr2line -C.
#include <cstdio>
#include <string>
#include <vector>

volatile int sink;

namespace outer {
namespace {
struct Hidden {
	int value;
	__attribute__((noinline)) int get(int x) const { return value + x + sink; }
};
}

template <typename T>
class Box {
public:
	explicit Box(T v) : v(v) {}
	__attribute__((noinline)) T add(T x) { sink = 1; return v + x; }
	T twice() { return add(v) + helper(v); }
	bool operator<(const Box &o) const;

private:
	static inline T helper(T x) { sink = 2; return x * sink; }
	T v;
};

template <typename T>
__attribute__((noinline)) bool Box<T>::operator<(const Box &o) const { return v < o.v + sink; }

__attribute__((noinline)) int use(std::vector<int> v) { return Hidden{int(v.size())}.get(3); }
}

int main(int argc, char **)
{
	outer::Box<int> a(argc);
	outer::Box<double> b(argc);
	auto f = [&](int x) __attribute__((noinline)) { return a.twice() + x + sink; };
	printf("%d %f %d %d\n", f(argc), b.twice(), outer::use({1, 2, 3}), int(a < outer::Box<int>(3)));
}

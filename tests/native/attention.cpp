// Problems of attention and of rows times matrices of their own: arrays with any strides.
//
// Each is solved twice, with its arrays contiguous and with rows elsewhere; both give the same bits.
#include <algorithm>

#include "checks.h"
#include "cpu/arithmetic.h"

namespace checks {
namespace {

using namespace latentjac;

// Sizes of probes, batch, heads, rows and channels.
struct Extent {
  int64_t probes, batch, heads, rows, channels;
  int64_t count() const { return probes * batch * heads * rows * channels; }
};

enum class Layout { kContiguous, kHeadsFollowRows, kThird, kFarApart };

// An array whose rows lie as a layout says. Each row is written and read through `row`.
template <typename T>
class Grid {
 public:
  Grid(const Extent& extent, Layout layout, T fill, int64_t shift)
      : extent_(extent), strides_(strides_of(extent, layout)), memory_(span(), fill, shift) {}
  // An input: what lies between its rows may not be read.
  Grid(const Extent& extent, Layout layout, const Memory<T>& values) : Grid(extent, layout, kForbidden<T>, 1) {
    assign(values);
  }

  Strided strided() const { return {memory_.at(), strides_.probe, strides_.batch, strides_.head, strides_.row}; }
  T* row(int64_t probe, int64_t batch, int64_t head, int64_t row) const {
    return memory_.at() + probe * strides_.probe + batch * strides_.batch + head * strides_.head + row * strides_.row;
  }
  template <typename Work>
  void each_row(const Work& work) const {
    for (int64_t p = 0; p < extent_.probes; ++p)
      for (int64_t b = 0; b < extent_.batch; ++b)
        for (int64_t h = 0; h < extent_.heads; ++h)
          for (int64_t r = 0; r < extent_.rows; ++r) work(row(p, b, h, r));
  }
  void assign(const Memory<T>& values) const {
    const T* from = values.at();
    each_row([&](T* row) {
      for (int64_t c = 0; c < extent_.channels; ++c) row[c] = *from++;
    });
  }
  // The entries in the order of a contiguous array; what lies between them has to be untouched.
  void add_to(Bits& bits, const std::string& name) const {
    int64_t written = 0;
    each_row([&](const T* row) {
      for (int64_t c = 0; c < extent_.channels; ++c) {
        add_entry(bits, row[c], name);
        ++written;
      }
    });
    for (int64_t i = 0; i < memory_.count(); ++i) written += memory_.at()[i] == kUntouched<T>;
    memory_.require_front_untouched(name);
    require(written == memory_.count(), "wrote between the rows of a result", name);
  }

 private:
  static Strided strides_of(const Extent& e, Layout layout) {
    const int64_t c = e.channels;
    switch (layout) {
      case Layout::kContiguous:
        return {nullptr, e.batch * e.heads * e.rows * c, e.heads * e.rows * c, e.rows * c, c};
      case Layout::kHeadsFollowRows:
        return {nullptr, e.batch * e.heads * e.rows * c, e.heads * e.rows * c, c, e.heads * c};
      case Layout::kThird:
        return {nullptr, 3 * e.batch * e.heads * e.rows * c, 3 * e.heads * e.rows * c, c, 3 * e.heads * c};
      case Layout::kFarApart:
        break;
    }
    // Probes next to each other, then rows, heads and batch, with gaps.
    const int64_t probe = c + 1, row = e.probes * probe + 37, head = e.rows * row + 1001;
    return {nullptr, probe, e.heads * head + 5, head, row};
  }
  int64_t span() const {
    if (extent_.count() == 0) return 0;
    return (extent_.probes - 1) * strides_.probe + (extent_.batch - 1) * strides_.batch +
           (extent_.heads - 1) * strides_.head + (extent_.rows - 1) * strides_.row + extent_.channels;
  }

  Extent extent_;
  Strided strides_;
  Memory<T> memory_;
};

// The bits of both layouts, which have to agree.
template <typename Run>
Bits in_both(const Run& run, Layout other, const std::string& name) {
  const Bits bits = run(Layout::kContiguous);
  require(run(other) == bits, "depends on where rows lie", name);
  return bits;
}

Layout draw_layout(Random& random) {
  return static_cast<Layout>(1 + random.below(3));
}

// ---- Attention ----

struct Sizes {
  int64_t probes, batch, heads, queries, keys, channels, value_channels;
  bool causal;
  int64_t bias;  // none, one for all, one for each key, one for each pair of each head

  Extent of_queries(int64_t count) const { return {count, batch, heads, queries, channels}; }
  Extent of_keys(int64_t count) const { return {count, batch, heads, keys, channels}; }
  Extent of_values(int64_t count) const { return {count, batch, heads, keys, value_channels}; }
  Extent of_outputs(int64_t count) const { return {count, batch, heads, queries, value_channels}; }
  std::string name(const char* kernel) const {
    std::string joined = kernel;
    for (const int64_t size : {probes, batch, heads, queries, keys, channels, value_channels})
      joined += " " + std::to_string(size);
    return joined + (causal ? " causal" : "") + " bias " + std::to_string(bias);
  }
};

Sizes draw_sizes(Random& random, bool empty) {
  const int64_t channels = random.pick({1, 2, 7, 8, 16, 33, 40});
  Sizes size{random.pick({1, 2, 3, 5}),
             random.pick({1, 2}),
             random.pick({1, 3}),
             random.pick({1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 70}),
             random.pick({1, 2, 31, 63, 64, 65, 130}),
             channels,
             random.pick({channels, channels, 1, 9, 24}),
             random.below(4) == 0,
             random.below(4)};
  int64_t* const sizes[] = {&size.probes, &size.batch,    &size.heads,         &size.queries,
                            &size.keys,   &size.channels, &size.value_channels};
  if (empty) *sizes[random.below(7)] = 0;
  return size;
}

// Queries, keys and values with what the primal makes of them.
template <typename T>
struct Attended {
  Sizes size;
  Shared<T> q, k, v, bias, o, lse;

  AttentionShape shape() const {
    return {size.batch,          size.heads, size.queries,  size.keys,   size.channels,
            size.value_channels, 0.35,       dtype_of<T>(), size.causal, false};
  }
  AttentionBias bias_of() const {
    switch (size.bias) {
      case 1:
        return {bias->at(), 0, 0, 0, 0};
      case 2:
        return {bias->at(), 0, 0, 0, 1};
      case 3:
        return {bias->at(), size.heads * size.queries * size.keys, size.queries * size.keys, size.keys, 1};
    }
    return {nullptr, 0, 0, 0, 0};
  }
};

template <typename T>
Attended<T> attend(Random& random, const Sizes& size) {
  const int64_t pairs = size.batch * size.heads * size.queries * size.keys;
  const int64_t biases[] = {0, 1, size.keys, pairs};
  Attended<T> a{size,
                draw<T>(random, size.of_queries(1).count()),
                draw<T>(random, size.of_keys(1).count()),
                draw<T>(random, size.of_values(1).count()),
                draw<T>(random, biases[size.bias]),
                draw<T>(random, size.of_outputs(1).count()),
                draw<T>(random, size.batch * size.heads * size.queries)};
  // Some pairs are forbidden; of the first queries of each head all are.
  for (int64_t i = 0; size.bias == 3 && i < pairs; ++i) {
    if (random.below(5) == 0 || i / size.keys % size.queries == 0)
      a.bias->at()[i] = -std::numeric_limits<T>::infinity();
  }
  const Grid<T> q(size.of_queries(1), Layout::kContiguous, *a.q), k(size.of_keys(1), Layout::kContiguous, *a.k),
      v(size.of_values(1), Layout::kContiguous, *a.v);
  const Grid<T> o(size.of_outputs(1), Layout::kContiguous, kUntouched<T>, 0);
  cpu::attention_primal({a.shape(), q.strided(), k.strided(), v.strided(), a.bias_of(), o.strided(), a.lse->at()}, 1);
  T* to = a.o->at();
  o.each_row([&](const T* row) { to = std::copy(row, row + size.value_channels, to); });
  return a;
}

template <typename T>
Problem attention_primal(Random& random, const Sizes& size) {
  const auto a = attend<T>(random, size);
  const Layout other = draw_layout(random);
  const std::string name = size.name("attention_primal") + type_name<T>();
  return {name, [=](int threads) {
            const auto run = [&](Layout layout) {
              const Grid<T> q(size.of_queries(1), layout, *a.q), k(size.of_keys(1), layout, *a.k),
                  v(size.of_values(1), layout, *a.v);
              const Grid<T> o(size.of_outputs(1), layout, kUntouched<T>, 1);
              const Memory<T> lse(a.lse->count(), kUntouched<T>, 1);
              around([&] {
                cpu::attention_primal(
                    {a.shape(), q.strided(), k.strided(), v.strided(), a.bias_of(), o.strided(), lse.at()}, threads);
              });
              Bits bits;
              o.add_to(bits, name);
              add_all(bits, lse, name);
              return bits;
            };
            return in_both(run, other, name);
          }};
}

template <typename T>
Problem attention_tangent(Random& random, const Sizes& size, int64_t given, bool accumulate) {
  const auto a = attend<T>(random, size);
  const auto dq = draw<T>(random, size.of_queries(size.probes).count()),
             dk = draw<T>(random, size.of_keys(size.probes).count()),
             dv = draw<T>(random, size.of_values(size.probes).count()),
             before = draw<T>(random, size.of_outputs(size.probes).count());
  const Layout other = draw_layout(random);
  const bool uniform = given == 1 && random.below(2);  // one tangent for all queries: a row stride of 0
  const std::string name = size.name("attention_tangent") + " given " + std::to_string(given) +
                           (uniform ? " uniform" : "") + (accumulate ? " added" : "") + type_name<T>();
  return {name, [=](int threads) {
            const auto run = [&](Layout layout) {
              const Grid<T> q(size.of_queries(1), layout, *a.q), k(size.of_keys(1), layout, *a.k),
                  v(size.of_values(1), layout, *a.v), o(size.of_outputs(1), layout, *a.o),
                  tq(size.of_queries(size.probes), layout, *dq), tk(size.of_keys(size.probes), layout, *dk),
                  tv(size.of_values(size.probes), layout, *dv);
              const Grid<T> out(size.of_outputs(size.probes), layout, kUntouched<T>, 1);
              if (accumulate) out.assign(*before);
              Strided first = given & 1 ? tq.strided() : Strided{};
              if (uniform) first.row = 0;
              around([&] {
                cpu::attention_tangent({a.shape(), q.strided(), k.strided(), v.strided(), a.bias_of(), o.strided(),
                                        a.lse->at(), size.probes, first, given & 2 ? tk.strided() : Strided{},
                                        given & 4 ? tv.strided() : Strided{}, out.strided(), accumulate},
                                       threads);
              });
              Bits bits;
              out.add_to(bits, name);
              return bits;
            };
            return in_both(run, other, name);
          }};
}

template <typename T>
Problem attention_cotangent(Random& random, const Sizes& size, int64_t wanted) {
  const auto a = attend<T>(random, size);
  const auto u = draw<T>(random, size.of_outputs(size.probes).count());
  const Layout other = draw_layout(random);
  const std::string name = size.name("attention_cotangent") + " wanted " + std::to_string(wanted) + type_name<T>();
  return {name, [=](int threads) {
            const auto run = [&](Layout layout) {
              const Grid<T> q(size.of_queries(1), layout, *a.q), k(size.of_keys(1), layout, *a.k),
                  v(size.of_values(1), layout, *a.v), o(size.of_outputs(1), layout, *a.o),
                  cotangents(size.of_outputs(size.probes), layout, *u);
              const Grid<T> dq(size.of_queries(wanted & 1 ? size.probes : 0), layout, kUntouched<T>, 1),
                  dk(size.of_keys(wanted & 2 ? size.probes : 0), layout, kUntouched<T>, 1),
                  dv(size.of_values(wanted & 4 ? size.probes : 0), layout, kUntouched<T>, 1);
              around([&] {
                cpu::attention_cotangent(
                    {a.shape(), q.strided(), k.strided(), v.strided(), a.bias_of(), o.strided(), a.lse->at(),
                     size.probes, cotangents.strided(), wanted & 1 ? dq.strided() : Strided{},
                     wanted & 2 ? dk.strided() : Strided{}, wanted & 4 ? dv.strided() : Strided{}},
                    threads);
              });
              Bits bits;
              for (const Grid<T>* result : {&dq, &dk, &dv}) result->add_to(bits, name);
              return bits;
            };
            return in_both(run, other, name);
          }};
}

template <typename T>
void add_attention_of(std::vector<Problem>& problems, Random& random, int count, bool empty) {
  for (int i = 0; i < count; ++i) {
    const Sizes size = draw_sizes(random, empty);
    problems.push_back(attention_primal<T>(random, size));
    problems.push_back(attention_tangent<T>(random, size, 1 + i % 7, i / 7 % 2));
    problems.push_back(attention_cotangent<T>(random, size, 1 + (i + 3) % 7));
  }
}

// ---- Rows times matrices of their own ----

template <typename T>
Problem rowwise(Random& random, const Extent& from, int64_t value_channels) {
  Extent to = from;
  to.channels = value_channels;
  const auto matrices = draw<T>(random, from.batch * from.rows * from.heads * from.channels * value_channels),
             t = draw<T>(random, from.count());
  const Layout other = draw_layout(random);
  std::string name = "rowwise_product";
  for (const int64_t size : {from.probes, from.batch, from.heads, from.rows, from.channels, value_channels})
    name += " " + std::to_string(size);
  name += type_name<T>();
  return {name, [=](int threads) {
            const auto run = [&](Layout layout) {
              const Grid<T> rows(from, layout, *t);
              const Grid<T> out(to, layout, kUntouched<T>, 1);
              around([&] {
                cpu::rowwise_product({matrices->at(), from.probes, from.batch, from.heads, from.rows, from.channels,
                                      value_channels, rows.strided(), out.strided(), dtype_of<T>()},
                                     threads);
              });
              Bits bits;
              out.add_to(bits, name);
              return bits;
            };
            return in_both(run, other, name);
          }};
}

template <typename T>
void add_rowwise_of(std::vector<Problem>& problems, Random& random, int count, bool empty) {
  for (int i = 0; i < count; ++i) {
    Extent from{random.pick({1, 2, 3, 4, 7, 8, 9, 13}), random.pick({1, 2}), random.pick({1, 3}),
                random.pick({1, 2, 17}), random.pick({1, 2, 7, 16, 40})};
    int64_t value_channels = random.pick({1, 2, 3, 7, 15, 16, 17, 31, 40, 66});
    int64_t* const sizes[] = {&from.probes, &from.batch, &from.heads, &from.rows, &from.channels, &value_channels};
    if (empty) *sizes[random.below(6)] = 0;
    problems.push_back(rowwise<T>(random, from, value_channels));
  }
}

template <typename T>
void add_large_attention_of(std::vector<Problem>& problems, Random& random) {
  // Sums of all probes exceed the second cache: groups of probes, the last of them smaller.
  const int64_t probes = 40 / kLargeDivisor + 7;
  const Sizes size{probes, 1, 1, 33, 65, 96 / kLargeDivisor + 20, 100 / kLargeDivisor + 20, false, 0};
  problems.push_back(attention_tangent<T>(random, size, 7, false));
  problems.push_back(attention_cotangent<T>(random, size, 7));
}

}  // namespace

void add_attention(std::vector<Problem>& problems, Random random, int count, bool empty) {
  add_attention_of<float>(problems, random, count, empty);
  add_attention_of<double>(problems, random, count, empty);
}

void add_rowwise(std::vector<Problem>& problems, Random random, int count, bool empty) {
  add_rowwise_of<float>(problems, random, count, empty);
  add_rowwise_of<double>(problems, random, count, empty);
}

void add_large_attention(std::vector<Problem>& problems, Random random) {
  add_large_attention_of<float>(problems, random);
  add_large_attention_of<double>(problems, random);
}

}  // namespace checks

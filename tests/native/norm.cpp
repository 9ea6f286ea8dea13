// Problems of norms fused with activations, and of gated activations.
#include "checks.h"
#include "cpu/arithmetic.h"

namespace checks {
namespace {

using namespace latentjac;

std::string text(std::initializer_list<int64_t> sizes) {
  std::string joined;
  for (const int64_t size : sizes) joined += (joined.empty() ? " " : "x") + std::to_string(size);
  return joined;
}

// ---- Norms ----

struct Norm {
  int64_t probes, samples, positions, channels, groups;
  bool rms;
  int64_t values() const { return samples * positions * channels; }
  std::string name(const char* kernel) const {
    return kernel + text({probes, samples, positions, channels}) + " in " + std::to_string(groups) + " groups" +
           (rms ? " rms" : "");
  }
};

Norm draw_norm(Random& random, bool empty) {
  const int64_t groups = random.pick({1, 1, 2, 3, 8});
  Norm size{random.pick({1, 2, 3, 4, 5, 9}),
            random.pick({1, 2, 3, 7}),
            random.pick({1, 2, 3, 31, 32, 33, 65}),
            groups * random.pick({1, 2, 3, 5, 8, 15, 16, 17, 33, 64}),
            groups,
            random.below(3) == 0};
  int64_t* const sizes[] = {&size.probes, &size.samples, &size.positions, &size.channels};
  if (empty) *sizes[random.below(4)] = 0;
  return size;
}

template <typename T>
Problem primal(Random& random, const Norm& size, Activation activation) {
  const auto x = draw<T>(random, size.values());
  const int64_t affine = random.below(3), shift = random.below(3);  // affine: none, for all samples, for each
  const int64_t length = affine == 2 ? size.samples * size.channels : size.channels;
  const auto gamma = draw<T>(random, length), beta = draw<T>(random, length);
  const bool wants_y = random.below(4) > 0;
  const std::string name = size.name("norm_act_primal") + type_name<T>();
  return {name, [=](int threads) {
            Memory<T> y(wants_y ? size.values() : 0, kUntouched<T>, shift);
            Memory<T> xhat(size.values(), kUntouched<T>, shift), a(size.values(), kUntouched<T>, shift);
            const int64_t stride = affine == 2 ? size.channels : 0;
            const NormPrimal call{x->at(),
                                  affine ? gamma->at() : nullptr,
                                  affine ? beta->at() : nullptr,
                                  wants_y ? y.at() : nullptr,
                                  xhat.at(),
                                  a.at(),
                                  stride,
                                  stride,
                                  size.samples,
                                  size.positions,
                                  size.channels,
                                  size.groups,
                                  1e-5,
                                  dtype_of<T>(),
                                  activation,
                                  size.rms};
            around([&] { cpu::norm_act_primal(call, threads); });
            Bits bits;
            for (const Memory<T>* result : {&y, &xhat, &a}) add_all(bits, *result, name);
            return bits;
          }};
}

enum class Into { kNew, kItself, kSum };

template <typename T>
Problem linear(Random& random, const Norm& size, bool transpose, Into into, int64_t shift) {
  const auto t = draw<T>(random, size.probes * size.values());
  const auto a = draw<T>(random, size.values()), xhat = draw<T>(random, size.values());
  const char* const ways[] = {"", " in place", " added"};
  const std::string name =
      size.name("norm_act_linear") + (transpose ? " transposed" : "") + ways[static_cast<int>(into)] + type_name<T>();
  return {name, [=](int threads) {
            Memory<T> out(t->count(), kUntouched<T>, shift);
            for (int64_t i = 0; into != Into::kNew && i < t->count(); ++i) out.at()[i] = t->at()[i];
            const NormLinear call{into == Into::kItself ? out.at() : t->at(),
                                  a->at(),
                                  xhat->at(),
                                  out.at(),
                                  size.probes,
                                  size.samples,
                                  size.positions,
                                  size.channels,
                                  size.groups,
                                  dtype_of<T>(),
                                  size.rms,
                                  transpose,
                                  into == Into::kSum};
            around([&] { cpu::norm_act_linear(call, threads); });
            Bits bits;
            add_all(bits, out, name);
            return bits;
          }};
}

template <typename T>
void add_norms_of(std::vector<Problem>& problems, Random& random, int count, bool empty) {
  for (int i = 0; i < count; ++i) {
    const Norm size = draw_norm(random, empty);
    problems.push_back(primal<T>(random, size, static_cast<Activation>(i % 5)));
    problems.push_back(linear<T>(random, size, i % 2, static_cast<Into>(i / 2 % 3), random.below(3)));
  }
}

// ---- Gated activations ----

struct Gated {
  int64_t probes, rows, channels;
  bool halves;  // value and gate are halves of one array
  int64_t gap;  // between rows
  int64_t count() const { return probes * rows; }
  int64_t stride() const { return (halves ? 2 : 1) * channels + gap; }
  int64_t whole() const { return count() ? count() * stride() - gap : 0; }
  std::string name(const char* kernel) const {
    return kernel + text({probes, rows, channels}) + (halves ? " halves" : "") + " gap " + std::to_string(gap);
  }
};

Gated draw_gated(Random& random, bool empty) {
  Gated size{random.pick({1, 2, 5}), random.pick({1, 3, 17, 40}), random.pick({1, 3, 7, 16, 33, 100, 2100}),
             random.below(2) == 0, random.pick({0, 0, 1, 6})};
  int64_t* const sizes[] = {&size.probes, &size.rows, &size.channels};
  if (empty) *sizes[random.below(3)] = 0;
  return size;
}

// Value and gate, in one array or two.
template <typename T>
struct Pair {
  const Gated& size;
  Memory<T> first, second;
  Pair(const Gated& of, T fill, int64_t shift)
      : size(of), first(of.whole(), fill, shift), second(of.halves ? 0 : of.whole(), fill, shift) {}
  T* value() const { return first.at(); }
  T* gate() const { return size.halves ? first.at() + size.channels : second.at(); }
  void require_gaps_untouched(const std::string& name) const {
    for (const Memory<T>* memory : {&first, &second}) {
      memory->require_front_untouched(name);
      for (int64_t i = 0; i < memory->count(); ++i) {
        const bool between = i % size.stride() >= size.stride() - size.gap;
        require(!between || memory->at()[i] == kUntouched<T>, "wrote between rows", name);
      }
    }
  }
};

template <typename T>
Problem gated_tangent(Random& random, const Gated& size, int64_t shift) {
  const int64_t values = size.rows * size.channels;
  const auto t = draw<T>(random, 2 * size.probes * values);
  const auto a = draw<T>(random, values), b = draw<T>(random, values);
  const std::string name = size.name("gated_tangent") + type_name<T>();
  return {name, [=](int threads) {
            const Pair<T> pair(size, kForbidden<T>, shift);
            const T* from = t->at();
            for (int64_t i = 0; i < size.count(); ++i) {
              for (T* row : {pair.value() + i * size.stride(), pair.gate() + i * size.stride()}) {
                for (int64_t c = 0; c < size.channels; ++c) row[c] = *from++;
              }
            }
            Memory<T> out(size.probes * values, kUntouched<T>, shift);
            const GatedTangent call{pair.value(),  pair.gate(), a->at(),   b->at(),       out.at(),     size.stride(),
                                    size.stride(), size.probes, size.rows, size.channels, dtype_of<T>()};
            around([&] { cpu::gated_tangent(call, threads); });
            Bits bits;
            add_all(bits, out, name);
            return bits;
          }};
}

template <typename T>
Problem gated_cotangent(Random& random, const Gated& size, int64_t shift) {
  const int64_t values = size.rows * size.channels;
  const auto u = draw<T>(random, size.probes * values);
  const auto a = draw<T>(random, values), b = draw<T>(random, values);
  const std::string name = size.name("gated_cotangent") + type_name<T>();
  return {name, [=](int threads) {
            const Pair<T> pair(size, kUntouched<T>, shift);
            const GatedCotangent call{u->at(),       a->at(),     b->at(),   pair.value(),  pair.gate(),  size.stride(),
                                      size.stride(), size.probes, size.rows, size.channels, dtype_of<T>()};
            around([&] { cpu::gated_cotangent(call, threads); });
            pair.require_gaps_untouched(name);
            Bits bits;
            for (int64_t i = 0; i < size.count(); ++i) {
              for (const T* row : {pair.value() + i * size.stride(), pair.gate() + i * size.stride()}) {
                for (int64_t c = 0; c < size.channels; ++c) add_entry(bits, row[c], name);
              }
            }
            return bits;
          }};
}

template <typename T>
void add_gated_of(std::vector<Problem>& problems, Random& random, int count, bool empty) {
  for (int i = 0; i < count; ++i) {
    const Gated size = draw_gated(random, empty);
    problems.push_back(gated_tangent<T>(random, size, random.below(3)));
    problems.push_back(gated_cotangent<T>(random, size, random.below(3)));
  }
}

// ---- Large arrays: 17 MB of results, four probes of a sample beyond the tile of norm_pieces.h ----

template <typename T>
void add_large_of(std::vector<Problem>& problems, Random& random) {
  const int64_t size = static_cast<int64_t>(sizeof(T)) / 4 * kLargeDivisor;
  const Norm images{4, 1, 1040 / size, 1024, 32, false}, rows{5, 900 / size, 1, 1024, 1, true};
  // On an odd address results may not be written past the caches.
  for (const int64_t shift : {0, 1}) {
    problems.push_back(linear<T>(random, images, shift, Into::kNew, shift));
    problems.push_back(linear<T>(random, rows, shift, Into::kNew, shift));
    const Gated halves{4, 1100 / size, 1024, shift == 0, 0};
    problems.push_back(gated_tangent<T>(random, halves, shift));
    problems.push_back(gated_cotangent<T>(random, halves, shift));
  }
}

}  // namespace

void add_norms(std::vector<Problem>& problems, Random random, int count, bool empty) {
  add_norms_of<float>(problems, random, count, empty);
  add_norms_of<double>(problems, random, count, empty);
}

void add_gated(std::vector<Problem>& problems, Random random, int count, bool empty) {
  add_gated_of<float>(problems, random, count, empty);
  add_gated_of<double>(problems, random, count, empty);
}

void add_large(std::vector<Problem>& problems, Random random) {
  add_large_of<float>(problems, random);
  add_large_of<double>(problems, random);
}

}  // namespace checks

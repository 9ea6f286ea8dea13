// The library as a program sees it: C++ and C give the same, tangents are adjoint to cotangents, faults are named.
#include <gtest/gtest.h>
#include <latentjac/kernels_c.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <thread>

#include "arrays.h"

namespace {

const example::Attention kAttention{2, 3, 13, 7, 5};
constexpr int64_t kProbes = 4;

struct Attended {
  example::Array q = example::normal(kAttention.q_size(), 1), k = example::normal(kAttention.k_size(), 2),
                 v = example::normal(kAttention.k_size(), 3), o, lse;
  Attended() { kAttention.primal(q, k, v, o, lse); }
};

double dot(const example::Array& a, const example::Array& b, int64_t probe) {
  const size_t count = a.size() / kProbes, from = count * static_cast<size_t>(probe);
  double sum = 0;
  for (size_t i = from; i < from + count; ++i) sum += a[i] * b[i];
  return sum;
}

// A tensor of float64 on the processor.
class Tensor {
 public:
  Tensor(example::Array& values, std::vector<int64_t> shape) : shape_(std::move(shape)) {
    of = {
        values.data(), {kDLCPU, 0}, static_cast<int32_t>(shape_.size()), {kDLFloat, 64, 1}, shape_.data(), nullptr, 0};
  }
  DLTensor of;

 private:
  std::vector<int64_t> shape_;
};

}  // namespace

TEST(Attention, CotangentIsTheTransposeOfTheTangent) {
  const Attended at;
  const auto t = [](int64_t size, unsigned seed) { return example::normal(kProbes * size, seed); };
  const auto dq = t(kAttention.q_size(), 4), dk = t(kAttention.k_size(), 5), dv = t(kAttention.k_size(), 6);
  const auto u = t(kAttention.q_size(), 7);
  example::Array out, gq, gk, gv;
  kAttention.tangent(at.q, at.k, at.v, at.o, at.lse, kProbes, dq, dk, dv, out);
  kAttention.cotangent(at.q, at.k, at.v, at.o, at.lse, kProbes, u, gq, gk, gv);
  for (int64_t p = 0; p < kProbes; ++p) {
    EXPECT_NEAR(dot(u, out, p), dot(gq, dq, p) + dot(gk, dk, p) + dot(gv, dv, p), 1e-11);
  }
}

TEST(Attention, PlainCGivesTheSameBits) {
  Attended at;
  const auto [b, h, n, m, d] = kAttention;
  auto dq = example::normal(kProbes * kAttention.q_size(), 4);
  example::Array wanted, out(dq.size()), o(at.q.size()), lse(at.lse.size());
  const auto none = example::Array(static_cast<size_t>(kProbes * kAttention.k_size()), 0.0);
  kAttention.tangent(at.q, at.k, at.v, at.o, at.lse, kProbes, dq, none, none, wanted);

  Tensor q(at.q, {b, h, n, d}), k(at.k, {b, h, m, d}), v(at.v, {b, h, m, d}), to(o, {b, h, n, d}), tl(lse, {b, h, n});
  const latentjac_attention primal = {&q.of, &k.of, &v.of, nullptr, &to.of, &tl.of, 0.3, 0, 0};
  latentjac_run two = {2, nullptr, nullptr, 0};
  ASSERT_EQ(latentjac_attention_primal(&primal, &two), LATENTJAC_OK) << latentjac_error();
  EXPECT_EQ(o, at.o);
  EXPECT_EQ(lse, at.lse);
  Tensor tq(dq, {kProbes, b, h, n, d}), result(out, {kProbes, b, h, n, d});
  ASSERT_EQ(latentjac_attention_tangent(&primal, &tq.of, nullptr, nullptr, 0, &result.of, nullptr), LATENTJAC_OK)
      << latentjac_error();
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], wanted[i], 1e-13);
}

TEST(Gated, PlainCIsAdjoint) {
  constexpr int64_t rows = 6, channels = 5, count = kProbes * rows * channels;
  auto both = example::normal(2 * count, 1), a = example::normal(rows * channels, 2),
       b = example::normal(rows * channels, 3);
  auto u = example::normal(count, 4), out = u, value = u, gate = u;
  // Values and gates side by side in one array.
  Tensor tv(both, {kProbes, rows, channels}), tg(both, {kProbes, rows, channels});
  int64_t strides[] = {rows * 2 * channels, 2 * channels, 1};
  tv.of.strides = tg.of.strides = strides;
  tg.of.byte_offset = channels * sizeof(double);
  Tensor ta(a, {rows, channels}), tb(b, {rows, channels}), tu(u, {kProbes, rows, channels});
  Tensor to(out, {kProbes, rows, channels}), rv(value, {kProbes, rows, channels}), rg(gate, {kProbes, rows, channels});
  ASSERT_EQ(latentjac_gated_tangent(&tv.of, &tg.of, &ta.of, &tb.of, &to.of, nullptr), LATENTJAC_OK)
      << latentjac_error();
  ASSERT_EQ(latentjac_gated_cotangent(&tu.of, &ta.of, &tb.of, &rv.of, &rg.of, nullptr), LATENTJAC_OK);
  double forth = 0, back = 0;
  for (int64_t r = 0; r < kProbes * rows; ++r) {
    for (int64_t c = 0; c < channels; ++c) {
      const auto i = static_cast<size_t>(r * channels + c), j = static_cast<size_t>(2 * r * channels + c);
      forth += u[i] * out[i];
      back += value[i] * both[j] + gate[i] * both[j + channels];
    }
  }
  EXPECT_NEAR(forth, back, 1e-11);
}

TEST(Errors, AreNumbersWithAReason) {
  example::Array values = example::normal(24, 1), kept(24);
  Tensor x(values, {2, 3, 4}), y(kept, {2, 3, 4}), flat(kept, {24});
  EXPECT_EQ(latentjac_norm_primal(nullptr, nullptr, nullptr, 2, 1e-5, 0, 0, nullptr, &y.of, &y.of, nullptr),
            LATENTJAC_WRONG_ARGUMENT);
  EXPECT_EQ(std::string(latentjac_error()), "latentjac_norm_primal: x must be a tensor, got NULL");
  EXPECT_EQ(latentjac_norm_primal(&x.of, nullptr, nullptr, 2, 1e-5, 0, 0, nullptr, &flat.of, &y.of, nullptr),
            LATENTJAC_WRONG_ARGUMENT);
  EXPECT_EQ(std::string(latentjac_error()), "latentjac_norm_primal: xhat must have shape [2, 3, 4], got [24]");
  x.of.dtype.bits = 16;
  EXPECT_EQ(latentjac_norm_primal(&x.of, nullptr, nullptr, 2, 1e-5, 0, 0, nullptr, &y.of, &y.of, nullptr),
            LATENTJAC_WRONG_ARGUMENT);
  EXPECT_NE(latentjac_check_interface(LATENTJAC_INTERFACE_MAJOR + 1, 0), LATENTJAC_OK);
  EXPECT_NE(latentjac_check_interface(LATENTJAC_INTERFACE_MAJOR, LATENTJAC_INTERFACE_MINOR + 1), LATENTJAC_OK);
  EXPECT_EQ(latentjac_check_interface(LATENTJAC_INTERFACE_MAJOR, 0), LATENTJAC_OK);
}

TEST(Errors, NameWhatIsNoTensor) {
  example::Array values = example::normal(24, 1), kept(24), scale(24);
  int64_t negative[] = {2, -3, 4}, endless[] = {int64_t{1} << 40, int64_t{1} << 40, 4},
          apart[] = {int64_t{1} << 61, 4, 1};
  const auto refused = [&](const char* reason, const auto& spoil) {
    Tensor x(values, {2, 3, 4}), a(scale, {2, 3, 4}), y(kept, {2, 3, 4});
    spoil(x.of, y.of);
    EXPECT_EQ(latentjac_norm_primal(&x.of, nullptr, nullptr, 2, 1e-5, 0, 0, nullptr, &y.of, &a.of, nullptr),
              LATENTJAC_WRONG_ARGUMENT);
    EXPECT_EQ(std::string(latentjac_error()), std::string("latentjac_norm_primal: ") + reason);
  };
  refused("x must have 3 dimensions, got []", [](DLTensor& x, DLTensor&) { x.shape = nullptr; });
  refused("x must have 3 dimensions, got []", [](DLTensor& x, DLTensor&) { x.ndim = -1; });
  refused("xhat must have shape [2, 3, 4], got []", [](DLTensor&, DLTensor& y) { y.shape = nullptr; });
  refused("xhat must have shape [2, 3, 4], got []", [](DLTensor&, DLTensor& y) { y.ndim = 1 << 30; });
  refused("x must have sizes of 0 or more, got [2, -3, 4]", [&](DLTensor& x, DLTensor&) { x.shape = negative; });
  refused("x must have fewer than 2^63 bytes, got shape [1099511627776, 1099511627776, 4]",
          [&](DLTensor& x, DLTensor&) { x.shape = endless; });
  refused("x must have fewer than 2^63 bytes, got shape [2, 3, 4]", [&](DLTensor& x, DLTensor&) { x.strides = apart; });
  refused("x must begin at a multiple of its type's 8 bytes", [](DLTensor& x, DLTensor&) { x.byte_offset = 3; });
}

TEST(Errors, NameResultsThatShareAPlace) {
  Attended at;
  const auto [b, h, n, m, d] = kAttention;
  int64_t same[] = {0, 0, 0, 1};
  Tensor q(at.q, {b, h, n, d}), k(at.k, {b, h, m, d}), v(at.v, {b, h, m, d}), to(at.o, {b, h, n, d}),
      tl(at.lse, {b, h, n});
  const latentjac_attention primal = {&q.of, &k.of, &v.of, nullptr, &to.of, &tl.of, 0.3, 0, 0};
  latentjac_run many = {1 << 30, nullptr, nullptr, 0};  // as many as there are cores
  q.of.strides = same;                                  // may be read
  EXPECT_EQ(latentjac_attention_primal(&primal, &many), LATENTJAC_OK) << latentjac_error();
  to.of.strides = same;
  EXPECT_EQ(latentjac_attention_primal(&primal, nullptr), LATENTJAC_WRONG_ARGUMENT);
  EXPECT_EQ(std::string(latentjac_error()),
            "latentjac_attention_primal: o must have a place for each value, got strides [0, 0, 0, 1]");
}

TEST(Errors, AreExceptionsInCpp) {
  float values[4] = {};
  latentjac::NormPrimal call = {};
  call.x = values, call.y = values, call.xhat = values, call.a = values;
  call.samples = call.positions = call.groups = 1, call.channels = 4;
  latentjac::cpu::norm_act_primal(call, 1);
  EXPECT_THROW(latentjac::cpu::norm_act_primal(call, 0), std::runtime_error);
  call.dtype = latentjac::DType::kBFloat16;
  EXPECT_THROW(latentjac::cpu::norm_act_primal(call, 1), std::runtime_error);
}

TEST(Threads, GiveTheSameBits) {
  const Attended at;
  example::Array o, lse;
  kAttention.primal(at.q, at.k, at.v, o, lse, 2);
  EXPECT_EQ(o, at.o);
  std::vector<example::Array> results(4), sums(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] { kAttention.primal(at.q, at.k, at.v, results[i], sums[i]); });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, at.o);
}

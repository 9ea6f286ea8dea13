// Tangents of softmax attention in C++, beside difference quotients.
#include <cmath>
#include <cstdio>

#include "arrays.h"

int main() {
  const example::Attention attention{2, 3, 17, 11, 8};
  const auto q = example::normal(attention.q_size(), 1);
  const auto k = example::normal(attention.k_size(), 2), v = example::normal(attention.k_size(), 3);
  const auto dq = example::normal(attention.q_size(), 4);
  const auto dk = example::normal(attention.k_size(), 5), dv = example::normal(attention.k_size(), 6);

  example::Array o, lse, out;
  attention.primal(q, k, v, o, lse);
  attention.tangent(q, k, v, o, lse, 1, dq, dk, dv, out);

  const double step = 1e-6;
  const auto moved = [step](const example::Array& x, const example::Array& dx, double sign) {
    example::Array y = x;
    for (size_t i = 0; i < y.size(); ++i) y[i] += sign * step * dx[i];
    return y;
  };
  example::Array above, below, unused;
  attention.primal(moved(q, dq, 1), moved(k, dk, 1), moved(v, dv, 1), above, unused);
  attention.primal(moved(q, dq, -1), moved(k, dk, -1), moved(v, dv, -1), below, unused);
  double worst = 0, largest = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    worst = std::fmax(worst, std::fabs(out[i] - (above[i] - below[i]) / (2 * step)));
    largest = std::fmax(largest, std::fabs(out[i]));
  }
  std::printf("attention on %s: tangent against difference quotients %.1e of %.2f\n", latentjac::cpu::isa(), worst,
              largest);
  return worst < 1e-7 * largest ? 0 : 1;
}

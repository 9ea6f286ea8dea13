// Two sums at once over a run of values, or over the rows of a block column by column: what norms need.
//
// float32 is added over at most kRows values of one channel (or kRun vectors of a row) in float32, then in float64. The
// order does not depend on the number of threads, so neither does any bit of the result.
//
// What is summed is a `Terms`: kProbes, and add<V>(i, c, first, second), which adds the element at flat index i and
// column c of the block to kProbes pairs of sums; V is a vector or a single value.
#pragma once

#include "cpu/arithmetic.h"
#include "cpu/vector.h"
#include "cpu/workspace.h"

namespace latentjac {
namespace {

constexpr int64_t kRows = 32;  // rows added up in the type itself before float64
constexpr int64_t kRun = 32;   // vectors a lane adds up before float64

// ---- Sums over a contiguous run: layer norm, and any norm of one group. ----

template <typename T>
inline double lanes_sum(const typename Vector<T>::type& v) {
  double total = 0;
  for (int k = 0; k < Vector<T>::kWidth; ++k) total += static_cast<double>(v[k]);
  return total;
}

template <typename T, typename Terms>
inline void run_sums(const Terms& terms, int64_t length, double& first, double& second) {
  using V = typename Vector<T>::type;
  constexpr int64_t kWidth = Vector<T>::kWidth;
  int64_t i = 0;
  double total0 = 0, total1 = 0;
  while (i + kWidth <= length) {
    V s0 = {}, s1 = {}, s2 = {}, s3 = {}, d0 = {}, d1 = {}, d2 = {}, d3 = {};
    const int64_t stop = smaller(length, i + 4 * kWidth * kRun);
    for (; i + 4 * kWidth <= stop; i += 4 * kWidth) {
      terms.add(i, 0, &s0, &d0);
      terms.add(i + kWidth, 0, &s1, &d1);
      terms.add(i + 2 * kWidth, 0, &s2, &d2);
      terms.add(i + 3 * kWidth, 0, &s3, &d3);
    }
    for (; i + kWidth <= stop; i += kWidth) terms.add(i, 0, &s0, &d0);
    total0 += lanes_sum<T>((s0 + s1) + (s2 + s3));
    total1 += lanes_sum<T>((d0 + d1) + (d2 + d3));
  }
  for (; i < length; ++i) {
    T s = 0, d = 0;
    terms.add(i, 0, &s, &d);
    total0 += static_cast<double>(s);
    total1 += static_cast<double>(d);
  }
  first = total0;
  second = total1;
}

// ---- Sums over positions, column by column: group norm. ----

// What one thread keeps for a block of `width` columns and `probes` probes; each array is [probes, width].
template <typename T>
struct Sums {
  int64_t width;
  double *first, *second;
  T *part_first, *part_second, *mean, *dot;
  static int64_t bytes(int64_t columns, int64_t probes) {
    return columns * probes * static_cast<int64_t>(2 * sizeof(double) + 4 * sizeof(T));
  }
  Sums(int64_t columns, int64_t probes, cpu::Scratch scratch)
      : width(columns),
        first(scratch.take<double>(columns * probes)),
        second(scratch.take<double>(columns * probes)),
        part_first(scratch.take<T>(columns * probes)),
        part_second(scratch.take<T>(columns * probes)),
        mean(scratch.take<T>(columns * probes)),
        dot(scratch.take<T>(columns * probes)) {}
};

// Adds kCount consecutive rows, from flat index `at`, to the column sums in s.part_first and s.part_second.
// Several rows at once, because the sums are read and written once for all of them.
template <typename T, int kCount, typename Terms>
inline void add_rows(const Terms& terms, int64_t at, int64_t stride, int64_t width, const Sums<T>& s) {
  using V = typename Vector<T>::type;
  constexpr int64_t kWidth = Vector<T>::kWidth;
  constexpr int kProbes = Terms::kProbes;
  int64_t c = 0;
  for (; c + kWidth <= width; c += kWidth) {
    V first[kProbes], second[kProbes];
#pragma GCC unroll 4
    for (int k = 0; k < kProbes; ++k) {
      first[k] = Vector<T>::load(s.part_first + k * s.width + c);
      second[k] = Vector<T>::load(s.part_second + k * s.width + c);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r) terms.template add<V>(at + r * stride + c, c, first, second);
#pragma GCC unroll 4
    for (int k = 0; k < kProbes; ++k) {
      Vector<T>::store(s.part_first + k * s.width + c, first[k]);
      Vector<T>::store(s.part_second + k * s.width + c, second[k]);
    }
  }
  for (; c < width; ++c) {
    // In the order of the vectors: how many columns are left over depends on the number of threads.
    T first[kProbes], second[kProbes];
    for (int k = 0; k < kProbes; ++k) {
      first[k] = s.part_first[k * s.width + c];
      second[k] = s.part_second[k * s.width + c];
    }
    for (int r = 0; r < kCount; ++r) terms.template add<T>(at + r * stride + c, c, first, second);
    for (int k = 0; k < kProbes; ++k) {
      s.part_first[k * s.width + c] = first[k];
      s.part_second[k * s.width + c] = second[k];
    }
  }
}

// Sums of each of `width` columns over all rows, in s.first and s.second.
template <typename T, typename Terms>
inline void block_sums(const Terms& terms, int64_t stride, int64_t rows, int64_t width, const Sums<T>& s) {
  constexpr int kTogether = Terms::kProbes > 2 ? 2 : 4;
  const int64_t count = s.width * Terms::kProbes;
  for (int64_t c = 0; c < count; ++c) s.first[c] = s.second[c] = 0;
  for (int64_t begin = 0; begin < rows; begin += kRows) {
    const int64_t end = smaller(begin + kRows, rows);
    for (int64_t c = 0; c < count; ++c) s.part_first[c] = s.part_second[c] = T(0);
    int64_t r = begin;
    for (; r + kTogether <= end; r += kTogether) add_rows<T, kTogether>(terms, r * stride, stride, width, s);
    for (; r < end; ++r) add_rows<T, 1>(terms, r * stride, stride, width, s);
    for (int64_t c = 0; c < count; ++c) {
      s.first[c] += static_cast<double>(s.part_first[c]);
      s.second[c] += static_cast<double>(s.part_second[c]);
    }
  }
}

// Column sums -> means of their groups, spread back over the columns.
template <typename T>
inline void group_means(const Sums<T>& s, int64_t offset, int64_t width, int64_t group_width, double count, bool rms) {
  for (int64_t g = offset; g < offset + width; g += group_width) {
    double first = 0, second = 0;
    for (int64_t c = g; c < g + group_width; ++c) {
      first += s.first[c];
      second += s.second[c];
    }
    const T mean = rms ? T(0) : static_cast<T>(first / count), dot = static_cast<T>(second / count);
    for (int64_t c = g; c < g + group_width; ++c) {
      s.mean[c] = mean;
      s.dot[c] = dot;
    }
  }
}

}  // namespace
}  // namespace latentjac

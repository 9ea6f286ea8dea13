// How a call of a norm is cut into pieces for the threads and the caches.
#pragma once

#include "cpu/arithmetic.h"

namespace latentjac {
namespace {

constexpr int64_t kProbes = 4;            // probes that go through a sample together
constexpr int64_t kMinRunBytes = 1024;    // of a row of a block: shorter runs starve the prefetcher
constexpr int64_t kPieceBytes = 1 << 20;  // of t in a piece of short samples
// Of t between its two readings: a quarter of a common last-level cache.
constexpr int64_t kTileBytes = (8 << 20) / kLargeDivisor;

struct Pieces {
  int64_t positions, channels;   // as the kernel sees them: a norm of one group has one position
  int64_t group_width;           // channels of a group
  int64_t block_groups, blocks;  // groups of a block of channels, blocks of a sample
  int64_t tile_samples, tiles;   // samples of a piece, where samples are short
  int64_t probes, probe_blocks;  // probes that go together
  int64_t count() const { return tiles * blocks * probe_blocks; }
  int64_t width() const { return positions > 1 ? block_groups * group_width : 1; }
};

inline Pieces cut(int64_t samples, int64_t positions, int64_t channels, int64_t groups, int64_t probes, int64_t size,
                  int threads) {
  Pieces p;
  const bool one_run = groups == 1;  // all positions and channels of a sample are one contiguous group
  p.positions = one_run ? 1 : positions;
  p.channels = one_run ? positions * channels : channels;
  p.group_width = p.channels / groups;
  // A run is still in the first-level cache when it is read again, and one long stream is read fastest.
  p.probes = p.positions == 1 || probes == 1 ? 1 : (probes >= kProbes ? kProbes : 2);
  p.tile_samples = smaller(samples, larger(1, kPieceBytes / (p.positions * p.channels * size * p.probes)));
  p.block_groups = groups;
  // The tile of t that is read twice should stay in the last-level cache, and every thread should have work.
  const int64_t least_groups = smaller(groups, ceil_div(kMinRunBytes, p.group_width * size));
  for (;;) {
    p.blocks = ceil_div(groups, p.block_groups);
    p.tiles = ceil_div(samples, p.tile_samples);
    p.probe_blocks = ceil_div(probes, p.probes);
    const bool too_few = p.count() < 2 * threads;
    const bool too_large = p.positions > 1 && p.positions * p.width() * size * p.probes > kTileBytes;
    if (!too_few && !too_large) return p;
    if (too_few && p.tile_samples > 1) {
      p.tile_samples = ceil_div(p.tile_samples, 2);
    } else if (p.positions > 1 && p.block_groups >= 2 * least_groups) {
      p.block_groups = ceil_div(p.block_groups, 2);
    } else if (p.probes > 1) {
      p.probes /= 2;
    } else {
      return p;
    }
  }
}

}  // namespace
}  // namespace latentjac

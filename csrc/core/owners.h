// How host threads share vertices that many items (triangles, pixels) add to, to the bits of one thread: the items are
// cut into bands, a vertex belongs to the first band that touches it, and only its owner adds to it: first what its own
// band holds, then the items of later bands, in order. They are few where neighbours lie close in the list of items.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace facecore {

struct Owners {
  int64_t bands, num_vertices;
  std::vector<uint8_t> touched;  // [bands, V]
  std::vector<uint8_t> owner;    // [V], a band; kNobody where no item touches the vertex
  static constexpr int64_t kMaxBands = 64;
  static constexpr uint8_t kNobody = 255;

  Owners(int64_t bands, int64_t num_vertices)
      : bands(bands), num_vertices(num_vertices), touched(bands * num_vertices), owner(num_vertices, kNobody) {}

  uint8_t* touched_by(int64_t band) { return touched.data() + band * num_vertices; }

  // Part `part` of `parts` of the vertices finds its owners; after every band has marked what it touches.
  void settle(int64_t part, int64_t parts) {
    const int64_t begin = num_vertices * part / parts, end = num_vertices * (part + 1) / parts;
    uint8_t* first = owner.data();  // a store of a byte could change the vector itself, as the compiler sees it
    for (int64_t band = bands - 1; band >= 0; --band) {
      const uint8_t *mine = touched_by(band), index = static_cast<uint8_t>(band);
      for (int64_t v = begin; v < end; ++v) first[v] = mine[v] ? index : first[v];
    }
  }
};

}  // namespace facecore

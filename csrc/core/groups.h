// What a gradient without atomics gathers from: items grouped by what they touch, so that whoever owns a vertex or a
// pixel adds to it alone and in a fixed order. Used on the device under torch.use_deterministic_algorithms(True).
#pragma once
#include "core/host_device.h"

namespace facecore {

// The items (pixels, points) of group g are items[start[g] .. start[g+1]), ascending. Over all N images: group
// n * (groups of one image) + g, item n * (items of one image) + i.
struct Groups {
  const int64_t* start;
  const int64_t* items;
};

// The corners (3 * triangle + place) of vertex v are corners[start[v] .. start[v+1]), ascending.
struct VertexCorners {
  const int32_t* start;    // [V+1]
  const int32_t* corners;  // [3T]
};

// Calls body(item, place of the vertex in the triangle) for every item of every triangle around a vertex, where
// `groups` holds the items that show each triangle.
template <class Body>
FACECORE_HD void for_each_item_around(const VertexCorners& list, const Groups& groups, int64_t vertex,
                                      int64_t first_group, const Body& body) {
  for (int32_t i = list.start[vertex]; i < list.start[vertex + 1]; ++i) {
    const int32_t triangle = list.corners[i] / 3, place = list.corners[i] % 3;
    const int64_t group = first_group + triangle;
    for (int64_t j = groups.start[group]; j < groups.start[group + 1]; ++j) body(groups.items[j], place);
  }
}

}  // namespace facecore

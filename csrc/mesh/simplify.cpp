// Quadric edge collapse onto existing vertices, and its Python binding. Built with -ffp-contract=off: the order of
// nearly equal costs must not depend on the machine.
#include "mesh/simplify.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <queue>
#include <stdexcept>
#include <tuple>

#include "core/binding.h"

namespace facecore {
namespace {

// How many times a plane that holds the rim counts, against 1 for the plane of a triangle [choice].
constexpr double kRimWeight = 1.0;

struct Point {
  double x, y, z;
};
Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
double dot(Point a, Point b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
Point cross(Point a, Point b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }

// Symmetric 4x4 matrix: sum of weight * plane * plane^T; p^T Q p is the sum of squared distances to the planes.
struct Quadric {
  double xx = 0, xy = 0, xz = 0, xw = 0, yy = 0, yz = 0, yw = 0, zz = 0, zw = 0, ww = 0;

  // The plane through `point` with any normal; a zero normal (degenerate triangle) has no plane and adds nothing.
  void add_plane(Point normal, Point point, double weight) {
    const double length = std::sqrt(dot(normal, normal));
    if (!(length > 0)) return;
    const double a = normal.x / length, b = normal.y / length, c = normal.z / length;
    const double d = -(a * point.x + b * point.y + c * point.z);
    xx += weight * a * a, xy += weight * a * b, xz += weight * a * c, xw += weight * a * d;
    yy += weight * b * b, yz += weight * b * c, yw += weight * b * d;
    zz += weight * c * c, zw += weight * c * d, ww += weight * d * d;
  }
  void add(const Quadric& q) {
    xx += q.xx, xy += q.xy, xz += q.xz, xw += q.xw, yy += q.yy, yz += q.yz, yw += q.yw, zz += q.zz, zw += q.zw;
    ww += q.ww;
  }
  double at(Point p) const {
    return p.x * (xx * p.x + 2 * (xy * p.y + xz * p.z + xw)) + p.y * (yy * p.y + 2 * (yz * p.z + yw)) +
           p.z * (zz * p.z + 2 * zw) + ww;
  }
};

// `removed` merges into `kept`. Ordered by cost, then by the smaller and the larger index, then keeping the smaller.
struct Collapse {
  double cost;
  int32_t removed, kept;
  int64_t num_changes;  // of both ends when this was pushed; more by now: the cost is out of date
  auto key() const { return std::make_tuple(cost, std::min(removed, kept), std::max(removed, kept), kept); }
  bool operator>(const Collapse& other) const { return key() > other.key(); }
};

class Simplifier {
 public:
  Simplifier(const float* vertices, const int32_t* triangles, int64_t num_vertices, int64_t num_triangles)
      : points_(num_vertices),
        corners_(num_triangles),
        triangles_of_(num_vertices),
        quadrics_(num_vertices),
        on_rim_(num_vertices),
        merged_into_(num_vertices),
        num_changes_(num_vertices),
        seen_(num_vertices) {
    for (int64_t t = 0; t < num_triangles; ++t) {
      const int32_t* v = triangles + 3 * t;
      for (int k = 0; k < 3; ++k) {
        if (v[k] < 0 || v[k] >= num_vertices || v[k] == v[(k + 1) % 3])
          throw std::invalid_argument("triangles must have three different indices of vertices");
        corners_[t][k] = v[k];
        triangles_of_[v[k]].push_back(int32_t(t));
      }
    }
    for (int64_t v = 0; v < num_vertices; ++v) merged_into_[v] = int32_t(v);
    centre(vertices);
    for (const auto& incident : triangles_of_) num_remaining_ += !incident.empty();
    for (int32_t t = 0; t < num_triangles; ++t) add_planes(t);
  }

  // A collapse that is forbidden now may be allowed when its surroundings have changed, so every edge is tried again
  // until a whole round brings nothing.
  SimplifiedMesh run(int64_t target) {
    for (bool progress = true; progress && num_remaining_ > target;) {
      progress = false;
      for (int32_t v = 0; v < int32_t(points_.size()); ++v)
        for (int32_t w : neighbours(v)) push(v, w);
      while (!heap_.empty() && num_remaining_ > target) {
        const Collapse next = heap_.top();
        heap_.pop();
        if (!is_current(next) || !is_allowed(next.removed, next.kept)) continue;
        collapse(next.removed, next.kept);
        progress = true;
      }
    }
    return result();
  }

 private:
  using Corners = std::array<int32_t, 3>;

  // Positions relative to the mean, which keeps the quadrics' rounding small wherever the mesh lies.
  void centre(const float* vertices) {
    const double share = 1.0 / double(points_.size());
    Point sum{0, 0, 0};
    for (size_t v = 0; v < points_.size(); ++v) {
      points_[v] = {vertices[3 * v], vertices[3 * v + 1], vertices[3 * v + 2]};
      sum = {sum.x + points_[v].x, sum.y + points_[v].y, sum.z + points_[v].z};
    }
    const Point mean{sum.x * share, sum.y * share, sum.z * share};
    for (Point& point : points_) point = point - mean;
  }

  Point normal_of(const Corners& c) const {
    return cross(points_[c[1]] - points_[c[0]], points_[c[2]] - points_[c[0]]);
  }

  // The triangle's plane at its corners. A rim edge also gets the plane through it that stands on the triangle, so
  // that the rim keeps its outline.
  void add_planes(int32_t t) {
    const Corners& c = corners_[t];
    const Point normal = normal_of(c);
    for (int k = 0; k < 3; ++k) {
      quadrics_[c[k]].add_plane(normal, points_[c[0]], 1.0);
      const int32_t a = c[k], b = c[(k + 1) % 3];
      if (count_shared(a, b) == 2) continue;
      on_rim_[a] = on_rim_[b] = true;
      const Point upright = cross(points_[b] - points_[a], normal);
      quadrics_[a].add_plane(upright, points_[a], kRimWeight);
      quadrics_[b].add_plane(upright, points_[a], kRimWeight);
    }
  }

  static bool has(const Corners& c, int32_t v) { return c[0] == v || c[1] == v || c[2] == v; }

  int count_shared(int32_t a, int32_t b) const {
    int count = 0;
    for (int32_t t : triangles_of_[a]) count += has(corners_[t], b);
    return count;
  }

  std::vector<int32_t> neighbours(int32_t v) const {
    std::vector<int32_t> out;
    for (int32_t t : triangles_of_[v])
      for (int32_t w : corners_[t])
        if (w != v) out.push_back(w);
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }

  // The sum of both quadrics at the place that stays.
  double cost(int32_t removed, int32_t kept) const {
    Quadric sum = quadrics_[removed];
    sum.add(quadrics_[kept]);
    return std::max(0.0, sum.at(points_[kept]));
  }

  void push(int32_t removed, int32_t kept) {
    heap_.push({cost(removed, kept), removed, kept, num_changes_[removed] + num_changes_[kept]});
  }

  // Whether the edge still exists at this cost. What changed a vertex has pushed its edges again.
  bool is_current(const Collapse& c) const {
    return num_changes_[c.removed] + num_changes_[c.kept] == c.num_changes && count_shared(c.removed, c.kept) > 0;
  }

  bool is_allowed(int32_t removed, int32_t kept) {
    const int shared = count_shared(removed, kept);
    if (shared > 2) return false;                       // where three triangles meet nothing says which surface goes on
    if (on_rim_[removed] && shared == 2) return false;  // a rim vertex only moves along the rim
    return keeps_topology(removed, kept, shared) && keeps_orientation(removed, kept);
  }

  // The link condition: the common neighbours of both ends are exactly the corners opposite to the edge, and no two
  // triangles become one.
  bool keeps_topology(int32_t removed, int32_t kept, int shared) {
    ++stamp_;
    for (int32_t w : neighbours(kept)) seen_[w] = stamp_;
    std::vector<int32_t> common;
    for (int32_t w : neighbours(removed))
      if (seen_[w] == stamp_) common.push_back(w);
    if (int(common.size()) != shared) return false;
    if (shared == 1 && count_shared(removed, common[0]) != 2 && count_shared(kept, common[0]) != 2) return false;
    for (int32_t t : triangles_of_[removed]) {
      if (has(corners_[t], kept)) continue;
      int inside = 0;
      for (int32_t w : common) inside += has(corners_[t], w);
      if (inside == 2 && makes_duplicate(t, removed, kept)) return false;
    }
    return true;
  }

  bool makes_duplicate(int32_t t, int32_t removed, int32_t kept) const {
    for (int32_t other : triangles_of_[kept]) {
      int equal = 0;
      for (int32_t w : corners_[t]) equal += w != removed && has(corners_[other], w);
      if (equal == 2) return true;
    }
    return false;
  }

  // No remaining triangle turns by 90 degrees or more, or loses its area.
  bool keeps_orientation(int32_t removed, int32_t kept) const {
    for (int32_t t : triangles_of_[removed]) {
      Corners c = corners_[t];
      if (has(c, kept)) continue;
      const Point before = normal_of(c);
      std::replace(c.begin(), c.end(), removed, kept);
      if (dot(before, before) > 0 && !(dot(before, normal_of(c)) > 0)) return false;
    }
    return true;
  }

  void collapse(int32_t removed, int32_t kept) {
    for (int32_t t : triangles_of_[removed]) {
      if (!has(corners_[t], kept)) {
        std::replace(corners_[t].begin(), corners_[t].end(), removed, kept);
        triangles_of_[kept].push_back(t);
        continue;
      }
      for (int32_t w : corners_[t]) {
        if (w == removed) continue;
        auto& list = triangles_of_[w];
        list.erase(std::find(list.begin(), list.end(), t));
      }
      corners_[t] = {-1, -1, -1};
    }
    triangles_of_[removed].clear();
    merged_into_[removed] = kept;
    quadrics_[kept].add(quadrics_[removed]);
    ++num_changes_[kept];
    --num_remaining_;
    for (int32_t w : neighbours(kept)) {
      push(kept, w);
      push(w, kept);
    }
  }

  SimplifiedMesh result() const {
    SimplifiedMesh out;
    std::vector<int32_t> index(points_.size(), -1);
    for (size_t v = 0; v < points_.size(); ++v) {
      if (triangles_of_[v].empty()) continue;
      index[v] = int32_t(out.kept.size());
      out.kept.push_back(int32_t(v));
    }
    for (const Corners& c : corners_)
      if (c[0] >= 0)
        for (int32_t v : c) out.triangles.push_back(index[v]);
    for (int32_t v : merged_into_) {
      while (merged_into_[v] != v) v = merged_into_[v];
      out.merged_into.push_back(index[v]);
    }
    return out;
  }

  std::vector<Point> points_;
  std::vector<Corners> corners_;                    // of each triangle; -1 once it has vanished
  std::vector<std::vector<int32_t>> triangles_of_;  // triangles at each vertex; none once it has been removed
  std::vector<Quadric> quadrics_;
  std::vector<char> on_rim_;          // at an edge that has not exactly two triangles
  std::vector<int32_t> merged_into_;  // the vertex it collapsed onto; itself while it remains
  std::vector<int64_t> num_changes_;  // vertices merged into it
  std::vector<int64_t> seen_;         // the last stamp
  int64_t stamp_ = 0, num_remaining_ = 0;
  std::priority_queue<Collapse, std::vector<Collapse>, std::greater<Collapse>> heap_;
};

}  // namespace

SimplifiedMesh simplify(const float* vertices, const int32_t* triangles, int64_t num_vertices, int64_t num_triangles,
                        int64_t target) {
  return Simplifier(vertices, triangles, num_vertices, num_triangles).run(target);
}

void bind_simplify(pybind11::module_& m) {
  m.def(
      "simplify",
      [](int64_t num_vertices, int64_t num_triangles, int64_t target, Address vertices, Address triangles) {
        SimplifiedMesh mesh;
        {
          pybind11::gil_scoped_release release;
          mesh = simplify(vertices, triangles, num_vertices, num_triangles, target);
        }
        const auto array = [](const std::vector<int32_t>& v) {
          return pybind11::array_t<int32_t>(pybind11::ssize_t(v.size()), v.data());
        };
        return std::make_tuple(array(mesh.kept), array(mesh.triangles), array(mesh.merged_into));
      },
      "(kept [K], triangles [S * 3], merged_into [V]): quadric edge collapse of vertices float32 [V, 3], triangles "
      "int32 [T, 3]");
}

}  // namespace facecore

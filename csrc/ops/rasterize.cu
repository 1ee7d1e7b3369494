// CUDA build of rasterize: the bodies of rasterize.h, one thread per triangle; large boxes are shared by their warp.
#include "ops/rasterize.h"

#include "core/launch.cuh"

namespace facecore {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int64_t kLargeBox = 64;  // pixels above which a triangle is drawn by its whole warp

// The pieces of one thread's triangle, one after the other: itself, or what clipping leaves of it.
template <class T> struct PieceQueue {
  const RasterImage<T>& image;
  int64_t triangle;
  SnappedTriangle whole;
  ClippedTriangle clipped;
  bool is_clipped = false;
  int next = 0, count = 0;

  __device__ PieceQueue(const RasterImage<T>& image, int64_t triangle) : image(image), triangle(triangle) {
    if (triangle >= image.num_triangles) return;
    const uint32_t outside = image.load(triangle, whole);
    if (outside == kNowhere) return;
    is_clipped = outside != 0;
    count = 1;
    if (!is_clipped) return;
    const T* corners[3];
    image.corners_of(triangle, corners);
    clipped.clip(corners);
    count = clipped.num_pieces();
  }

  __device__ bool pop(SnappedTriangle& piece, PixelBox& box) {
    while (next < count) {
      const int index = next++;
      if (!is_clipped) piece = whole;
      else if (!clipped.piece(index, image.height, image.width, piece)) continue;
      box = piece.box(image.height, image.width);
      if (!box.empty()) return true;
    }
    return false;
  }
};

__device__ SnappedTriangle from_lane(const SnappedTriangle& mine, int lane) {
  SnappedTriangle result;
  for (int k = 0; k < 3; ++k) {
    result.x[k] = __shfl_sync(kFullWarp, mine.x[k], lane);
    result.y[k] = __shfl_sync(kFullWarp, mine.y[k], lane);
    result.z[k] = __shfl_sync(kFullWarp, mine.z[k], lane);
  }
  return result;
}

template <class T> __global__ void draw_kernel(const RasterBatch<T> batch, int64_t blocks_per_image) {
  const RasterImage<T> image = batch.image(blockIdx.x / blocks_per_image);
  const int64_t first = (blockIdx.x % blocks_per_image) * kThreads;
  const int lane = threadIdx.x % kWarp;
  PieceQueue<T> queue(image, first + threadIdx.x);
  for (;;) {  // every lane stays in the loop until the warp has no piece left: the votes need all of them
    SnappedTriangle piece{};
    PixelBox box{0, -1, 0, -1};
    const bool has_piece = queue.pop(piece, box);
    const bool is_large = has_piece && box.pixels() > kLargeBox;
    if (has_piece && !is_large)
      draw(piece, box, static_cast<int32_t>(queue.triangle), image.width, image.cull_backfaces, 0, 1, image.keys);
    for (unsigned waiting = __ballot_sync(kFullWarp, is_large); waiting; waiting &= waiting - 1) {
      const int owner = __ffs(waiting) - 1;
      const SnappedTriangle shared = from_lane(piece, owner);
      const int32_t id = __shfl_sync(kFullWarp, static_cast<int32_t>(queue.triangle), owner);
      draw(shared, shared.box(image.height, image.width), id, image.width, image.cull_backfaces, lane, kWarp,
           image.keys);
    }
    if (!__any_sync(kFullWarp, has_piece)) return;
  }
}

}  // namespace

template <class T> void draw_cuda(const RasterBatch<T>& batch, int64_t num_images, std::uintptr_t stream) {
  const int64_t blocks_per_image = (batch.first.num_triangles + kThreads - 1) / kThreads;
  if (blocks_per_image * num_images > INT32_MAX)
    throw std::runtime_error("rasterize: too many triangles for one launch; split the batch");
  draw_kernel<<<static_cast<unsigned>(blocks_per_image * num_images), kThreads, 0,
                reinterpret_cast<cudaStream_t>(stream)>>>(batch, blocks_per_image);
  check_cuda(cudaGetLastError(), "facecore rasterize launch");
}

template void draw_cuda(const RasterBatch<float>&, int64_t, std::uintptr_t);
template void draw_cuda(const RasterBatch<double>&, int64_t, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const ResolvePixels<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const ResolvePixels<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const RasterizeBackward<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const RasterizeBackward<double>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const RasterizeVertexGradient<float>&, std::uintptr_t);
template void launch_cuda(int64_t, int64_t, const RasterizeVertexGradient<double>&, std::uintptr_t);
}  // namespace facecore

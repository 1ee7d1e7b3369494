// The photometric and the gradient difference loss of two batches of pictures, in one pass each for the value and for
// the gradient (METHODS 1.1, 1.11, 2.2). The host's side; on CUDA facecore/losses/_reconstruction_triton.py.
#pragma once
#include "core/launch.h"
#include "simd/picture_rows.h"

namespace facecore {

// loss = mean over images of error_weight E / max(W, 1) + steps_weight (R / max(W_R, 1) + D / max(W_D, 1)) / C, with
// the sums of PictureSums over the rows of an image; pooled: the sum of all E over max(sum of all W, 1) for the first
// part.
template <class T> struct PictureLoss {
  int64_t num_images;
  PicturePair<T> pair;  // of image 0
  bool pooled;
  double error_weight, steps_weight;

  PicturePair<T> of_image(int64_t n) const {
    PicturePair<T> result = pair;
    const int64_t plane = pair.height * pair.width;
    result.rendered += n * pair.channels * plane;
    result.image += n * pair.channels * plane;
    for (PicturePlane<T>* factor : {&result.mask, &result.attention, &result.coverage}) {
      if (factor->numbers) factor->numbers += n * plane;
      if (factor->bools) factor->bools += n * plane;
    }
    return result;
  }
};

// Writes the loss [1] and per image the derivatives by the sums E, R, D, [N, 3]. Sums are made in a fixed order.
template <class T> void picture_loss(const PictureLoss<T>& loss, T* value, T* scales);

// Writes grad_out times the gradients of both pictures [N, C, H, W]; a null one is left out.
template <class T>
void picture_loss_backward(const PictureLoss<T>& loss, const T* scales, const T* grad_out, T* grad_rendered,
                           T* grad_image);

}  // namespace facecore

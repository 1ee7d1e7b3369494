// The nine polynomials of spherical harmonic shading (METHODS 1.5), the light that they sum to, and the gradients of
// both, for numbers and for SIMD vectors.
#pragma once
#include "core/host_device.h"

namespace facecore {

// a_l c_l of METHODS 1.5 with a = [pi, 2 pi / sqrt 3, 2 pi / sqrt 8], c = [1 / sqrt(4 pi), sqrt 3 / sqrt(4 pi),
// 3 sqrt 5 / sqrt(12 pi)], the constants of Deep3DFaceRecon's basis; H_6 and H_8 carry a further factor.
constexpr double kShBand0 = 0.8862269254527579;  // sqrt(pi) / 2
constexpr double kShBand1 = 1.7724538509055159;  // sqrt(pi)
constexpr double kShBand2 = 2.427032390694624;   // sqrt(15 pi / 8)
constexpr double kShH6 = 0.700623902049741;      // kShBand2 / (2 sqrt 3)
constexpr double kShH8 = 1.213516195347312;      // kShBand2 / 2
constexpr int kShTerms = 9;

// S is the type of one number; V is S, or a vector of S.
template <class S, class V> FACECORE_HD void sh_basis(const V& x, const V& y, const V& z, V* basis) {
  basis[0] = V{} + S(kShBand0);
  basis[1] = S(-kShBand1) * y;
  basis[2] = S(kShBand1) * z;
  basis[3] = S(-kShBand1) * x;
  basis[4] = S(kShBand2) * (x * y);
  basis[5] = S(-kShBand2) * (y * z);
  basis[6] = S(kShH6) * (S(3) * (z * z) - S(1));
  basis[7] = S(-kShBand2) * (x * z);
  basis[8] = S(kShH8) * (x * x - y * y);
}

// grad = sum_b weight_b dH_b/d(x, y, z)
template <class S, class V>
FACECORE_HD void sh_basis_backward(const V& x, const V& y, const V& z, const V* weight, V* grad) {
  const S band1 = S(kShBand1), band2 = S(kShBand2), h8 = S(2 * kShH8);
  grad[0] = band2 * (y * weight[4] - z * weight[7]) - band1 * weight[3] + h8 * (x * weight[8]);
  grad[1] = band2 * (x * weight[4] - z * weight[5]) - band1 * weight[1] - h8 * (y * weight[8]);
  grad[2] = band1 * weight[2] - band2 * (y * weight[5] + x * weight[7]) + S(6 * kShH6) * (z * weight[6]);
}

// light_c = sum_b H_b(normal) coefficients[b, c], c = R, G, B; keeps the nine H_b(normal).
template <class S, class V>
FACECORE_HD void sh_light(const V* normal, const S* coefficients, V* basis, V* light) {
  sh_basis<S>(normal[0], normal[1], normal[2], basis);
  for (int c = 0; c < 3; ++c) light[c] = coefficients[c] * basis[0];
  for (int b = 1; b < kShTerms; ++b)
    for (int c = 0; c < 3; ++c) light[c] += coefficients[3 * b + c] * basis[b];
}

// The normal's gradient from that of sh_light's light; adds that of the coefficients to grad_coefficients [9, 3].
template <class S, class V>
FACECORE_HD void sh_light_backward(const V* normal, const S* coefficients, const V* basis, const V* grad_light,
                                   V* grad_normal, V* grad_coefficients) {
  V weight[kShTerms];
  for (int b = 0; b < kShTerms; ++b) {
    const S* of_term = coefficients + 3 * b;
    weight[b] = of_term[0] * grad_light[0] + of_term[1] * grad_light[1] + of_term[2] * grad_light[2];
    for (int c = 0; c < 3; ++c) grad_coefficients[3 * b + c] += basis[b] * grad_light[c];
  }
  sh_basis_backward<S>(normal[0], normal[1], normal[2], weight, grad_normal);
}

}  // namespace facecore

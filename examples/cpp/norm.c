/* A group norm with SiLU and its cotangent in plain C, on tensors of DLPack: <u, J t> = <J^T u, t>. */
#include <latentjac/kernels_c.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 2, POSITIONS = 9, CHANNELS = 12, GROUPS = 3, COUNT = SAMPLES * POSITIONS * CHANNELS };

static int64_t shape[] = {1, SAMPLES, POSITIONS, CHANNELS}; /* one probe in front */

static DLTensor tensor(double* values, int dimensions) {
  DLTensor t = {values, {kDLCPU, 0}, dimensions, {kDLFloat, 64, 1}, shape + 4 - dimensions, NULL, 0};
  return t;
}

static void fill(double* values, unsigned seed) {
  srand(seed);
  for (int i = 0; i < COUNT; ++i) values[i] = (double)rand() / RAND_MAX - 0.5;
}

static double dot(const double* a, const double* b) {
  double sum = 0;
  for (int i = 0; i < COUNT; ++i) sum += a[i] * b[i];
  return sum;
}

static void must(int status) {
  if (status == LATENTJAC_OK) return;
  fprintf(stderr, "latentjac: %d: %s\n", status, latentjac_error());
  exit(1);
}

int main(void) {
  static double x[COUNT], y[COUNT], xhat[COUNT], a[COUNT], t[COUNT], u[COUNT], jt[COUNT], ju[COUNT];
  fill(x, 1), fill(t, 2), fill(u, 3);
  must(latentjac_check_interface(LATENTJAC_C_MAJOR, LATENTJAC_C_MINOR));

  DLTensor dx = tensor(x, 3), dy = tensor(y, 3), dxhat = tensor(xhat, 3), da = tensor(a, 3);
  must(latentjac_norm_primal(&dx, NULL, NULL, GROUPS, 1e-5, LATENTJAC_SILU, 0, &dy, &dxhat, &da, NULL));
  DLTensor dt = tensor(t, 4), du = tensor(u, 4), djt = tensor(jt, 4), dju = tensor(ju, 4);
  must(latentjac_norm_linear(&dt, &da, &dxhat, GROUPS, 0, 0, 0, &djt, NULL));
  must(latentjac_norm_linear(&du, &da, &dxhat, GROUPS, 0, 1, 0, &dju, NULL));

  const double left = dot(u, jt), right = dot(ju, t);
  printf("norm: <u, J t> = %.15f, <J^T u, t> = %.15f\n", left, right);
  if (latentjac_norm_linear(&dt, &da, &dxhat, 5, 0, 0, 0, &djt, NULL) != LATENTJAC_WRONG_ARGUMENT) return 1;
  printf("refused: %s\n", latentjac_error());
  return fabs(left - right) < 1e-12 ? 0 : 1;
}

/* What each instruction set's file puts into a level that has the ones below it already. Only for
 * machines that have the instructions: levels.c asks first. */
#ifndef VIDLOOM_KERNELS_CPU_LEVELS_H
#define VIDLOOM_KERNELS_CPU_LEVELS_H

#include "kernels/cpu/cpu.h"

void cpu_level_avx2(struct cpu_level *level);
void cpu_level_avx512(struct cpu_level *level);
void cpu_level_avx512_bf16(struct cpu_level *level);
void cpu_level_avx512_vnni(struct cpu_level *level); /* int8 products, beside bf16's */

#endif

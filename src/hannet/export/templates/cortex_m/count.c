/* Prints how many ticks the test vectors take. */
#include <stdio.h>
#include "@NAME@.h"
#include "@NAME@_vectors.h"
#define TICKS (*(volatile uint32_t *)0xE000E018)

int main(void)
{
    uint32_t ticks = 0;
    float out[@UPPER@_OUTPUTS];
    for (int vector = 0; vector < @UPPER@_VECTORS; vector++) {
        read_row(vector);
        const uint32_t start = TICKS;
        @NAME@_predict(row, out, &w);
        ticks += (start - TICKS) & 0xFFFFFF;
    }
    printf("%lu\n", (unsigned long)ticks);
    return 0;
}

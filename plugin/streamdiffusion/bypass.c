/* bypass.c - see bypass.h. */
#include "bypass.h"

double bypass_step(bypass *b, int enabled, int frames)
{
    const double end = enabled ? 1 : 0, rounding = 1e-9;
    double step = frames > 0 && b->begun ? 1.0 / frames : 1, left = end - b->shown;
    b->begun = 1;
    b->shown += left > step ? step : left < -step ? -step : left;
    if (b->shown < rounding || b->shown > 1 - rounding)
        b->shown = b->shown > 0.5;
    return b->shown;
}

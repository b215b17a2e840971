/* suggest.c - "did you mean": the nearest of a few names, by edit distance.
 *
 * Distance is optimal string alignment (insert, delete, replace, swap of neighbours, each 1).
 * Case and '-' against '_' do not count. A name is near within one edit per three characters,
 * and always within one.
 */
#include <ctype.h>
#include <string.h>

#include "schema.h"

enum { LENGTH_MAX = 63 };

static int fold(char c)
{
    return c == '-' ? '_' : tolower((unsigned char)c);
}

static int min2(int a, int b)
{
    return a < b ? a : b;
}

/* Three rows of the table suffice: a swap looks two rows back. */
static int distance(const char *a, int na, const char *b, int nb)
{
    int rows[3][LENGTH_MAX + 1];
    for (int j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= nb; j++) {
            int ca = fold(a[i - 1]), cb = fold(b[j - 1]);
            now[j] = min2(last[j] + 1, now[j - 1] + 1);
            now[j] = min2(now[j], last[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == fold(b[j - 2]) && fold(a[i - 2]) == cb)
                now[j] = min2(now[j], before[j - 2] + 1);
        }
    }
    return rows[na % 3][nb];
}

const char *schema_nearest(const char *name, const char *const *names, int count)
{
    size_t n = strlen(name);
    if (n == 0 || n > LENGTH_MAX)
        return NULL;
    int best = n < 3 ? 1 : (int)n / 3;
    const char *found = NULL;
    for (int i = 0; i < count; i++) {
        size_t m = strlen(names[i]);
        if (m > LENGTH_MAX)
            continue;
        int d = distance(name, (int)n, names[i], (int)m);
        if (d < best || (d == best && !found)) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

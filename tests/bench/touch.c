/* touch.c - touch MIB mebibytes of fresh memory, say how long it took, and end.
 *
 * A virtual machine's host backs memory when it is first touched, at a fraction of a gigabyte a
 * second, and may take it back when it lies idle. bench.sh runs this before every engine, so that
 * load times are those of the engine and not of the host.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
    long mib = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (mib <= 0) {
        fprintf(stderr, "usage: touch MIB\n");
        return 2;
    }
    size_t page = 2 << 20, bytes = (size_t)mib << 20;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("touch");
        return 1;
    }
    madvise(p, bytes, MADV_HUGEPAGE);
    double began = omp_get_wtime();
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < bytes; i += page)
        for (size_t j = i; j < i + page && j < bytes; j += 4096)
            p[j] = 1;
    printf("touched %ld MiB in %.2f s\n", mib, omp_get_wtime() - began);
    return 0;
}

/* replay.c - runs a fuzz target over files instead of a fuzzer, so that every test run does.
 *
 * usage: replay_x FILE-OR-FOLDER...   Folders are walked. Fails when nothing was run. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Run one file. Its copy is exactly as long as the file, so that a sanitizer sees any overrun. */
static int run_file(const char *path, size_t size)
{
    uint8_t *data = malloc(size ? size : 1);
    FILE *f = fopen(path, "rb");
    size_t n = f && data ? fread(data, 1, size, f) : 0;
    if (f)
        fclose(f);
    if (!f || !data || n != size) {
        fprintf(stderr, "replay: cannot read %s\n", path);
        free(data);
        return -1;
    }
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

/* The number of files run at and below `path`, or -1. */
static int run(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        fprintf(stderr, "replay: there is no %s\n", path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return run_file(path, (size_t)st.st_size);
    struct dirent **names;
    int total = 0, n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char below[4096];
        int ran = 0;
        snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            ran = run(below);
        total = ran < 0 || total < 0 ? -1 : total + ran;
        free(names[i]);
    }
    if (n < 0)
        return -1;
    free(names);
    return total;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int n = run(argv[i]);
        if (n < 0)
            return 1;
        total += n;
    }
    printf("%s: %d inputs replayed\n", argv[0], total);
    if (total == 0) {
        fprintf(stderr, "replay: nothing to run; name files or folders\n");
        return 1;
    }
    return 0;
}

/* Makes calls on files below a folder fail, for every library of the process:
   cc -shared -fPIC -o shim.so shim.c -ldl; LD_PRELOAD=shim.so python ... */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char prefix[1024];
static long count, at;
static int with, sticky, tripped;
static char first[64];

void torture_arm(const char *folder, long number, int error, int forever) {
    strncpy(prefix, folder, sizeof prefix - 1);
    count = 0, at = number, with = error, sticky = forever, tripped = 0;
}
long torture_count(void) { return count; }
const char *torture_first(void) { return first; }

static int below(const char *path) {
    return prefix[0] && path && strncmp(path, prefix, strlen(prefix)) == 0;
}
static int below_fd(int fd) {
    char link[64], path[1024];
    if (!prefix[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}
/* Counts a call and decides whether it fails.
   ours: whether its file is below the folder. space: whether it needs space on the disk, because a
   full disk refuses only such calls. */
static int fails(int ours, const char *name, int space) {
    if (!ours) return 0;
    long now = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (at <= 0) return 0;
    if (now == at || (now > at && sticky && space)) {
        if (!tripped) { tripped = 1; strncpy(first, name, sizeof first - 1); }
        errno = with;
        return 1;
    }
    return 0;
}
#define NEXT(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *b, size_t n) {
    NEXT(write); return fails(below_fd(fd), "write", 1) ? -1 : real(fd, b, n);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) {
    NEXT(pwrite64); return fails(below_fd(fd), "write", 1) ? -1 : real(fd, b, n, o);
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    NEXT(writev); return fails(below_fd(fd), "write", 1) ? -1 : real(fd, v, n);
}
size_t fwrite(const void *b, size_t s, size_t n, FILE *f) {
    NEXT(fwrite); return fails(below_fd(fileno(f)), "fwrite", 1) ? 0 : real(b, s, n, f);
}
int fsync(int fd) { NEXT(fsync); return fails(below_fd(fd), "fsync", 0) ? -1 : real(fd); }
int rename(const char *a, const char *b) {
    NEXT(rename); return fails(below(b), "rename", 0) ? -1 : real(a, b);
}
int link(const char *a, const char *b) {
    NEXT(link); return fails(below(b), "link", 1) ? -1 : real(a, b);
}
int linkat(int d, const char *a, int e, const char *b, int f) {
    NEXT(linkat); return fails(below(b), "link", 1) ? -1 : real(d, a, e, b, f);
}
int symlink(const char *a, const char *b) {
    NEXT(symlink); return fails(below(b), "symlink", 1) ? -1 : real(a, b);
}
int mkdir(const char *p, mode_t m) {
    NEXT(mkdir); return fails(below(p), "mkdir", 1) ? -1 : real(p, m);
}
static mode_t mode_of(int flags, va_list list) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
}
int open64(const char *p, int flags, ...) {
    va_list list; va_start(list, flags); mode_t m = mode_of(flags, list); va_end(list);
    NEXT(open64);
    return flags & O_CREAT && fails(below(p), "create", 1) ? -1 : real(p, flags, m);
}
int open(const char *p, int flags, ...) {
    va_list list; va_start(list, flags); mode_t m = mode_of(flags, list); va_end(list);
    NEXT(open);
    return flags & O_CREAT && fails(below(p), "create", 1) ? -1 : real(p, flags, m);
}
FILE *fopen(const char *p, const char *how) {
    NEXT(fopen); return strpbrk(how, "wa") && fails(below(p), "create", 1) ? NULL : real(p, how);
}
FILE *fopen64(const char *p, const char *how) {
    NEXT(fopen64); return strpbrk(how, "wa") && fails(below(p), "create", 1) ? NULL : real(p, how);
}

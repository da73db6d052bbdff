/* Answers writes below FAULT_DIR with an error from the FAULT_AT-th on, in each process that is asked to by its environment.
   Each is told in FAULT_COUNT, a file outside, by a line: process, number, what is done, path.
   cc -shared -fPIC -O1 -o shim.so shim.c -ldl;  LD_PRELOAD=shim.so FAULT_DIR=/x FAULT_AT=3 FAULT_ERRNO=28 FAULT_COUNT=file ... */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static long seen;
static pid_t mine;

static int below(const char *path) {
  const char *folder = getenv("FAULT_DIR");
  return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static char opened[4096];

static int below_open(int fd) {
  char link[64];
  if (!getenv("FAULT_DIR")) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, opened, sizeof opened - 1);
  if (length < 0) return 0;
  opened[length] = 0;
  return below(opened);
}

/* Counts a write; whether it must fail. */
static int fails(const char *what, const char *path) {
  const char *at = getenv("FAULT_AT"), *number = getenv("FAULT_ERRNO"), *file = getenv("FAULT_COUNT");
  if (mine != getpid()) { mine = getpid(); seen = 0; }
  seen++;
  if (file) {
    char text[4200];
    int kept = errno, length = snprintf(text, sizeof text, "%d %ld %s %s\n", (int)mine, seen, what, path);
    static int (*real_open)(const char *, int, ...);
    static ssize_t (*real_write)(int, const void *, size_t);
    if (!real_open) real_open = dlsym(RTLD_NEXT, "open");
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    int out = real_open(file, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (out >= 0) { if (real_write(out, text, length) < 0) {} close(out); }
    errno = kept;
  }
  if (!at || !number || seen < atol(at)) return 0;
  errno = atoi(number);
  return 1;
}

static int makes(int flags) { return (flags & O_CREAT) || (flags & O_ACCMODE) != O_RDONLY; }

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, #name, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; va_end(rest); \
    if (makes(flags) && below(path) && fails("open", path)) return -1; \
    return real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int at, const char *path, int flags, ...) { \
    REAL(int, #name, int, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; va_end(rest); \
    if (makes(flags) && below(path) && fails("open", path)) return -1; \
    return real(at, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
  REAL(ssize_t, "write", int, const void *, size_t);
  if (below_open(fd) && fails("write", opened)) return -1;
  return real(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  if (below_open(fd) && fails("writev", opened)) return -1;
  return real(fd, parts, count);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  if (below_open(fd) && fails("pwrite64", opened)) return -1;
  return real(fd, data, size, at);
}
int fsync(int fd) {
  REAL(int, "fsync", int);
  if (below_open(fd) && fails("fsync", opened)) return -1;
  return real(fd);
}
int ftruncate64(int fd, off64_t size) {
  REAL(int, "ftruncate64", int, off64_t);
  if (below_open(fd) && fails("ftruncate64", opened)) return -1;
  return real(fd, size);
}
int posix_fallocate64(int fd, off64_t start, off64_t size) {
  REAL(int, "posix_fallocate64", int, off64_t, off64_t);
  if (below_open(fd) && fails("posix_fallocate64", opened)) return errno;
  return real(fd, start, size);
}
int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  if (below(to) && fails("rename", to)) return -1;
  return real(from, to);
}
int mkdir(const char *path, mode_t mode) {
  REAL(int, "mkdir", const char *, mode_t);
  if (below(path) && fails("mkdir", path)) return -1;
  return real(path, mode);
}

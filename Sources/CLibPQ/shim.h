#ifndef ZEGEL_CLIBPQ_SHIM_H
#define ZEGEL_CLIBPQ_SHIM_H
#include <libpq-fe.h>
#include <sys/eventfd.h>
#endif

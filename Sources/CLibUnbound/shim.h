#ifndef ZEGEL_CLIBUNBOUND_SHIM_H
#define ZEGEL_CLIBUNBOUND_SHIM_H
/* libunbound's resolver, and the two calls by which its owner thread is woken. */
#include <sys/eventfd.h>
#include <unbound.h>
#endif

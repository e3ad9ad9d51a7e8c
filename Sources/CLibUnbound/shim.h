#ifndef ZEGEL_CLIBUNBOUND_SHIM_H
#define ZEGEL_CLIBUNBOUND_SHIM_H
#include <unbound.h>
#endif

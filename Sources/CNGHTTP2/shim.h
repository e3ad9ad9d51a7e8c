#ifndef ZEGEL_CNGHTTP2_SHIM_H
#define ZEGEL_CNGHTTP2_SHIM_H
/* HTTP/2 framing and header compression: the session alone, without any I/O of its own. */
#include <nghttp2/nghttp2.h>
#endif

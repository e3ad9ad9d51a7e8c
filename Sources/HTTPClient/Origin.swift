// Whom connections are kept for.

import DNS

/// Host and port: what a connection's certificate was checked for.
struct Origin: Sendable, Hashable {
    let host: HTTPSURL.Host
    let port: Int

    init(_ url: HTTPSURL) {
        host = url.host
        port = url.port
    }
}

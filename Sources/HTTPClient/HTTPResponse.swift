// What came back, and from whom.

import DNS
import TLS

/// An answer, whole. A redirect (3xx) is an answer like any other: nothing is ever followed.
public struct HTTPResponse: Sendable, Equatable {
    /// The protocol that carried it.
    public enum Version: String, Sendable {
        /// HTTP/1.1 or 1.0 (RFC 9112).
        case http1 = "HTTP/1.1"
        /// HTTP/2 (RFC 9113).
        case http2 = "HTTP/2"
    }

    /// The status code: 200 … 999.
    public var status: Int
    /// The fields of the header; trailers are not kept.
    public var fields: HTTPFields
    /// The body as it came, never unpacked.
    public var body: [UInt8]
    /// The protocol that carried it.
    public var version: Version
    /// The address that it came from.
    public var address: IPAddress
    /// What the TLS session showed of the server.
    public var evidence: PeerEvidence
}

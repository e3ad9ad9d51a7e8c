// The protocol versions a server may still speak, by their number on the wire; also those that no library offers any
// more. `TLS.TLSVersion` is what a connection of ours can have; this is what a server of someone else may have.

/// A version of SSL or TLS. SSL 2 had other messages altogether and is not among them.
enum ProtocolVersion: UInt16, Sendable, Hashable, Codable, Comparable, CaseIterable, CustomStringConvertible {
    /// SSL 3.0 (RFC 6101)
    case ssl3 = 0x0300
    /// TLS 1.0 (RFC 2246)
    case tls10 = 0x0301
    /// TLS 1.1 (RFC 4346)
    case tls11 = 0x0302
    /// TLS 1.2 (RFC 5246)
    case tls12 = 0x0303
    /// TLS 1.3 (RFC 8446)
    case tls13 = 0x0304

    /// By age.
    static func < (left: ProtocolVersion, right: ProtocolVersion) -> Bool { left.rawValue < right.rawValue }

    /// As logs and reports write it.
    var description: String {
        switch self {
        case .ssl3: "SSLv3"
        case .tls10: "TLSv1"
        case .tls11: "TLSv1.1"
        case .tls12: "TLSv1.2"
        case .tls13: "TLSv1.3"
        }
    }
}

// The protocol versions this target can negotiate, oldest first.

import CLibSSL

/// A TLS protocol version (RFC 2246, 4346, 5246, 8446). Later versions compare greater.
public enum TLSVersion: Int, Sendable, Comparable, Codable, CaseIterable, CustomStringConvertible {
    /// TLS 1.0
    case tls10
    /// TLS 1.1
    case tls11
    /// TLS 1.2
    case tls12
    /// TLS 1.3
    case tls13

    /// Whether `left` is the older protocol.
    public static func < (left: TLSVersion, right: TLSVersion) -> Bool { left.rawValue < right.rawValue }

    /// The name that logs and Received headers use, such as `TLSv1.3`.
    public var description: String {
        switch self {
        case .tls10: "TLSv1"
        case .tls11: "TLSv1.1"
        case .tls12: "TLSv1.2"
        case .tls13: "TLSv1.3"
        }
    }

    /// The version of that name.
    public init?(_ name: String) {
        guard let version = TLSVersion.allCases.first(where: { $0.description == name }) else { return nil }
        self = version
    }

    /// The number on the wire.
    var wireNumber: Int32 {
        switch self {
        case .tls10: TLS1_VERSION
        case .tls11: TLS1_1_VERSION
        case .tls12: TLS1_2_VERSION
        case .tls13: TLS1_3_VERSION
        }
    }

    /// The version with this number on the wire; nil: none of ours.
    init?(wireNumber: Int32) {
        guard let version = TLSVersion.allCases.first(where: { $0.wireNumber == wireNumber }) else {
            return nil
        }
        self = version
    }
}

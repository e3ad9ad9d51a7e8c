// What connections to hosts under examination are opened with: one context for deliveries and reports, so that both see the same.

import Foundation
import TLS

extension TLSContext.TrustRoots {
    /// The roots of a PEM file; nil: those of the system.
    ///
    /// - Throws: Foundation's error for a file that cannot be read.
    public init(file path: String?) throws {
        guard let path else {
            self = .system
            return
        }
        self = .pem(Array(try Data(contentsOf: URL(fileURLWithPath: path))))
    }
}

extension TLSContext {
    /// A client that offers old versions too: the verdict on the evidence says whether one is good enough, and names it. A handshake
    /// that fails says less. It asks for an OCSP response, which tells of a revoked certificate.
    ///
    /// - Parameter path: a PEM file of trusted roots; nil: those of the system.
    /// - Throws: `TLSError`, or Foundation's error for a file that cannot be read.
    public static func examining(trustRoots path: String?) throws -> TLSContext {
        try .examining(trust: TrustRoots(file: path))
    }

    /// The same with these roots.
    public static func examining(trust roots: TrustRoots) throws -> TLSContext {
        try .client(trust: roots, minimumVersion: .tls10, asksForStaple: true)
    }
}
